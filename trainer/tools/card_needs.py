"""Write trainer/plan/card_needs.json: what a training of each family needs, by the formula of the
plan. `python -m trainer.tools.card_needs`, after the formula has changed.

The models are made from the configurations that ship with the package, without weights. Families
whose configurations do not ship are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from datasetkit.core.files import write_atomic
from datasetkit.options.train import TrainOptions
from trainer.families import sd, sd2, sdxl
from trainer.plan import memory, model_shapes
from trainer.plan.card_needs import CHANGES, FILE
from trainer.plan.model_shapes import ModelShapes

# The side that each was made for.
_SIDES: Final = {"sd1": 512, "sd2": 768, "sdxl": 1024}


def needs() -> dict[str, Any]:
    """Return each family's title and side -> the bytes of a run with each of the options."""
    return {
        f"{module.TITLE} at {side}": [
            round(memory.estimate(replace(options, **change), (side, side), shapes).bytes)
            for change in CHANGES
        ]
        for module, side, shapes in _models()
        for options in [TrainOptions(resolution=side, mixed_precision="bf16", network_dim=16)]
    }


def _models() -> Iterator[tuple[Any, int, ModelShapes]]:
    for module in (sd, sd2, sdxl):
        parts: dict[str, Mapping[str, tuple[int, ...]]] = {}
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(
                UNet2DConditionModel.load_config(module.CONFIGS, subfolder="unet")
            )
            vae = AutoencoderKL.from_config(
                AutoencoderKL.load_config(module.CONFIGS, subfolder="vae")
            )
            for part in module.ENCODERS:
                config = CLIPTextConfig.from_pretrained(Path(module.CONFIGS) / part)
                parts[part] = _shapes(CLIPTextModel(config))
        parts |= {"unet": _shapes(unet), "vae": _shapes(vae)}
        yield module, _SIDES[module.NAME], model_shapes.count(module, parts)


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    write_atomic(FILE, (json.dumps(needs(), indent=2) + "\n").encode())
