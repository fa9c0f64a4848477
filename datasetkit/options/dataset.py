"""Options of `dsk plan-repeats`, `layout`, `report`, `export` and `import`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datasetkit.captions import filters
from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import STRICT, Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRepeatsOptions:
    """`dsk plan-repeats`: how many repeats give the steps that are wanted. None: what `[train]`
    says.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    steps: int = 1000
    epochs: int | None = None
    batch_size: int | None = None
    resolution: int | None = None
    images: int | None = None
    kind: Literal["character", "style"] = "character"

    def __post_init__(self) -> None:
        in_range("steps", self.steps, 1, 10**8)
        for name, value in (
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("images", self.images),
        ):
            if value is not None:
                in_range(name, value, 1, 10**7)
        if self.resolution is not None:
            in_range("resolution", self.resolution, 64, 8192)
        one_of("kind", self.kind, "character", "style")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions(PlanRepeatsOptions):
    """`dsk layout`: the folders that trainers read."""

    out: str = "dataset"
    repeats: int | None = None

    def __post_init__(self) -> None:
        PlanRepeatsOptions.__post_init__(self)
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """`dsk report`: tag tables for a spreadsheet, and a chart. where: the filter of the images
    that are counted.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    out: str = ""
    trigger: Tags = ()
    where: str = ""
    excel: bool = False
    plot: bool = False
    recursive: bool = False

    def __post_init__(self) -> None:
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """`dsk export`: the dataset in another tool's format."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    format: Literal["kohya", "imagefolder", "meta"] = "kohya"
    out: str = ""
    keep_tokens: int | None = None

    def __post_init__(self) -> None:
        one_of("format", self.format, "kohya", "imagefolder", "meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """`dsk import`: other tools' side-cars become captions."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Literal["auto", "gallery-dl", "hydrus", "caption", "meta"] = "auto"
    meta: str = ""
    existing: Literal["skip", "overwrite"] = "skip"
    recursive: bool = False

    def __post_init__(self) -> None:
        one_of("from", self.source, "auto", "gallery-dl", "hydrus", "caption", "meta")
        one_of("existing", self.existing, "skip", "overwrite")
