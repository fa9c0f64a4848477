"""Epochs: in which order and in which batches an epoch visits its pictures, from the seed alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from datasetkit.dataset.buckets import Size
from trainer.data.seeds import rng
from trainer.plan.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one picture. picture: its place in the plan; number: which look at this content
    in the epoch, 0..

    Pictures of the same content share the numbering, so that no two looks draw the same noise.
    """

    picture: int
    number: int


Batch = tuple[Sample, ...]


def epoch_batches(plan: TrainingPlan, seed: int, epoch: int) -> list[Batch]:
    """Return the batches of an epoch (from 0): every visit exactly once, one bucket a batch.

    The order depends on the contents of the pictures and not on their names.
    """
    seen: Counter[str] = Counter()
    buckets: dict[Size, list[Sample]] = defaultdict(list)
    for index in sorted(range(len(plan.pictures)), key=lambda i: (plan.pictures[i].id, i)):
        picture = plan.pictures[index]
        for _ in range(plan.visits[index]):
            buckets[picture.bucket.bucket].append(Sample(index, seen[picture.id]))
            seen[picture.id] += 1
    random = rng(seed, epoch, "", 0, "order")
    batches: list[Batch] = []
    for size in sorted(buckets):
        random.shuffle(buckets[size])
        batches.extend(_cut(buckets[size], plan.schedule.batch_size))
    random.shuffle(batches)
    return batches


def _cut(visits: Sequence[Sample], size: int) -> list[Batch]:
    return [tuple(visits[i : i + size]) for i in range(0, len(visits), size)]


def step_batches(
    batches: Sequence[Batch], plan: TrainingPlan, step: int, process: int
) -> list[tuple[int, Batch]]:
    """Return what one process computes for a step of the epoch (from 0): batches with their places
    in the epoch.

    The batches go round the processes; in an epoch's last step some may have none.
    """
    schedule = plan.schedule
    size = schedule.gradient_accumulation * schedule.processes
    places = range(step * size + process, min((step + 1) * size, len(batches)), schedule.processes)
    return [(place, batches[place]) for place in places]
