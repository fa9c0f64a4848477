"""Options of `dsk plan-repeats`, `layout`, `report`, `export` and `import`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.captions import filters
from datasetkit.captions.encodings import require_text_encoding
from datasetkit.core.records import CaptionKind
from datasetkit.dataset.kinds import Kind
from datasetkit.options.declare import MANY, CheckedOptions, check, option
from datasetkit.options.scan import Tags

ExportFormat = Literal[
    "kohya", "imagefolder", "meta", "webdataset", "onetrainer", "ai-toolkit", "diffusion-pipe"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions(CheckedOptions):
    """`[dataset]`: what holds for all concepts that do not say otherwise."""

    captions: CaptionKind = option(
        "tags",
        "What captions are: tags, a sentence each, or lines of tags and sentences (mixed).",
        group="Dataset",
        see="concepts/captions.md",
        change="the base model is trained on sentences",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRepeatsOptions(CheckedOptions):
    """`dsk plan-repeats`: how many repeats give the steps that are wanted.

    epochs, batch_size, resolution: None takes those of `[train]`. images: None counts them.
    """

    steps: int | None = option(
        None,
        "Optimizer steps wanted for each concept.",
        shown="1000; for a laid-out dataset what its folders give",
        group="Repeats",
        range=(1, 10**8),
        unit="steps",
        change="a concept needs more or less training",
    )
    epochs: int | None = option(
        None,
        "Epochs.",
        range=(1, 10**7),
        unit="epochs",
        shown="max_train_epochs of [train], 10",
        change="you train fewer or more epochs",
    )
    batch_size: int | None = option(
        None,
        "Images per batch.",
        range=(1, 10**7),
        unit="images",
        shown="train_batch_size of [train], 1",
        change="the GPU takes more images at once",
    )
    resolution: int | None = option(
        None,
        "Training resolution.",
        range=(64, 8192),
        unit="pixels",
        shown="that of [train], 512",
        change="you train at 768 or 1024",
    )
    images: int | None = option(
        None,
        "Count on this many images instead of looking into the folder.",
        range=(1, 10**7),
        unit="images",
        shown="those of the folder",
        change="there are no images yet",
    )
    kind: Kind = option(
        "character",
        "What is trained: the advice goes by its usual numbers.",
        change="you train a style, a garment, an object or another concept",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions(PlanRepeatsOptions):
    """`dsk layout`: the folders that trainers read."""

    out: str = option(
        "dataset",
        "Dataset folder; train/ and reg/ are created inside.",
        path="output folder",
        change="the dataset must lie elsewhere",
    )
    repeats: int | None = option(
        None,
        "Repeats for concepts that do not set their own.",
        range=(1, 10**6),
        shown="planned",
        slot=3,
        change="you know the number that you want",
    )
    link: bool = option(
        False,
        "Hard-link your own images too: they take no space, and an edit in place changes both.",
        change="the disk has no room for copies",
        counts_from="named file",
    )
    one_line: bool = option(
        False,
        "Write each mixed caption on one line, tags and sentences in their order.",
        see="commands/export.md#onetrainer",
        change="OneTrainer, which takes one line of a caption at random, is to read all of it",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(CheckedOptions):
    """`dsk report`: tag tables for a spreadsheet, and a chart."""

    out: str = option(
        "",
        "Where the tables go.",
        group="Report",
        path="output folder",
        shown="report/ in the project",
        change="the tables must go elsewhere",
    )
    trigger: Tags = option(
        (),
        "The words that are counted as triggers.",
        shown="the known ones",
        change="the known trigger is wrong",
    )
    where: str = option(
        "",
        "Count only images that pass a filter, e.g. `tag:lips AND NOT score:<0.4`.",
        see="concepts/filters.md",
        shown="all images",
        metavar="FILTER",
        change="only some images are to be counted; `--out` keeps the other tables",
    )
    excel: bool = option(
        False,
        "Keep spreadsheets from reading `=_=` as a formula.",
        change="a spreadsheet opens the tables",
    )
    translate: bool = option(
        False,
        "Add what each tag means: from translations.csv in the project and the tables of "
        "`[review] translations`.",
        see="review.md#meanings",
        change="you read another language than that of the tags",
    )
    plot: bool = option(
        False,
        "Also draw tags.png, a bar chart.",
        change="you want the chart",
    )
    recursive: bool = option(
        False,
        "Go into subfolders.",
        change="images are in subfolders",
        flags=("--recursive/--no-recursive", "-r"),
    )

    def __post_init__(self) -> None:
        check(self)
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(CheckedOptions):
    """`dsk export`: the dataset in another tool's format."""

    format: ExportFormat = option(
        "kohya",
        "kohya: dataset.toml + config.toml. imagefolder: metadata.jsonl. meta: sd-scripts' meta "
        "JSON. webdataset: tar shards. The others: the dataset of that trainer.",
        group="Export",
        change="another program reads the dataset",
    )
    out: str = option(
        "",
        "Where the files go.",
        path="output folder",
        shown="the dataset's folder",
        change="the files must go elsewhere",
    )
    keep_tokens: int | None = option(
        None,
        "Leading tags that are never shuffled.",
        range=(0, MANY),
        unit="tags",
        shown="found from the captions",
        change="more or fewer leading tags must keep their place",
    )
    shard_size: int = option(
        1000,
        "Images in a shard, with --format webdataset.",
        range=(1, 10**6),
        unit="images",
        change="images are small, or large: a shard of about 1 GB is read fastest",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions(CheckedOptions):
    """`dsk import`: captions from other tools' sidecars."""

    source: Literal[
        "auto",
        "gallery-dl",
        "grabber",
        "hydrus",
        "caption",
        "meta",
        "booru-dataset-tag-manager",
        "taggui",
        "filename",
        "captions-json",
        "webdataset",
    ] = option(
        "auto",
        "Whose sidecars to read; a dataset file of another tool names itself.",
        group="Import",
        flags=("--from",),
        change="only sidecars of one tool must be read",
    )
    meta: str = option(
        "",
        "The metadata file, with --from meta or captions-json.",
        path="input file",
        shown="none",
        change="with `--from meta`, or where captions.json is not in the folder",
    )
    out: str = option(
        "",
        "Where the images of WebDataset shards go.",
        path="output folder",
        shown="none",
        change="shards are imported",
    )
    existing: Literal["skip", "overwrite"] = option(
        "skip",
        "What to do with captions that exist.",
        change="they must be replaced",
    )
    encoding: str = option(
        "",
        "The encoding of sidecars that are not UTF-8.",
        shown="none",
        change="a program saved them as e.g. cp1252 or gbk",
    )
    recursive: bool = option(
        False,
        "Go into subfolders.",
        change="images are in subfolders",
        flags=("--recursive/--no-recursive", "-r"),
    )

    def __post_init__(self) -> None:
        check(self)
        require_text_encoding(self.encoding)
