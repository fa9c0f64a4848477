"""Repeats: how many times an image is seen in an epoch, and how many optimizer steps that makes,
exactly.

The planner and the trainer count with these same functions, so what is printed is what is trained.
A sample is one look at one image; an epoch samples each training image `repeats` times; batches
never mix buckets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.dataset.buckets import BucketRules, Size, select

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RegSamples(Generic[T]):
    """Which regularisation images an epoch uses, and how often each. unused: those it never
    reaches.
    """

    samples: tuple[tuple[T, int], ...]
    unused: tuple[T, ...]

    @property
    def total(self) -> int:
        """Return the samples that the regularisation images add to an epoch."""
        return sum(n for _, n in self.samples)


def reg_samples(num_train: int, reg: Sequence[tuple[T, int]]) -> RegSamples[T]:
    """Match (image, repeats) of the regularisation set to `num_train` training samples, in order.

    As sd-scripts: each image comes with its repeats until the training samples are reached (the
    last may overshoot); when the set is too small, rounds of one sample each follow. So an epoch
    has about twice the samples.
    """
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
    """Return the most repeats with which every regularisation image is still used; 1 where even
    that is too many.
    """
    return max(1, train_samples // max(1, reg_images))


def epoch_batches(bucket_counts: Mapping[Size, int], batch_size: int) -> int:
    """Return the batches of an epoch from the samples in each bucket; each bucket rounds up its
    last batch.
    """
    return sum(-(-samples // batch_size) for samples in bucket_counts.values())


def steps_per_epoch(batches: int, gradient_accumulation: int = 1, processes: int = 1) -> int:
    """Return the optimizer steps of an epoch; a last, partial accumulation still steps."""
    return -(-batches // (gradient_accumulation * processes))


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What turns samples into optimizer steps. batch_size: images a batch and process."""

    epochs: int = 10
    batch_size: int = 1
    gradient_accumulation: int = 1
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "gradient_accumulation", "processes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", hint="give 1 or more")

    @property
    def samples_per_step(self) -> int:
        """Return the samples of a full optimizer step, over all processes."""
        return self.batch_size * self.gradient_accumulation * self.processes

    def steps_per_epoch(self, bucket_counts: Mapping[Size, int]) -> int:
        """Return the optimizer steps of an epoch from the samples in each bucket."""
        batches = epoch_batches(bucket_counts, self.batch_size)
        return steps_per_epoch(batches, self.gradient_accumulation, self.processes)

    def steps(self, bucket_counts: Mapping[Size, int]) -> int:
        """Return the optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch(bucket_counts)

    def totals(self, bucket_counts: Mapping[Size, int]) -> Totals:
        """Count an epoch and the whole run."""
        return Totals(
            samples=sum(bucket_counts.values()),
            buckets=dict(sorted(bucket_counts.items())),
            batches=epoch_batches(bucket_counts, self.batch_size),
            steps_per_epoch=self.steps_per_epoch(bucket_counts),
            steps=self.steps(bucket_counts),
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """The exact numbers of a run. samples, buckets (samples in each), batches, steps_per_epoch: an
    epoch's.
    """

    samples: int
    buckets: Mapping[Size, int]
    batches: int
    steps_per_epoch: int
    steps: int


@dataclass(frozen=True, slots=True)
class ConceptImages:
    """The images of one concept, by their sizes where these are known, else by their number.

    sizes: (width, height) in pixels, EXIF turn applied. repeats: fixed by the person, None to be
    planned (for a regularisation set None means 1).
    """

    name: str
    sizes: Sequence[Size] = ()
    count: int = 0
    repeats: int | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise DatasetError(
                f"the concept {self.name!r} has no images", hint="add images or drop the folder"
            )
        if self.repeats is not None and self.repeats < 1:
            raise ConfigError(f"repeats = {self.repeats} for {self.name!r}", hint="give 1 or more")

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.sizes) or max(0, self.count)

    def buckets(self, rules: BucketRules) -> tuple[Size, ...]:
        """Return the bucket of each image, in order; without sizes all are taken to be of the
        resolution.
        """
        if not self.sizes:
            return (rules.resolution,) * self.images
        return tuple(select(rules, *size).bucket for size in self.sizes)


@dataclass(frozen=True, slots=True)
class ConceptPlan:
    """What was planned for one concept.

    buckets: bucket -> images. ideal: steps / epochs / images * batch before rounding, None where
    repeats were fixed or no steps were asked. alone: the exact numbers if this concept were trained
    alone, without regularisation. one_bucket_assumed: the sizes were not known, so the rounding of
    each bucket is missing.
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
        """Return the samples of an epoch."""
        return self.images * self.repeats


@dataclass(frozen=True, slots=True)
class RegPlan:
    """What an epoch takes from the regularisation set. wanted: its images x repeats; samples: what
    is really taken.
    """

    images: int
    wanted: int
    samples: int
    unused: int


