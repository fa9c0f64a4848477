"""Options of `dsk check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import ScanOptions, Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions(ScanOptions):
    """`dsk check`: what the trainer will meet. only, skip: names of checks; None and (): what
    dsk.toml says elsewhere.

    upscale: factor from which an enlarged image is too small. cut: fraction of the area that a
    bucket may cut off. blur, text, faces: least scores, 0..1. csv, sheet: files to write, "" for
    none.
    """

    resolution: int | None = None
    kind: Literal["character", "style"] = "character"
    trigger: Tags = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    strict: bool = False
    upscale: float = 1.05
    cut: float = 0.2
    blur: float = 0.55
    text: float = 0.7
    faces: float = 0.5
    csv: str = ""
    sheet: str = ""

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        if self.resolution is not None:
            in_range("resolution", self.resolution, 64, 8192)
        one_of("kind", self.kind, "character", "style")
        in_range("upscale", self.upscale, 1, 100)
        for name, least in (("cut", 0.0), ("blur", 0.0), ("text", 0.6), ("faces", 0.3)):
            in_range(name, getattr(self, name), least, 1.0)
        for name, suffix in (("csv", ".csv"), ("sheet", ".png")):
            given = getattr(self, name)
            if given and Path(given).suffix.lower() != suffix:
                raise ConfigError(
                    f"{name} = {display(given)}: it is written as {suffix}",
                    hint=f"name a {suffix} file",
                )
