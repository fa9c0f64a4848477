"""Repeats: the samples of an image in an epoch, and the exact number of optimizer steps.

The planner and the trainer use the same functions, so the printed numbers are the trained ones. A
sample is one image used once in an epoch; an epoch uses each training image `repeats` times, at
each resolution; batches mix neither buckets nor resolutions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeVar

from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.dataset.buckets import BucketRules, Size, select

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegSamples(Generic[T]):
    """The regularisation images of an epoch, and how often each is used. unused: the others."""

    samples: tuple[tuple[T, int], ...]
    unused: tuple[T, ...]

    @property
    def total(self) -> int:
        """Return how many samples the regularisation images add to an epoch."""
        return sum(n for _, n in self.samples)


def reg_samples(num_train: int, reg: Sequence[tuple[T, int]]) -> RegSamples[T]:
    """Match the (image, repeats) of a regularisation set to `num_train` training samples, in order.

    As sd-scripts does: images are used with their repeats until there are as many samples as
    training samples (the last image may overshoot); if the set is too small, rounds of one sample
    per image follow. So an epoch has about twice the samples.
    """
    # With few images and few repeats the rounds make the numbers uneven: 3 images at 2 for 8
    # training samples give 2 + 2 + 2, then one round of 1 to the first two: 3, 3, 2.
    used: list[tuple[T, int]] = []
    missing = num_train
    for image, repeats in reg:
        if missing <= 0:
            break
        used.append((image, repeats))
        missing -= repeats
    if missing > 0 and used:
        rounds, rest = divmod(missing, len(used))
        used = [(image, n + rounds + (i < rest)) for i, (image, n) in enumerate(used)]
    return RegSamples(tuple(used), tuple(image for image, _ in reg[len(used) :]))


def balance_reg(train_samples: int, reg_images: int) -> int:
    """Return the most repeats with which every regularisation image is used, at least 1."""
    return max(1, train_samples // max(1, reg_images))


def epoch_batches(bucket_counts: Mapping[Size, int], batch_size: int) -> int:
    """Return the batches of an epoch from the samples of each bucket, each rounded up."""
    return sum(-(-samples // batch_size) for samples in bucket_counts.values())


def steps_per_epoch(batches: int, gradient_accumulation: int = 1, processes: int = 1) -> int:
    """Return the optimizer steps of an epoch; a last, partial accumulation is a step too."""
    return -(-batches // (gradient_accumulation * processes))


@dataclass(frozen=True, slots=True)
class DatasetBlock:
    """Images that share buckets and batches: one of several resolutions, or one `[[datasets]]` of a
    dataset.toml.

    Regularisation images are matched to the training images of their own block. batch_size: per
    process; number: position in the run, from 0.
    """

    rules: BucketRules
    batch_size: int = 1
    number: int = 0


@dataclass(frozen=True, slots=True)
class BlockSamples:
    """The samples of an epoch in one block. buckets: bucket -> samples; batch_size: per process."""

    buckets: Mapping[Size, int]
    batch_size: int = 1
    resolution: Size = (512, 512)

    @property
    def samples(self) -> int:
        return sum(self.buckets.values())

    @property
    def batches(self) -> int:
        return epoch_batches(self.buckets, self.batch_size)

    def times(self, repeats: int) -> BlockSamples:
        """Return the block with each sample `repeats` times."""
        return replace(self, buckets={bucket: n * repeats for bucket, n in self.buckets.items()})


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """The settings that turn samples into optimizer steps. batch_size: per process; of several
    blocks that of the main one.
    """

    epochs: int = 10
    batch_size: int = 1
    gradient_accumulation: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "gradient_accumulation", "processes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", hint="use 1 or more")

    @property
    def samples_per_step(self) -> int:
        """Return the samples of a full optimizer step, over all processes."""
        return self.batch_size * self.gradient_accumulation * self.processes

    def steps_per_epoch(self, blocks: Sequence[BlockSamples]) -> int:
        """Return the optimizer steps of an epoch from the samples of each block."""
        batches = sum(block.batches for block in blocks)
        return steps_per_epoch(batches, self.gradient_accumulation, self.processes)

    def steps(self, blocks: Sequence[BlockSamples]) -> int:
        """Return the optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch(blocks)

    def totals(self, blocks: Sequence[BlockSamples]) -> Totals:
        """Count an epoch and the whole run."""
        buckets: Counter[Size] = Counter()
        for block in blocks:
            buckets.update(block.buckets)
        return Totals(
            samples=buckets.total(),
            buckets=dict(sorted(buckets.items())),
            batches=sum(block.batches for block in blocks),
            steps_per_epoch=self.steps_per_epoch(blocks),
            steps=self.steps(blocks),
            blocks=tuple(
                BlockTotals(
                    block.resolution, block.batch_size, block.samples,
                    dict(sorted(block.buckets.items())), block.batches,
                )
                for block in blocks
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BlockTotals:
    """The exact numbers of an epoch in one block. buckets: bucket -> samples."""

    resolution: Size
    batch_size: int
    samples: int
    buckets: Mapping[Size, int]
    batches: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The exact numbers of a run. samples, buckets (bucket -> samples), batches: of an epoch, over
    all blocks.
    """

    samples: int
    buckets: Mapping[Size, int]
    batches: int
    steps_per_epoch: int
    steps: int
    blocks: tuple[BlockTotals, ...] = ()


@dataclass(frozen=True, slots=True)
class ConceptImages:
    """The images of one concept, by size if known, else by number.

    sizes: (width, height) in pixels after EXIF rotation. repeats: fixed by the user, None to be
    planned (None means 1 for a regularisation set).
    """

    name: str
    sizes: Sequence[Size] = ()
    count: int = 0
    repeats: int | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise DatasetError(
                f"the concept {self.name!r} has no images", hint="add images, or remove the folder"
            )
        if self.repeats is not None and self.repeats < 1:
            raise ConfigError(f"repeats = {self.repeats} for {self.name!r}", hint="use 1 or more")

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.sizes) or max(0, self.count)

    def buckets(self, rules: BucketRules) -> tuple[Size, ...]:
        """Return the bucket of each image, in order; the resolution for images of unknown size."""
        if not self.sizes:
            return (rules.resolution,) * self.images
        selected = {size: select(rules, *size).bucket for size in set(self.sizes)}
        return tuple(selected[size] for size in self.sizes)


@dataclass(frozen=True, slots=True)
class ConceptPlan:
    """The plan of one concept.

    buckets: bucket -> images, over all resolutions. ideal: steps / epochs / images * batch before
    rounding, None if repeats are fixed or no steps were requested. alone: the exact numbers if only
    this concept were trained, without regularisation. one_bucket_assumed: sizes are unknown, so the
    rounding per bucket is missing.
    """

    name: str
    images: int
    repeats: int
    buckets: Mapping[Size, int]
    alone: Totals
    ideal: float | None = None
    one_bucket_assumed: bool = False

    @property
    def samples(self) -> int:
        """Return the samples per epoch, at all resolutions."""
        return self.alone.samples


@dataclass(frozen=True, slots=True)
class RegPlan:
    """The samples of an epoch from the regularisation set, at all resolutions. wanted: its images x
    repeats; samples: those that are used; unused: images.
    """

    images: int
    wanted: int
    samples: int
    unused: int


@dataclass(frozen=True, slots=True)
class RepeatsPlan:
    """The plan of a run: per concept, for all concepts, and with the regularisation set.

    steps: the requested optimizer steps per concept, None if there are none. train: all concepts
    (they share batches, so it can be less than their sum). total: train and regularisation.
    """

    concepts: tuple[ConceptPlan, ...]
    batch_settings: BatchSettings
    train: Totals
    total: Totals
    steps: int | None = None
    reg: RegPlan | None = None


def plan(
    concepts: Sequence[ConceptImages],
    *,
    rules: BucketRules | Sequence[BucketRules],
    batch_settings: BatchSettings,
    steps: int | None = None,
    reg: Sequence[ConceptImages] = (),
) -> RepeatsPlan:
    """Choose the repeats of each concept, and count the exact steps.

    rules: of each resolution at which every image is trained. steps: the optimizer steps per
    concept, on its own images. The concept with the most images gets the repeats nearest to them;
    the others get the repeats that bring their samples per epoch nearest to its samples (76 images
    at 1 and 16 at 5: 76 and 80). Without steps the most images get 1, or the others follow the
    concept with the most samples among those with fixed repeats. Fixed repeats are never changed.
    """
    if not concepts:
        raise DatasetError(
            "there is no concept to plan", hint="create folders such as `10_name`, or name a folder"
        )
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps}", hint="use 1 or more")
    resolutions = (rules,) if isinstance(rules, BucketRules) else tuple(rules)
    counts = [_count(concept, resolutions, batch_settings) for concept in concepts]
    repeats = _choose(concepts, counts, batch_settings, steps)
    planned = tuple(
        ConceptPlan(
            name=concept.name,
            images=concept.images,
            repeats=n,
            buckets=batch_settings.totals(count).buckets,
            alone=batch_settings.totals([block.times(n) for block in count]),
            ideal=None
            if steps is None or concept.repeats
            else _ideal(count, batch_settings, steps),
            one_bucket_assumed=resolutions[0].enabled and not concept.sizes,
        )
        for concept, count, n in zip(concepts, counts, repeats, strict=True)
    )
    num_train = sum(concept.images * n for concept, n in zip(concepts, repeats, strict=True))
    train: list[BlockSamples] = []
    total: list[BlockSamples] = []
    reg_plans: list[RegPlan] = []
    for i, block_rules in enumerate(resolutions):
        samples: Counter[Size] = Counter()
        for count, n in zip(counts, repeats, strict=True):
            samples.update(count[i].times(n).buckets)
        reg_plan, added = _match_reg(reg, block_rules, num_train)
        block = BlockSamples(samples, batch_settings.batch_size, block_rules.resolution)
        train.append(block)
        total.append(replace(block, buckets=samples + added))
        reg_plans.append(reg_plan)
    return RepeatsPlan(
        concepts=planned,
        batch_settings=batch_settings,
        train=batch_settings.totals(train),
        total=batch_settings.totals(total),
        steps=steps,
        reg=RegPlan(
            reg_plans[0].images,
            sum(each.wanted for each in reg_plans),
            sum(each.samples for each in reg_plans),
            reg_plans[0].unused,
        )
        if reg
        else None,
    )


def _count(
    concept: ConceptImages, resolutions: Sequence[BucketRules], batch_settings: BatchSettings
) -> tuple[BlockSamples, ...]:
    """Return the images of a concept in each bucket, by resolution."""
    return tuple(
        BlockSamples(Counter(concept.buckets(rules)), batch_settings.batch_size, rules.resolution)
        for rules in resolutions
    )


def _match_reg(
    reg: Sequence[ConceptImages], rules: BucketRules, num_train: int
) -> tuple[RegPlan, Counter[Size]]:
    """Return the plan of the regularisation set at one resolution, and the samples that it adds to
    each bucket.
    """
    added: Counter[Size] = Counter()
    used = reg_samples(num_train, [(b, c.repeats or 1) for c in reg for b in c.buckets(rules)])
    for bucket, n in used.samples:
        added[bucket] += n
    wanted = sum(c.images * (c.repeats or 1) for c in reg)
    return RegPlan(sum(c.images for c in reg), wanted, used.total, len(used.unused)), added


def _choose(
    concepts: Sequence[ConceptImages],
    counts: Sequence[Sequence[BlockSamples]],
    batch_settings: BatchSettings,
    steps: int | None,
) -> list[int]:
    # The concept with the most images is the anchor: one repeat more changes its samples most, so
    # its choices are the coarsest, and the others can follow it more closely than it could them.
    free = [i for i, concept in enumerate(concepts) if concept.repeats is None]
    anchor = max(free, key=lambda i: concepts[i].images, default=None)
    fixed = [
        concept.images * concept.repeats for concept in concepts if concept.repeats is not None
    ]
    if steps is not None and anchor is not None:
        samples = concepts[anchor].images * nearest_repeats(counts[anchor], batch_settings, steps)
    elif fixed or anchor is None:
        samples = max(fixed)
    else:
        samples = concepts[anchor].images
    return [concept.repeats or _nearest_multiple(samples, concept.images) for concept in concepts]


def nearest_repeats(
    images: Sequence[BlockSamples], batch_settings: BatchSettings, steps: int
) -> int:
    """Return the repeats whose exact optimizer steps are nearest to `steps`, at least 1.

    images: of each block, with one sample for each image. Of several repeats with the same steps,
    return the one nearest to steps / epochs / images * batch; of two equally near, the smaller.
    """

    def exact(repeats: int) -> int:
        return batch_settings.steps([block.times(repeats) for block in images])

    # Rounding up batches makes the exact steps at least those of the formula, so the formula is an
    # upper bound of the repeats; exact steps grow with the repeats, so a binary search finds them.
    ideal = _ideal(images, batch_settings, steps)
    candidates = range(1, int(ideal) + 2)
    below = bisect_right(candidates, steps, key=exact)
    above = below + 1
    if below and steps - exact(below) <= exact(above) - steps:
        return below
    last = above
    while last < ideal and exact(last + 1) == exact(above):
        last += 1
    return min(range(above, last + 1), key=lambda repeats: (abs(repeats - ideal), repeats))


def _ideal(images: Sequence[BlockSamples], batch_settings: BatchSettings, steps: int) -> float:
    """Return steps / epochs / images * batch: 1000 / 10 / 10 * 2 = 20; at two resolutions half."""
    batches = sum((Fraction(block.samples, block.batch_size) for block in images), Fraction(0))
    per_step = batch_settings.gradient_accumulation * batch_settings.processes
    return float(steps * per_step / (batch_settings.epochs * batches))


def _nearest_multiple(samples: int, images: int) -> int:
    """Return the repeats that bring `images` images nearest to `samples` (ties: fewer), at least
    1.
    """
    below = samples // images
    return max(
        1, below if samples - below * images <= (below + 1) * images - samples else below + 1
    )
