"""Options of `dsk rename`, `resize`, `faces` and `cutout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datasetkit.captions import backgrounds
from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import STRICT, ScanOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameOptions:
    """`dsk rename`: give images plain, unique, numbered names."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    prefix: str = ""
    start: int = 1

    def __post_init__(self) -> None:
        in_range("start", self.start, 0, 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeOptions(ScanOptions):
    """`dsk resize`: shrink to what trainers use, upright, in sRGB, without metadata."""

    max: int = 1024
    mode: Literal["long-edge", "area"] = "long-edge"
    format: Literal["keep", "jpg", "png", "webp"] = "keep"
    quality: int = 95
    alpha: Literal["flatten", "keep"] = "flatten"
    in_place: bool = False

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        in_range("max", self.max, 16, 16384)
        in_range("quality", self.quality, 1, 100)
        one_of("mode", self.mode, "long-edge", "area")
        one_of("format", self.format, "keep", "jpg", "png", "webp")
        one_of("alpha", self.alpha, "flatten", "keep")
        if self.alpha == "keep" and self.format == "jpg":
            raise ConfigError(
                "JPEG has no transparency", hint="--format png or webp with --alpha keep"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesOptions(ScanOptions):
    """`dsk faces`: what becomes of the faces, and of lines of text, in images.

    do: what a run does. threshold: least score of a face; text_threshold: of a line of text.
    margin: what is taken around a face, a share of its size; None: a half to crop, a fifth to
    erase. size, min_size: pixels of a crop's side. most: of each image only the largest faces, 0
    for all. fill: what erased places are filled with.
    """

    do: Literal["crop", "erase"] = "crop"
    detector: str = "blazeface"
    threshold: float = 0.5
    text: bool = False
    text_threshold: float = 0.7
    margin: float | None = None
    size: int = 512
    min_size: int = 128
    most: int = 0
    fill: Literal["white", "blur", "paint"] = "white"
    review: str = ""

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        one_of("do", self.do, "crop", "erase")
        one_of("fill", self.fill, "white", "blur", "paint")
        # Lower scores are not kept, so a lower threshold could not be honoured.
        in_range("threshold", self.threshold, 0.3, 1)
        in_range("text_threshold", self.text_threshold, 0.6, 1)
        if self.margin is not None:
            in_range("margin", self.margin, 0, 5)
        in_range("size", self.size, 16, 16384)
        in_range("min_size", self.min_size, 1, 16384)
        in_range("most", self.most, 0, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutOptions(ScanOptions):
    """`dsk cutout`: which model finds the subject, and what is put behind it.

    feather: pixels by which the edge is softened. min_area: a mask of less than this share of the
    image, or of more than all but this share, is none.
    """

    model: str = "u2netp"
    provider: str = "auto"
    bg: str = "white"
    keep_alpha: bool = False
    feather: float = 0.0
    min_area: float = 0.01

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        backgrounds.require(self.bg)
        in_range("feather", self.feather, 0, 1000)
        in_range("min_area", self.min_area, 0, 0.49)
