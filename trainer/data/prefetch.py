"""Reading ahead: what the samples of a step need from the disk, read by threads while the steps
before it compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasetkit.options.train import TrainOptions
from trainer.data import captions as pipeline
from trainer.data import pixels, seeds
from trainer.data.epochs import Batch, Sample, epoch_batches, step_batches
from trainer.data.latents import Encoder
from trainer.data.pixels import Corner
from trainer.plan.plan import TrainImage, TrainingPlan

# Two read images faster than any graphics card encodes them; on a CPU one is enough, and the
# other sleeps.
WORKERS: Final = 2

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """One sample, read. at, flip: which part of the image it sees, and whether it is flipped.

    pixels: (height, width, 3), None where the latent was known already; mask: (height, width), None
    where nothing is masked.
    """

    image: TrainImage
    number: int
    at: Corner
    flip: bool
    caption: str
    pixels: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class StepBatches:
    """What one process computes for a step. number: from 0; epoch: from 0; batches: their places in
    the epoch, and their samples.
    """

    number: int
    epoch: int
    batches: tuple[tuple[int, tuple[PreparedSample, ...]], ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what the samples of a run need. It changes nothing, so that several threads may read at
    once.
    """

    options: TrainOptions
    plan: TrainingPlan
    encoder: Encoder
    process: int = 0

    def steps(
        self, start: int = 0, *, workers: int = WORKERS
    ) -> Generator[StepBatches, None, None]:
        """Yield the steps of a run from `start` on, read ahead by so many threads; 0: read when
        they are asked for.

        Raises InputError for an image that cannot be read any more, in its turn.
        """
        return ahead(self._wanted(start), self._read, workers)

    def batch(
        self, batch: Batch, epoch: int, step: int | None = None
    ) -> tuple[PreparedSample, ...]:
        """Read one batch. step: optimizer steps that were taken before it; None: so many that all
        tags are warm.
        """
        return tuple(self._look(sample, epoch, step) for sample in batch)

    def _wanted(self, start: int) -> Iterator[tuple[int, int, Sequence[tuple[int, Batch]]]]:
        per_epoch = self.plan.totals.steps_per_epoch
        batches: list[Batch] = []
        for step in range(start, self.plan.steps):
            epoch, of_epoch = divmod(step, per_epoch)
            if of_epoch == 0 or not batches:
                batches = epoch_batches(self.plan, self.options.seed, epoch)
            yield step, epoch, step_batches(batches, self.plan, of_epoch, self.process)

    def _read(self, wanted: tuple[int, int, Sequence[tuple[int, Batch]]]) -> StepBatches:
        step, epoch, batches = wanted
        return StepBatches(
            step, epoch, tuple((place, self.batch(batch, epoch, step)) for place, batch in batches)
        )

    def _look(self, sample: Sample, epoch: int, step: int | None) -> PreparedSample:
        image, options = self.plan.images[sample.image], self.options
        key = (options.seed, epoch, image.id, sample.number)
        draw = seeds.rng(*key, "crop").randint if image.subset.random_crop else None
        at = pixels.corner(image.bucket, draw)
        flip = image.subset.flip and seeds.rng(*key, "flip").random() < 0.5
        caption = pipeline.sample(
            image.caption, image.subset.captions, epoch + 1, seeds.rng(*key, "caption"),
            None if step is None else (step, self.plan.steps),
        )  # fmt: skip
        read = None if self.encoder.knows(image, at, flip) else pixels.read(image, at, flip=flip)
        if read is not None and image.subset.color:
            read = pixels.recoloured(read, seeds.rng(*key, "color"))
        mask = pixels.read_mask(image, at, flip=flip) if options.masked_loss else None
        return PreparedSample(image, sample.number, at, flip, caption, read, mask)


def ahead(items: Iterable[T], work: Callable[[T], R], workers: int) -> Generator[R, None, None]:
    """Yield `work` of each item, in order; `workers` threads are at most so many items ahead."""
    if workers == 0:
        yield from map(work, items)
        return
    begun: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="reading") as pool:
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
