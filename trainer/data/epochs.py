"""Epochs: the order and the batches of an epoch's samples, determined by the seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from datasetkit.dataset.buckets import Size
from trainer.data.seeds import rng
from trainer.plan.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class Sample:
    """One use of an image. image: its index in the plan; number: which use of this content in the
    epoch, from 0.

    Images of the same content share the numbering, also an image at several resolutions, so that no
    two samples draw the same noise.
    """

    image: int
    number: int


Batch = tuple[Sample, ...]


def epoch_batches(plan: TrainingPlan, seed: int, epoch: int) -> list[Batch]:
    """Return the batches of an epoch (from 0): every sample exactly once, one bucket of one
    block per batch.

    The order depends on the images' contents, not on their names.
    """
    uses: Counter[str] = Counter()
    buckets: dict[tuple[int, Size], list[Sample]] = defaultdict(list)
    batch_sizes: dict[int, int] = {}
    for index in sorted(range(len(plan.images)), key=lambda i: (plan.images[i].id, i)):
        image = plan.images[index]
        block = image.subset.block
        batch_sizes[block.number] = block.batch_size
        for _ in range(plan.samples[index]):
            buckets[block.number, image.bucket.bucket].append(Sample(index, uses[image.id]))
            uses[image.id] += 1
    random = rng(seed, epoch, "", 0, "order")
    batches: list[Batch] = []
    for number, size in sorted(buckets):
        samples = buckets[number, size]
        random.shuffle(samples)
        batches.extend(_cut(samples, batch_sizes[number]))
    random.shuffle(batches)
    return batches


def _cut(samples: Sequence[Sample], size: int) -> list[Batch]:
    return [tuple(samples[i : i + size]) for i in range(0, len(samples), size)]


def step_batches(
    batches: Sequence[Batch], plan: TrainingPlan, step: int, process: int
) -> list[tuple[int, Batch]]:
    """Return one process's batches for a step of the epoch (from 0), with their indices in the
    epoch.

    Batches are assigned round-robin; in an epoch's last step some processes may have none.
    """
    batch_settings = plan.batch_settings
    size = batch_settings.gradient_accumulation * batch_settings.processes
    end = min((step + 1) * size, len(batches))
    indices = range(step * size + process, end, batch_settings.processes)
    return [(index, batches[index]) for index in indices]
