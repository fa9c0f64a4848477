"""Convert the text encoders of checkpoint files to transformers' names: OpenAI's CLIP and
OpenCLIP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from trainer.families.open_clip_names import TO_TRANSFORMERS

PROJECTION: Final = "text_projection.weight"
_BUFFERS: Final = ("position_ids", "attn_mask", "logit_scale")
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
# OpenCLIP's name -> transformers'.
_OUTER: Final[Mapping[str, str]] = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


def of_hugging_face(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return tensors that have transformers' names, without `text_model.`."""
    return {
        name.removeprefix("text_model."): t
        for name, t in tensors.items()
        if not name.endswith(_BUFFERS)
    }


def of_open_clip(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the first `layers` layers of OpenCLIP under transformers' names.

    OpenCLIP stores query, key and value as one tensor, and the projection transposed. Stable
    Diffusion 2 uses the layer before the last, so its encoder has 23 of a file's 24 layers.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if layer is not None:
            if int(layer[1]) < layers:
                converted |= _convert_layer(f"encoder.layers.{layer[1]}.", layer[2], tensor)
        elif name == "text_projection":
            converted[PROJECTION] = tensor.T.contiguous()
        elif not name.endswith(_BUFFERS):
            converted[_OUTER[name]] = tensor
    return converted


def _convert_layer(prefix: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        end = name.rpartition("_")[2]
        return {
            f"{prefix}self_attn.{letter}_proj.{end}": third.contiguous()
            for letter, third in zip("qkv", tensor.chunk(3), strict=True)
        }
    path, _, end = name.rpartition(".")
    return {f"{prefix}{TO_TRANSFORMERS[path]}.{end}": tensor}
