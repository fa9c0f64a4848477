"""Options of `dsk review`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from datasetkit.core.ranges import in_range
from datasetkit.options.scan import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions:
    """`dsk review`: the page for looking through images and captions. host: the address that it
    listens on.

    allow_host: names, besides those of this machine, under which a browser may speak to it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    port: int = 0
    open: bool = True
    read_only: bool = False
    host: str = "127.0.0.1"
    allow_host: tuple[str, ...] = ()
    recursive: bool = False
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        in_range("port", self.port, 0, 65535)
        in_range("max_pixels", self.max_pixels, 1, 2**31)
