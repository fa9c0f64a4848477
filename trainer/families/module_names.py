"""The names of a UNet's and a text encoder's modules in kohya's LoRA files."""

from __future__ import annotations

import re
from typing import Any, Final

from torch import nn

_CLIP_LINEAR = re.compile(r"encoder\.layers\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])$")
_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.?(.*)"
)
_KIND_INDEX: Final = {"resnets": 0, "attentions": 1}
# original layout: two layers and a downsampler, or three layers with an upsampler in the last
_PER_BLOCK: Final = 3
_MIDDLE: Final = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}
_RESNET: Final = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


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

    path: diffusers', with SDXL's three levels of two layers each. A path outside the blocks is not
    changed.
    """
    return "lora_unet_" + _original_path(path).replace(".", "_")


def _original_path(path: str) -> str:
    head, _, rest = path.partition(".")
    if head == "mid_block":
        kind, number, inner = (*rest.split(".", 2), "")[:3]
        return f"middle_block.{_MIDDLE[f'{kind}.{number}']}.{_inner(kind, inner)}"
    block = _BLOCK.fullmatch(path)
    if block is None:
        return path
    side, b, kind, j, inner = block[1], int(block[2]), block[3], int(block[4]), block[5]
    if kind == "downsamplers":
        return f"input_blocks.{_PER_BLOCK * (b + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{_PER_BLOCK * b + 2}.2.conv"
    number = (
        f"input_blocks.{1 + _PER_BLOCK * b + j}"
        if side == "down"
        else f"output_blocks.{_PER_BLOCK * b + j}"
    )
    return f"{number}.{_KIND_INDEX[kind]}.{_inner(kind, inner)}"


def _inner(kind: str, inner: str) -> str:
    return _RESNET.get(inner, inner) if kind == "resnets" else inner


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
