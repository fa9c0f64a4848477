"""A base model with random weights: Stable Diffusion 1.5 at its full size, 4 GB, from the configuration alone.

python -m tests.benchmarks.base FOLDER [--standin]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from trainer import standin
from trainer.families.sd import CONFIGS


def save(folder: Path) -> None:
    """Write the model as a diffusers folder; the same weights every time."""
    torch.manual_seed(0)
    for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        kind.from_config(kind.load_config(CONFIGS / name)).save_pretrained(folder / name)
    CLIPTextModel(CLIPTextConfig.from_pretrained(CONFIGS / "text_encoder")).save_pretrained(folder / "text_encoder")
    # Last: it stands for a complete model.
    index = {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


if __name__ == "__main__":
    (standin.save if "--standin" in sys.argv[2:] else save)(Path(sys.argv[1]))
