"""The paths of a UNet's layers in diffusers and in Stability's code (`ldm`, `sgm`), and back. Needs
no torch.
"""

from __future__ import annotations

import re
from typing import Final

_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.?(.*)"
)
_KIND_INDEX: Final = {"resnets": 0, "attentions": 1}
# original layout: two layers and a downsampler, or three layers with an upsampler in the last
_PER_BLOCK: Final = 3
_MIDDLE: Final = {"resnets.0": 0, "attentions.0": 1, "resnets.1": 2}
_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTER: Final = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ORIGINAL = re.compile(
    r"(input|output)_blocks[._](\d+)[._](\d+)[._](.+)|middle_block[._](\d)[._](.+)"
)
_RESNET_BACK: Final = {new.replace(".", "_"): old for old, new in _RESNET.items()}
_OUTER_BACK: Final = {new.replace(".", "_"): old for old, new in _OUTER.items()}
_MIDDLE_BACK: Final = {number: path for path, number in _MIDDLE.items()}


def to_original(path: str) -> str:
    """Return the path in Stability's code of a layer with diffusers' path.

    The model has levels of two layers each, as SD1, SD2 and SDXL. An upsampler is that of SDXL,
    whose first one stands behind an attention; in SD1 and SD2 that one is `output_blocks.2.1.conv`.
    A path outside the blocks that has no other name is not changed.
    """
    head, _, rest = path.partition(".")
    if head == "mid_block":
        kind, number, inner = (*rest.split(".", 2), "")[:3]
        return f"middle_block.{_MIDDLE[f'{kind}.{number}']}.{_inner(kind, inner)}"
    block = _BLOCK.fullmatch(path)
    if block is None:
        return _OUTER.get(path, path)
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


def from_original(name: str) -> str | None:
    """Return diffusers' path of a layer, with `_` for `.`, from its path in Stability's code with
    either; None for another name.
    """
    name = name.replace(".", "_")
    if outer := _OUTER_BACK.get(name):
        return outer.replace(".", "_")
    match = _ORIGINAL.fullmatch(name)
    if match is None:
        return None
    if match[5] is not None:
        kind, inner = _MIDDLE_BACK.get(int(match[5]), ""), match[6]
        block = f"mid_block_{kind.replace('.', '_')}"
    else:
        side, number, index, inner = match[1], int(match[2]), int(match[3]), match[4]
        if side == "input" and number == 0:
            return None
        b, j = divmod(number - (side == "input"), _PER_BLOCK)
        block = f"{'down' if side == 'input' else 'up'}_blocks_{b}"
        if inner == "op":
            return f"{block}_downsamplers_0_conv"
        if inner == "conv":
            return f"{block}_upsamplers_0_conv"
        kind = "attentions" if index else "resnets"
        block = f"{block}_{kind}_{j}"
    return f"{block}_{_RESNET_BACK.get(inner, inner) if kind.startswith('resnets') else inner}"
