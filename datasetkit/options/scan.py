"""Options of every verb that reads a folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from datasetkit.core.ranges import in_range

# How values from TOML become options: no "5" for a 5, and no unknown keys.
STRICT: Final[dict[str, Any]] = {"strict": True, "extra": "forbid"}
Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """What every verb that reads a folder of images understands."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    recursive: bool = False
    follow_links: bool = False
    workers: int = 0
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        in_range("workers", self.workers, 0, 256)
        in_range("max_pixels", self.max_pixels, 1, 2**31)
