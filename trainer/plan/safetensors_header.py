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
    """A header. shapes: tensor name -> shape; metadata: the entries of `__metadata__`; size: of the
    whole file, in bytes, as the header says.
    """

    shapes: Mapping[str, Shape]
    metadata: Mapping[str, str]
    size: int = 0


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
            {name: tuple(entry["shape"]) for name, entry in header.items()},
            metadata,
            8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0),
        )
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(path) from error


def require_whole(path: Path) -> None:
    """Raise ValueError for a file that is shorter than its header says; OSError."""
    if path.stat().st_size < read(path).size:
        raise ValueError(f"{path} is cut short")
