"""A base model with random weights: Stable Diffusion 1.5 at its full size, 4 GB, from the
configuration alone.

python -m tests.benchmarks.base FOLDER [--random | --mini]; mini: a UNet of a fifth of its
channels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from trainer import random_base
from trainer.families.sd import CONFIGS

MINI: Final = (64, 128, 256, 256)


def save(folder: Path, channels: tuple[int, ...] = ()) -> None:
    """Write the model as a diffusers folder; the same weights every time. channels: of the UNet's
    levels.
    """
    torch.manual_seed(0)
    other = {"block_out_channels": channels} if channels else {}
    for name, kind, more in (("unet", UNet2DConditionModel, other), ("vae", AutoencoderKL, {})):
        kind.from_config({**kind.load_config(CONFIGS / name), **more}).save_pretrained(
            folder / name
        )
    CLIPTextModel(CLIPTextConfig.from_pretrained(CONFIGS / "text_encoder")).save_pretrained(
        folder / "text_encoder"
    )
    # Last: it stands for a complete model.
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


if __name__ == "__main__":
    if "--random" in sys.argv[2:]:
        random_base.save(Path(sys.argv[1]))
    else:
        save(Path(sys.argv[1]), MINI if "--mini" in sys.argv[2:] else ())
