"""Options of `dsk tag` and `dsk rules`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.captions import filters
from datasetkit.captions.pruning import PruneKind
from datasetkit.options.declare import check, option
from datasetkit.options.scan import ScanOptions, Tags


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRules(ScanOptions):
    """What `dsk rules` and `dsk tag` do to the tags of captions."""

    trigger: Tags = option(
        (),
        "Trigger words, placed first in every caption, exactly once.",
        group="Rules",
        slot=2,
        change="always, when you train a subject or a style",
    )
    additional: Tags = option(
        (),
        "Tags that every caption gets, after the trigger.",
        change="all images have something in common that must not belong to the trigger",
    )
    exclude: Tags = option(
        (),
        "Tags to leave out: names, globs (`*_hair`), groups (`@face`), `category:rating`.",
        change="the trigger must absorb what they describe",
    )
    replace: Tags = option(
        (),
        "Other spellings: `old=new,old=new`.",
        change="you prefer other words",
    )
    implies: str = option(
        "none",
        "Drop a tag that a narrower one makes redundant (hat beside baseball cap): none, common, "
        "or a TOML file.",
        path="input file",
        metavar="none|common|FILE",
        change="captions repeat themselves: `common`",
    )
    escape_brackets: bool = option(
        False,
        r"Write `\(` and `\)`, as in prompts; captions do not need it.",
        change="another program reads the captions as prompts",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions(TagRules):
    """`dsk rules`: what is done to the captions that exist."""

    suggest: bool = option(
        False,
        "Print which tags to remove, add or keep, and why; nothing changes without --apply.",
        group="Suggestions",
        see="concepts/rules.md#suggestions",
        counts_from="command line",
        change="you want to know what to prune",
    )
    kind: PruneKind = option(
        "character",
        "What is trained, with --suggest: its own features are removed, the others are kept.",
        change="you train a face, a garment or a style",
    )
    apply: Tags = option(
        (),
        "With --suggest: take these rows: recommended, all, or their numbers or tags.",
        metavar="ROWS",
        counts_from="command line",
        change="you agree with them",
    )

    split: bool = option(
        False,
        "Split captions whose tags are separated by spaces, `;`, `|`, `，` or `、`, before the "
        "other rules; `long_hair` becomes `long hair` where spaces separate.",
        change="`dsk check` finds another separator than a comma",
    )
    underscores_to_spaces: bool = option(
        False,
        "Write the tags of the vocabulary with spaces instead of underscores.",
        change="`dsk check` finds tags with underscores",
    )

    where: str = option(
        "",
        "Only images that pass a filter, e.g. `tag:lips AND NOT score:<0.4`.",
        see="concepts/filters.md",
        shown="all images",
        metavar="FILTER",
        change="only some captions are meant",
    )

    def __post_init__(self) -> None:
        check(self)
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions(TagRules):
    """`dsk tag`: which tagger, which thresholds, and the rules for what it finds."""

    tagger: str = option(
        "auto",
        "auto: WD14, or `basic` when offline; wd14: no fallback. A name from `dsk models list`, or "
        "a hub repository: owner/repo, with an optional /folder and @revision. Several, "
        "comma-separated, are combined.",
        group="Tagger",
        change="another tagger knows your images better",
    )
    model_dir: str = option(
        "",
        "A folder with model.onnx and its label file.",
        path="input folder",
        shown="none",
        change="the model is in a local folder",
    )
    provider: str = option(
        "auto",
        "Where the model runs: auto, cpu, cuda, ...",
        panel="How it runs",
        change="`auto` picks the wrong device",
    )
    # Lower scores than 0.01 are not stored, so a lower threshold would not find more later.
    threshold: float | Literal["pr"] = option(
        0.35,
        "Minimum score for a general tag; `pr`: the threshold from the model card.",
        range=(0.01, 1),
        change="higher for fewer, surer tags",
    )
    character_threshold: float = option(
        0.85,
        "Minimum score for a character tag.",
        range=(0.01, 1),
        change="characters are missed, or found where there are none",
    )
    mcut: bool = option(
        False,
        "Find the thresholds from each image's scores (MCut).",
        change="one threshold does not suit all images",
    )
    rating: Literal["none", "first", "last"] = option(
        "none",
        "Write the rating (general, sensitive, ...) first or last.",
        change="captions must say the rating",
    )
    existing: Literal["skip", "overwrite", "append", "prepend"] = option(
        "skip",
        "What to do with captions that a person wrote or edited.",
        change="they must be replaced, or joined with the new tags",
    )
    combine: Literal["union", "intersection", "mean"] = option(
        "union",
        "How to combine the scores of several taggers: highest, lowest or mean.",
        change="you name several taggers",
    )
    precision: Literal["float32", "int8", "bf16", "fp16"] = option(
        "float32",
        "int8 for CPUs, bf16 with OpenVINO, fp16 for GPUs. Reduced precision changes some tags.",
        panel="How it runs",
        see="tagging.md#precision",
        change="tagging takes too long",
    )
    fast_decode: bool = option(
        False,
        "Decode large JPEGs at a fraction of their size; changes few tags.",
        panel="How it runs",
        see="tagging.md#fast-decode",
        change="the images are large JPEGs and the model is fast",
    )
    batch_size: int = option(
        0,
        "Images that the model sees at once.",
        panel="How it runs",
        range=(0, 1024),
        shown="0: what suits model and device",
        change="the GPU runs out of memory",
    )
