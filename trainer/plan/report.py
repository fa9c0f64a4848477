"""Findings: what a person should know of a plan's images and captions before the first step. No
torch is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions import tokens
from datasetkit.captions.caption import read_caption
from datasetkit.core.errors import DskError
from datasetkit.core.records import Caption
from datasetkit.dataset.buckets import Size
from datasetkit.dataset.layout_sources import layout_sources
from trainer.data import captions, prompt_weights
from trainer.plan.plan import Subset, TrainImage, TrainingPlan


@dataclass(frozen=True, slots=True)
class BucketUse:
    """One bucket and its images. samples: of an epoch.

    cut_mean, cut_worst: fraction of an image's area that is cut off, 0..1. enlarged: images that
    are smaller than the bucket; enlarged_most: the largest factor of them, 1 where there are none.
    """

    size: Size
    images: int
    samples: int
    cut_mean: float
    cut_worst: float
    enlarged: int
    enlarged_most: float


@dataclass(frozen=True, slots=True)
class SubsetUse:
    """One folder in the plan. samples: of an epoch; unused: regularisation images that no epoch
    reaches.
    """

    subset: Subset
    images: int
    samples: int
    unused: int


@dataclass(frozen=True, slots=True)
class CaptionUse:
    """The captions of the images that are trained, those of regularisation only where they are
    too long.

    missing, empty: training images that take their concept's name instead. over: 75, 150 and 225
    -> captions of more CLIP tokens; too_long: those beyond max_token_length, whose end no step
    sees. differing: laid-out captions that are not what stands beside their source image;
    unknown: training images whose source is not known.
    """

    written: int
    missing: tuple[Path, ...]
    empty: tuple[Path, ...]
    over: Mapping[int, int]
    too_long: tuple[Path, ...]
    differing: tuple[Path, ...]
    unknown: int


def bucket_use(plan: TrainingPlan) -> tuple[BucketUse, ...]:
    """Say for each bucket, ascending, how much of its images is cut off and which are
    enlarged.
    """
    used: defaultdict[Size, list[tuple[TrainImage, int]]] = defaultdict(list)
    for image, samples in zip(plan.images, plan.samples, strict=True):
        if samples:
            used[image.bucket.bucket].append((image, samples))
    return tuple(_use(size, used[size]) for size in sorted(used))


def _use(size: Size, images: Sequence[tuple[TrainImage, int]]) -> BucketUse:
    cuts = [image.bucket.cropped for image, _ in images]
    larger = [image.bucket.scale for image, _ in images if image.bucket.scale > 1]
    return BucketUse(
        size, len(images), sum(n for _, n in images), sum(cuts) / len(cuts), max(cuts),
        len(larger), max(larger, default=1.0),
    )  # fmt: skip


def subset_use(plan: TrainingPlan) -> tuple[SubsetUse, ...]:
    """Say for each folder how often an epoch samples it."""
    made = []
    for subset in plan.subsets:
        samples = [n for p, n in zip(plan.images, plan.samples, strict=True) if p.subset == subset]
        made.append(SubsetUse(subset, len(samples), sum(samples), samples.count(0)))
    return tuple(made)


def caption_use(plan: TrainingPlan, max_token_length: int, *, weighted: bool = False) -> CaptionUse:
    """Count what is wrong with the captions that the plan trains. weighted: their brackets are
    weights.
    """
    trained = [p for p, n in zip(plan.images, plan.samples, strict=True) if n]
    own = [p for p in trained if not p.subset.is_reg]
    counts = {p.path: longest(p, weighted=weighted) for p in trained}
    sources = layout_sources(s.folder for s in plan.subsets if not s.is_reg)
    differs = {p.path: _differs(p, sources) for p in own}
    return CaptionUse(
        written=sum(p.captioned == "written" for p in own),
        missing=tuple(p.path for p in own if p.captioned == "missing"),
        empty=tuple(p.path for p in own if p.captioned == "empty"),
        over={limit: sum(n > limit for n in counts.values()) for limit in tokens.LIMITS},
        too_long=tuple(path for path, n in counts.items() if n > max_token_length),
        differing=tuple(path for path, answer in differs.items() if answer),
        unknown=sum(answer is None for answer in differs.values()),
    )


def longest(image: TrainImage, *, weighted: bool = False) -> int:
    """Return the CLIP tokens of the longest text that a sample to an image may read."""

    def count(text: str) -> int:
        return tokens.count(prompt_weights.parse(text).text if weighted else text)

    return count(captions.longest(image.caption, image.subset.captions, count))


def _differs(image: TrainImage, sources: Mapping[Path, Path]) -> bool | None:
    """Tell whether a laid-out caption is not its source's; None where the source is not known, or
    gone.
    """
    source = sources.get(image.subset.folder.resolve() / image.path.name)
    if source is None or not source.is_file():
        return None
    try:
        theirs = read_caption(source) or Caption(())
    except DskError:  # it cannot be read, so it is not what is trained
        return True
    return theirs.text() != (
        image.caption.replace("\n", ", ") if image.captioned == "written" else ""
    )
