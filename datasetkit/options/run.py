"""`[run]` and `[[concept]]` of a dsk.toml: what `dsk run` does, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import STRICT, Tags

STEPS = ("rename", "faces", "resize", "cutout", "tag", "layout", "reg", "report", "export")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptOptions:
    """`[[concept]]`: one subject or style: a folder of images, its folder name, its trigger."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    folder: str
    name: str = ""
    prefix: str = ""
    trigger: Tags = ()
    exclude: Tags = ()
    additional: Tags = ()
    repeats: int | None = None

    def __post_init__(self) -> None:
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """`[run]`: which steps `dsk run` takes, always in this order."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    steps: tuple[str, ...] = ("resize", "tag", "layout", "report", "export")
    work: str = "work"

    def __post_init__(self) -> None:
        for step in self.steps:
            one_of("steps", step, *STEPS)
