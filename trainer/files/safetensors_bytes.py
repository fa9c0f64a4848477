"""Write tensors as a safetensors file whose bytes depend on nothing but tensors and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with sorted metadata: the library writes the keys in another order
    each time, so that equal runs would have different hashes.
    """
    data = memoryview(safetensors.torch.save(dict(tensors), dict(metadata)))
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:body]))
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8
    return b"".join((len(text).to_bytes(8, "little"), text, data[body:]))