@dataclass(frozen=True, slots=True)
class RepeatsPlan:
    """The plan of a run: per concept, for all concepts together, and with the regularisation set.

    steps: the optimizer steps asked for a concept, None for none. train: all concepts (they share
    batches, so it may be less than the sum of them alone). total: train and regularisation
    together; equal to train without a set.
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
    rules: BucketRules,
    batch_settings: BatchSettings,
    steps: int | None = None,
    reg: Sequence[ConceptImages] = (),
) -> RepeatsPlan:
    """Choose the repeats of each concept and count the steps, exactly.

    steps: optimizer steps for a concept on its own images. The concept of the most images, whose
    samples can be chosen in the coarsest way only, comes as near to them as can be; the others get
    the repeats that bring their samples an epoch nearest to its samples (76 images at 1 and 16 at
    5: 76 and 80). Without steps the most images get 1, or the others follow the largest concept
    whose repeats are fixed. Fixed repeats are never changed.
    """
    if not concepts:
        raise DatasetError(
            "there is no concept to plan", hint="make folders such as `10_name`, or name a folder"
        )
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps}", hint="give 1 or more")
    counts = [Counter(concept.buckets(rules)) for concept in concepts]
    repeats = _choose(concepts, counts, batch_settings, steps)
    planned = tuple(
        ConceptPlan(
            name=concept.name,
            images=concept.images,
            repeats=n,
            buckets=dict(sorted(count.items())),
            alone=batch_settings.totals(_times(count, n)),
            ideal=None
            if steps is None or concept.repeats
            else _ideal(concept.images, batch_settings, steps),
            one_bucket_assumed=rules.enabled and not concept.sizes,
        )
        for concept, count, n in zip(concepts, counts, repeats, strict=True)
    )
    train: Counter[Size] = Counter()
    for count, n in zip(counts, repeats, strict=True):
        train.update(_times(count, n))
    reg_plan, added = _match_reg(reg, rules, train.total())
    return RepeatsPlan(
        concepts=planned,
        batch_settings=batch_settings,
        train=batch_settings.totals(train),
        total=batch_settings.totals(train + added),
        steps=steps,
        reg=reg_plan,
    )


def _match_reg(
    reg: Sequence[ConceptImages], rules: BucketRules, num_train: int
) -> tuple[RegPlan | None, Counter[Size]]:
    """Return what an epoch takes from the regularisation set, and the samples that this adds to
    each bucket.
    """
    added: Counter[Size] = Counter()
    if not reg:
        return None, added
    taken = reg_samples(num_train, [(b, c.repeats or 1) for c in reg for b in c.buckets(rules)])
    for bucket, n in taken.samples:
        added[bucket] += n
    wanted = sum(c.images * (c.repeats or 1) for c in reg)
    return RegPlan(sum(c.images for c in reg), wanted, taken.total, len(taken.unused)), added


def _choose(
    concepts: Sequence[ConceptImages],
    counts: Sequence[Counter[Size]],
    batch_settings: BatchSettings,
    steps: int | None,
) -> list[int]:
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


def nearest_repeats(images: Mapping[Size, int], batch_settings: BatchSettings, steps: int) -> int:
    """Return the repeats whose exact optimizer steps come nearest to `steps`, at least 1.

    images: bucket -> images. Of several with the same steps the one nearest to steps / epochs /
    images * batch; of two equally far, the smaller.
    """

    def exact(repeats: int) -> int:
        return batch_settings.steps(_times(images, repeats))

    # The exact steps never fall short of the formula's, so the formula bounds the repeats from
    # above.
    ideal = _ideal(sum(images.values()), batch_settings, steps)
    candidates = range(1, int(ideal) + 2)
    below = bisect_right(candidates, steps, key=exact)
    above = below + 1
    if below and steps - exact(below) <= exact(above) - steps:
        return below
    last = above
    while last < ideal and exact(last + 1) == exact(above):
        last += 1
    return min(range(above, last + 1), key=lambda repeats: (abs(repeats - ideal), repeats))


def _ideal(images: int, batch_settings: BatchSettings, steps: int) -> float:
    """Return steps / epochs / images * batch: 1000 / 10 / 10 * 2 = 20."""
    return steps * batch_settings.samples_per_step / (batch_settings.epochs * images)


def _nearest_multiple(samples: int, images: int) -> int:
    """Return the repeats that bring `images` images nearest to `samples`, the smaller of two, at
    least 1.
    """
    below = samples // images
    return max(
        1, below if samples - below * images <= (below + 1) * images - samples else below + 1
    )


def _times(images: Mapping[Size, int], repeats: int) -> Counter[Size]:
    return Counter({bucket: n * repeats for bucket, n in images.items()})
