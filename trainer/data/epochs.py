"""Epochs: in which order and in which batches an epoch samples its images, from the seed alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from datasetkit.dataset.buckets import Size
from trainer.data.seeds import rng
from trainer.plan.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one image. image: its place in the plan; number: which look at this content
    in the epoch, 0..

    Images of the same content share the numbering, so that no two looks draw the same noise.
    """

    image: int
    number: int


Batch = tuple[Sample, ...]


def epoch_batches(plan: TrainingPlan, seed: int, epoch: int) -> list[Batch]:
    """Return the batches of an epoch (from 0): every sample exactly once, one bucket a batch.

    The order depends on the contents of the images and not on their names.
    """
    seen: Counter[str] = Counter()
    buckets: dict[Size, list[Sample]] = defaultdict(list)
    for index in sorted(range(len(plan.images)), key=lambda i: (plan.images[i].id, i)):
        image = plan.images[index]
        for _ in range(plan.samples[index]):
            buckets[image.bucket.bucket].append(Sample(index, seen[image.id]))
            seen[image.id] += 1
    random = rng(seed, epoch, "", 0, "order")
    batches: list[Batch] = []
    for size in sorted(buckets):
        random.shuffle(buckets[size])
        batches.extend(_cut(buckets[size], plan.batch_settings.batch_size))
    random.shuffle(batches)
    return batches


def _cut(samples: Sequence[Sample], size: int) -> list[Batch]:
    return [tuple(samples[i : i + size]) for i in range(0, len(samples), size)]


def step_batches(
    batches: Sequence[Batch], plan: TrainingPlan, step: int, process: int
) -> list[tuple[int, Batch]]:
    """Return what one process computes for a step of the epoch (from 0): batches with their places
    in the epoch.

    The batches go round the processes; in an epoch's last step some may have none.
    """
    batch_settings = plan.batch_settings
    size = batch_settings.gradient_accumulation * batch_settings.processes
    places = range(
        step * size + process, min((step + 1) * size, len(batches)), batch_settings.processes
    )
    return [(place, batches[place]) for place in places]
