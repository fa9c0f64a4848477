"""Options of `dsk tag` and `dsk rules`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.captions import filters
from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import ScanOptions, Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRules(ScanOptions):
    """What `dsk rules` and `dsk tag` do to the tags of captions."""

    trigger: Tags = ()
    additional: Tags = ()
    exclude: Tags = ()
    replace: Tags = ()
    implies: str = "none"
    escape_brackets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions(TagRules):
    """`dsk rules`: what is done to the captions that exist. where: the filter of those that are
    meant, "" for all.
    """

    where: str = ""

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions(TagRules):
    """`dsk tag`: which tagger, which thresholds, and the rules for what it finds."""

    tagger: str = "auto"
    model_dir: str = ""
    provider: str = "auto"
    threshold: float | Literal["pr"] = 0.35
    character_threshold: float = 0.85
    mcut: bool = False
    rating: Literal["none", "first", "last"] = "none"
    existing: Literal["skip", "overwrite", "append", "prepend"] = "skip"
    combine: Literal["union", "intersection", "mean"] = "union"
    precision: Literal["float32", "int8", "bf16", "fp16"] = "float32"
    fast_decode: bool = False
    batch_size: int = 0

    def __post_init__(self) -> None:
        ScanOptions.__post_init__(self)
        if isinstance(self.threshold, str):
            one_of("threshold", self.threshold, "pr")
        else:
            # Scores below 0.01 are not kept, so a lower threshold could not be honoured later.
            in_range("threshold", self.threshold, 0.01, 1)
        in_range("character_threshold", self.character_threshold, 0.01, 1)
        one_of("rating", self.rating, "none", "first", "last")
        one_of("existing", self.existing, "skip", "overwrite", "append", "prepend")
        one_of("combine", self.combine, "union", "intersection", "mean")
        one_of("precision", self.precision, "float32", "int8", "bf16", "fp16")
        in_range("batch_size", self.batch_size, 0, 1024)
