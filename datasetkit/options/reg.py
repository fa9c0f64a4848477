"""Options of `dsk reg` and `dsk reg generate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import CheckedOptions, check, option
from datasetkit.options.scan import Tags
from datasetkit.options.train import SAMPLERS


@dataclass(frozen=True, slots=True, kw_only=True)
class RegOptions(CheckedOptions):
    """`dsk reg`: a regularisation set beside the training folders."""

    folder: str = option(
        "",
        "The folder of class images; `dsk run` resizes them first.",
        group="Regularisation",
        path="input folder",
        shown="must be given",
        change="always: it must be given",
    )
    class_name: str = option(
        "",
        "The class, e.g. 1girl; any name is allowed.",
        flags=("--class", "--reg-class"),
        shown="must be given",
        change="always: the class that the subject belongs to",
    )
    out: str = option(
        "dataset",
        "Dataset folder; train/ and reg/ are created inside.",
        path="output folder",
        change="the training set lies elsewhere",
    )
    repeats: int | None = option(
        None,
        "Repeats of the set.",
        range=(1, 10**6),
        shown="the most that use every image",
        change="you want fewer or more samples",
    )
    captions: Literal["none", "derive"] = option(
        "none",
        "none: the class is the caption. derive: the training captions with trigger -> class.",
        flags=("--captions", "--reg-captions"),
        change="the images show what the training images show",
    )
    trigger: Tags = option(
        (),
        "The words that `derive` replaces by the class.",
        shown="those of dsk.toml",
        change="with `derive` and without a `dsk.toml`",
    )
    link: bool = option(
        False,
        "Hard-link your own images too: they take no space, and an edit in place changes both.",
        change="the disk has no room for copies",
        counts_from="named file",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegGenerateOptions(CheckedOptions):
    """`dsk reg generate`: a regularisation set that a base model generates.

    base, class_name: "" takes those of [train] and [reg]. size: None takes the buckets of the
    training set.
    """

    base: str = option(
        "",
        "The model that generates; tiny is part of the package.",
        group="Regularisation images",
        path="model",
        shown="that of [train]",
        change="another model generates: a file, a folder, a name on the hub with `@commit`, or "
        "`tiny`",
    )
    class_name: str = option(
        "",
        "The class, e.g. 1girl.",
        flags=("--class",),
        shown="that of [reg]",
        change="the subject belongs to another class",
    )
    count: int = option(
        100,
        "How many images.",
        range=(1, 100_000),
        unit="images",
        change="training repeats × training images is the most that is of use",
    )
    from_captions: bool = option(
        False,
        "Take the training captions as prompts, with the class for the trigger.",
        change="the set must vary as the training images do",
    )
    trigger: Tags = option(
        (),
        "The words that the class replaces.",
        shown="those of dsk.toml",
        change="with `--from-captions` and without a `dsk.toml`",
    )
    repeats: int | None = option(
        None,
        "Repeats of the set.",
        range=(1, 10**6),
        shown="the most that use every image",
        change="you want fewer or more samples",
    )
    negative: str = option(
        "",
        "The negative prompt: what must not be drawn.",
        shown="none",
        change="the model needs it: `lowres, bad anatomy` and such",
    )
    steps: int = option(
        30,
        "Steps of the sampler.",
        range=(1, 1000),
        unit="steps",
        change="the model asks for another number",
    )
    cfg: float = option(
        7.5,
        "Guidance; at 1 and below none.",
        range=(0, 100),
        change="the model asks for another number",
    )
    sampler: str = option(
        "ddim",
        "The sampler.",
        see="train.md#preview-images",
        choices=SAMPLERS,
        change="the model asks for another one",
    )
    size: tuple[int, int] | None = option(
        None,
        "Width and height in pixels: 512 or 512x768; multiples of 8.",
        range=(64, 4096),
        unit="pixels",
        shown="the buckets of the training set",
        change="all images must have one size",
    )
    seed: int = option(
        0,
        "Seed of the first image; the next has one more.",
        range=(0, 2**63 - 1),
        change="you want other images",
    )

    def __post_init__(self) -> None:
        check(self)
        for side in self.size or ():
            if side % 8:
                raise ConfigError(
                    f"size = {side}: a side is a multiple of 8", hint=f"give {side // 8 * 8}"
                )
