"""The names of a UNet's and a text encoder's modules in kohya's LoRA files."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from trainer.families.unet_paths import to_original

_CLIP_LINEAR = re.compile(r"encoder\.layers\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])$")


def unet_modules(unet: nn.Module) -> list[str]:
    """Return the paths of the linear layers and convolutions in a UNet's attention blocks."""
    kinds = nn.Linear | nn.Conv2d
    return [
        path
        for path, module in unet.named_modules()
        if ".attentions." in path and isinstance(module, kinds)
    ]


def plain(path: str) -> str:
    """Return a UNet module's name in SD1 and SD2 files: diffusers' path."""
    return "lora_unet_" + path.replace(".", "_")


def original(path: str) -> str:
    """Return a UNet module's name in SDXL files: its path in Stability's code (`sgm`).

    path: diffusers', with SDXL's three levels of two layers each.
    """
    return "lora_unet_" + to_original(path).replace(".", "_")


def clip_targets(encoder: nn.Module, prefix: str) -> dict[str, str]:
    """Return kohya's name -> path of a text encoder's linear layers. prefix: `lora_te`, `lora_te1`
    or `lora_te2`.

    The names are built from layer number and projection, because the module tree differs between
    versions of transformers.
    """
    matches = [
        (path, match) for path, _ in encoder.named_modules() if (match := _CLIP_LINEAR.search(path))
    ]
    return {
        f"{prefix}_text_model_encoder_layers_{m[1]}_{m[2].replace('.', '_')}": path
        for path, m in matches
    }


def layers_from(targets: dict[str, str], first: int) -> frozenset[str]:
    """Return the names of a text encoder's modules in layer `first` (from 0) and later ones."""
    layers = {name: _CLIP_LINEAR.search(path) for name, path in targets.items()}
    return frozenset(
        name for name, match in layers.items() if match is not None and int(match[1]) >= first
    )


def depth(encoder: Any) -> int:
    """Return a text encoder's number of layers."""
    return int(encoder.config.num_hidden_layers)
