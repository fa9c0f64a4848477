"""Read the header of a safetensors file: tensor names, shapes and metadata, without the weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Shape = tuple[int, ...]
_MAX_BYTES: Final = 100_000_000  # the safetensors library's limit


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """A header. shapes: tensor name -> shape; metadata: the entries of `__metadata__`."""

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]


def read(path: Path) -> SafetensorsHeader:
    """Read a file's header: eight bytes with its length, then JSON. Raises OSError, and ValueError
    for other files.
    """
    if path.suffix.lower() != ".safetensors":
        raise ValueError(path)
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_BYTES + 1
        if length > _MAX_BYTES:
            raise ValueError(path)
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(path)
    metadata = header.pop("__metadata__", {})
    try:
        return SafetensorsHeader(
            {name: tuple(entry["shape"]) for name, entry in header.items()}, metadata
        )
    except (TypeError, KeyError) as error:
        raise ValueError(path) from error
