"""Report on a plan's buckets, folders and captions before the first step. Needs no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from datasetkit.captions import tokens
from datasetkit.captions.caption import is_laid_out, parse, read_caption
from datasetkit.captions.tokens import TokenLimit
from datasetkit.core.errors import DskError
from datasetkit.core.records import Caption
from datasetkit.dataset.buckets import Size
from datasetkit.dataset.layout_sources import layout_sources
from trainer.data import captions, prompt_weights
from trainer.data.captions import CaptionSettings
from trainer.plan.plan import Subset, TrainImage, TrainingPlan
from trainer.plan.read_images import Captioned


@dataclass(frozen=True, slots=True)
class BucketUse:
    """One bucket of a block and its images. samples: per epoch; block: its number, from 0.

    cut_mean, cut_worst: cropped fraction of an image's area, 0..1. enlarged: number of images
    smaller than the bucket; enlarged_most: their largest scale factor, 1 without any.
    """

    size: Size
    images: int
    samples: int
    cut_mean: float
    cut_worst: float
    enlarged: int
    enlarged_most: float
    block: int = 0


@dataclass(frozen=True, slots=True)
class BlockUse:
    """One resolution of a run, or one `[[datasets]]`. number: from 0. samples, batches: per epoch.

    enlarged: number of images smaller than their bucket; largest: the largest bucket.
    """

    number: int
    resolution: Size
    batch_size: int
    images: int
    samples: int
    batches: int
    enlarged: int
    largest: Size


@dataclass(frozen=True, slots=True)
class SubsetUse:
    """One folder in the plan. samples: per epoch; unused: regularisation images that are not
    used.
    """

    subset: Subset
    images: int
    samples: int
    unused: int


@dataclass(frozen=True, slots=True)
class CaptionUse:
    """The captions of the training images, and regularisation captions that are too long.

    missing, empty: training images that use their concept's name instead. over: number of tokens ->
    number of captions with more; too_long: those longer than the limit, which are truncated.
    differing: laid-out captions that differ from the one beside the source image; unknown: number
    of training images with an unknown source. tokens: of the longest caption that an image can
    have, the mean. limit, token_kind, limit_option: of the base model,
    see `TokenLimit`.
    """

    written: int
    missing: tuple[Path, ...]
    empty: tuple[Path, ...]
    over: Mapping[int, int]
    too_long: tuple[Path, ...]
    differing: tuple[Path, ...]
    unknown: int
    tokens: float = 0.0
    limit: int = 75
    token_kind: str = "CLIP tokens"
    limit_option: str = "max_token_length"


def bucket_use(plan: TrainingPlan) -> tuple[BucketUse, ...]:
    """Return for each bucket, by block and in ascending order, how its images are cropped and
    enlarged.
    """
    used: defaultdict[tuple[int, Size], list[tuple[TrainImage, int]]] = defaultdict(list)
    for image, samples in zip(plan.images, plan.samples, strict=True):
        if samples:
            used[image.subset.block.number, image.bucket.bucket].append((image, samples))
    return tuple(_use(*key, used[key]) for key in sorted(used))


def _use(block: int, size: Size, images: Sequence[tuple[TrainImage, int]]) -> BucketUse:
    cuts = [image.bucket.cropped for image, _ in images]
    larger = [image.bucket.scale for image, _ in images if image.bucket.scale > 1]
    return BucketUse(
        size, len(images), sum(n for _, n in images), sum(cuts) / len(cuts), max(cuts),
        len(larger), max(larger, default=1.0), block,
    )  # fmt: skip


def block_use(plan: TrainingPlan) -> tuple[BlockUse, ...]:
    """Return what each block with samples adds to an epoch."""
    buckets = bucket_use(plan)
    uses = []
    for block, totals in zip(plan.blocks, plan.totals.blocks, strict=True):
        bucket_uses = [use for use in buckets if use.block == block.number]
        if bucket_uses:
            uses.append(
                BlockUse(
                    number=block.number,
                    resolution=block.rules.resolution,
                    batch_size=block.batch_size,
                    images=sum(use.images for use in bucket_uses),
                    samples=totals.samples,
                    batches=totals.batches,
                    enlarged=sum(use.enlarged for use in bucket_uses),
                    largest=max(
                        (use.size for use in bucket_uses), key=lambda size: size[0] * size[1]
                    ),
                )
            )
    return tuple(uses)


def subset_use(plan: TrainingPlan) -> tuple[SubsetUse, ...]:
    """Return for each folder its images and samples per epoch."""
    uses = []
    for subset, numbers in plan.by_subset().items():
        samples = [plan.samples[n] for n in numbers]
        uses.append(SubsetUse(subset, len(samples), sum(samples), samples.count(0)))
    return tuple(uses)


def caption_use(plan: TrainingPlan, limit: TokenLimit, *, weighted: bool = False) -> CaptionUse:
    """Count missing, long and differing captions. weighted: brackets are prompt weights."""
    used = zip(plan.images, plan.samples, strict=True)
    training = [p for p, n in used if n and not p.subset.is_reg]
    if len(plan.blocks) > 1:  # an image that is trained at several resolutions has one caption
        training = list({p.path: p for p in training}.values())
    token_counts: dict[Path, int] = {}
    for p in chain.from_iterable(used_by_captions(plan)):
        number = longest(p, limit.count, weighted=weighted)
        if token_counts.setdefault(p.path, number) < number:
            token_counts[p.path] = number
    sources = layout_sources(s.folder for s in plan.subsets if not s.is_reg)
    differing = _differing(training, sources)
    captioned = Counter(p.captioned for p in training)
    return CaptionUse(
        written=captioned["written"],
        missing=_paths(training, "missing"),
        empty=_paths(training, "empty"),
        over={step: len(_longer(token_counts, step)) for step in limit.steps},
        too_long=_longer(token_counts, limit.limit),
        differing=differing[0],
        unknown=differing[1],
        tokens=sum(token_counts.values()) / len(token_counts) if token_counts else 0.0,
        limit=limit.limit,
        token_kind=limit.kind,
        limit_option=limit.option,
    )


def used_by_captions(plan: TrainingPlan) -> Iterator[list[TrainImage]]:
    """Yield the images that are trained, for each kind of captions: one that is trained at several
    resolutions has the same caption in each.
    """
    if len(plan.blocks) == 1:  # nearly always: then every image is there once
        for numbers in plan.by_subset().values():
            yield [plan.images[n] for n in numbers if plan.samples[n]]
        return
    by_captions: dict[tuple[Path, CaptionSettings], dict[Path, TrainImage]] = {}
    for subset, numbers in plan.by_subset().items():
        images = by_captions.setdefault((subset.folder, subset.captions), {})
        for number in numbers:
            if plan.samples[number]:
                images.setdefault(plan.images[number].path, plan.images[number])
    yield from (list(images.values()) for images in by_captions.values())


def _differing(
    images: Sequence[TrainImage], sources: Mapping[Path, Path]
) -> tuple[tuple[Path, ...], int]:
    """Return the laid-out captions that differ from those of the source images, and of how many
    images the source is not known.
    """
    if not sources:
        return (), len(images)
    folders = {folder: folder.resolve() for folder in {image.path.parent for image in images}}
    answers = {
        image.path: _differs(image, sources.get(folders[image.path.parent] / image.path.name))
        for image in images
    }
    unknown = sum(differs is None for differs in answers.values())
    return tuple(path for path, differs in answers.items() if differs), unknown


def _longer(token_counts: Mapping[Path, int], limit: int) -> tuple[Path, ...]:
    return tuple(path for path, n in token_counts.items() if n > limit)


def _paths(images: Sequence[TrainImage], captioned: Captioned) -> tuple[Path, ...]:
    return tuple(image.path for image in images if image.captioned == captioned)


def longest(
    image: TrainImage, count_tokens: Callable[[str], int], *, weighted: bool = False
) -> int:
    """Return the number of tokens of an image's longest possible caption."""

    def count(text: str) -> int:
        return count_tokens(prompt_weights.parse(text).text if weighted else text)

    if count_tokens is tokens.count and not weighted:
        tags = captions.only_tags(image.caption, image.subset.captions)
        if tags is not None:
            return tokens.count_tags(tags)
    return count(captions.longest(image.caption, image.subset.captions, count))


def _differs(image: TrainImage, source: Path | None) -> bool | None:
    """Tell whether a laid-out caption differs from its source's; None if the source is unknown or
    missing.
    """
    if source is None or not source.is_file():
        return None
    try:
        syntax = image.subset.captions.syntax
        original = read_caption(source, syntax) or Caption(())
    except DskError:  # unreadable, so it differs
        return True
    written = parse(image.caption if image.captioned == "written" else "", syntax)
    return not is_laid_out(written, original)
