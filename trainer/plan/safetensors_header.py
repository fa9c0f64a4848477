"""Headers of safetensors files: the names and shapes of the tensors and the file's own remarks,
without a weight.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Shape = tuple[int, ...]
_MOST: Final = 100_000_000  # bytes; the safetensors library's own limit


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """shapes: tensor -> its shape. remarks: the texts under `__metadata__`."""

    shapes: Mapping[str, Shape]
    remarks: Mapping[str, str]


def read(path: Path) -> SafetensorsHeader:
    """Read a file's header: eight bytes with its length, then JSON. Raises OSError, ValueError for
    another file.
    """
    if path.suffix.lower() != ".safetensors":
        raise ValueError(path)
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MOST + 1
        if length > _MOST:
            raise ValueError(path)
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(path)
    remarks = header.pop("__metadata__", {})
    try:
        return SafetensorsHeader(
            {name: tuple(entry["shape"]) for name, entry in header.items()}, remarks
        )
    except (TypeError, KeyError) as error:
        raise ValueError(path) from error
