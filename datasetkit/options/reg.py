"""Options of `dsk reg` and `dsk reg generate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range, one_of
from datasetkit.options.scan import STRICT, Tags
from datasetkit.options.train import SAMPLERS


@dataclass(frozen=True, slots=True, kw_only=True)
class RegOptions:
    """`dsk reg`: a regularisation set beside the training folders."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    folder: str = ""
    class_name: str = ""
    out: str = "dataset"
    repeats: int | None = None
    captions: Literal["none", "derive"] = "none"
    trigger: Tags = ()

    def __post_init__(self) -> None:
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)
        one_of("captions", self.captions, "none", "derive")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegGenerateOptions:
    """`dsk reg generate`: a regularisation set that a base model draws.

    base, class_name: "" takes those of [train] and [reg]. from_captions: draw from the training
    captions, with the class in place of the trigger. cfg: guidance. size: width and height; None
    takes the buckets of the training set.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    base: str = ""
    class_name: str = ""
    count: int = 100
    from_captions: bool = False
    trigger: Tags = ()
    repeats: int | None = None
    negative: str = ""
    steps: int = 30
    cfg: float = 7.5
    sampler: str = "ddim"
    size: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("count", self.count, 1, 100_000)
        in_range("steps", self.steps, 1, 1000)
        in_range("cfg", self.cfg, 0, 100)
        in_range("seed", self.seed, 0, 2**63 - 1)
        one_of("sampler", self.sampler, *SAMPLERS)
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)
        for side in self.size or ():
            in_range("size", side, 64, 4096)
            if side % 8:
                raise ConfigError(
                    f"size = {side}: a side is a multiple of 8", hint=f"give {side // 8 * 8}"
                )
