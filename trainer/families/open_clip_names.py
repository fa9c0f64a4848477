"""The names of a text encoder's layers in OpenCLIP and in transformers. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Inside of a layer, without `.weight` or `.bias`. Query, key and value are one tensor in OpenCLIP.
TO_TRANSFORMERS: Final[Mapping[str, str]] = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
