"""`[run]` and `[[concept]]` of a dsk.toml: what `dsk run` does, and with what."""

from __future__ import annotations

from dataclasses import dataclass, field

from datasetkit.core.records import CaptionKind
from datasetkit.options.declare import CheckedOptions, Option, option, required
from datasetkit.options.scan import Tags

STEPS = (
    "rename", "faces", "resize", "cutout", "tag", "caption", "layout", "reg", "report", "export",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptOptions(CheckedOptions):
    """`[[concept]]`: one subject or style: a folder of images, its folder name, its trigger."""

    folder: str = field(
        metadata=required(Option("The folder of images.", group="Concept", path="input folder"))
    )
    name: str = option(
        "",
        "The concept's name in `train/<repeats>_<name>`.",
        shown="the first trigger, else the folder's name",
    )
    prefix: str = option("", "What `rename` puts before the numbers.", shown="the name")
    trigger: Tags = option((), "Trigger words, placed first in each of its captions.")
    exclude: Tags = option((), "Tags to leave out of its captions, besides those of `[tag]`.")
    additional: Tags = option((), "Tags that each of its captions gets, besides those of `[tag]`.")
    repeats: int | None = option(
        None, "Its repeats, where you want to fix them.", range=(1, 10**6), shown="planned"
    )
    captions: CaptionKind | None = option(
        None,
        "What its captions are: tags, a sentence each, or lines of tags and sentences.",
        see="concepts/captions.md",
        shown="that of `[dataset]`, tags",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(CheckedOptions):
    """`[run]`: which steps `dsk run` takes, always in this order."""

    steps: tuple[str, ...] = option(
        ("resize", "tag", "layout", "report", "export"),
        "What `dsk run` does, always in the order of this list: " + ", ".join(STEPS) + ".",
        group="Run",
        choices=STEPS,
    )
    work: str = option(
        "work",
        "The folder of finished images and their captions: `work/<concept>`.",
        path="output folder",
    )
