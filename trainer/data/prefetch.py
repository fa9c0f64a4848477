"""Prefetch: threads read the samples of later steps from the disk while a step computes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from datasetkit.options.train import TrainOptions
from trainer.data import captions, pixels, seeds
from trainer.data.epochs import Batch, Sample, epoch_batches, step_batches
from trainer.data.latent_cache import Moments
from trainer.data.latents import Encoder
from trainer.data.map_ahead import map_ahead
from trainer.data.pixels import Corner
from trainer.plan.plan import TrainImage, TrainingPlan

# Two threads read images faster than any GPU encodes them; on a CPU one is enough.
WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """One sample, read from disk. at: corner of its crop; flip: it is mirrored.

    pixels: (height, width, 3), None if the latent is cached; mask: (height, width), None without
    masked_loss. latent: that was read from the disk; None for one in memory, or not cached.
    """

    image: TrainImage
    number: int
    at: Corner
    flip: bool
    caption: str
    pixels: NDArray[np.uint8] | None
    mask: NDArray[np.uint8] | None
    latent: Moments | None = None


@dataclass(frozen=True, slots=True)
class StepBatches:
    """One process's work for a step. number, epoch: from 0; batches: index in the epoch, and
    samples.
    """

    number: int
    epoch: int
    batches: tuple[tuple[int, tuple[PreparedSample, ...]], ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the samples of a run. It has no mutable state, so several threads may use it."""

    options: TrainOptions
    plan: TrainingPlan
    encoder: Encoder
    process: int = 0

    def steps(
        self, start: int = 0, *, workers: int = WORKERS
    ) -> Generator[StepBatches, None, None]:
        """Yield the steps of a run from `start` on, read ahead by so many threads; 0: no threads.

        Raises InputError for an image that can no longer be read, when its step is reached.
        """
        return map_ahead(self._step_batches(start), self._read, workers)

    def batch(
        self, batch: Batch, epoch: int, step: int | None = None
    ) -> tuple[PreparedSample, ...]:
        """Read one batch. step: optimizer steps taken before it; None: after the token warm-up."""
        return tuple(self._prepare(sample, epoch, step) for sample in batch)

    def _step_batches(self, start: int) -> Iterator[tuple[int, int, Sequence[tuple[int, Batch]]]]:
        per_epoch = self.plan.totals.steps_per_epoch
        batches: list[Batch] = []
        for step in range(start, self.plan.steps):
            epoch, of_epoch = divmod(step, per_epoch)
            if of_epoch == 0 or not batches:
                batches = epoch_batches(self.plan, self.options.seed, epoch)
            yield step, epoch, step_batches(batches, self.plan, of_epoch, self.process)

    def _read(self, work: tuple[int, int, Sequence[tuple[int, Batch]]]) -> StepBatches:
        step, epoch, batches = work
        return StepBatches(
            step, epoch, tuple((index, self.batch(batch, epoch, step)) for index, batch in batches)
        )

    def _prepare(self, sample: Sample, epoch: int, step: int | None) -> PreparedSample:
        image, options = self.plan.images[sample.image], self.options
        key = (options.seed, epoch, image.id, sample.number)
        draw = seeds.rng(*key, "crop").randint if image.subset.random_crop else None
        at = pixels.corner(image.bucket, draw)
        flip = image.subset.flip and seeds.rng(*key, "flip").random() < 0.5
        caption = drawn_caption(self.plan, options, sample, epoch, step)
        latent = self.encoder.on_disk(image, at, flip)
        is_cached = latent is not None or self.encoder.is_cached(image, at, flip)
        array = None if is_cached else pixels.read(image, at, flip=flip)
        if array is not None and image.subset.color:
            array = pixels.color_augmented(array, seeds.rng(*key, "color"))
        mask = pixels.read_mask(image, at, flip=flip) if options.masked_loss else None
        return PreparedSample(image, sample.number, at, flip, caption, array, mask, latent)


def drawn_caption(
    plan: TrainingPlan, options: TrainOptions, sample: Sample, epoch: int, step: int | None
) -> str:
    """Return the caption of a sample. step: optimizer steps taken before it; None: after the token
    warm-up.

    With text_wordings an image's captions repeat after so many epochs.
    """
    image = plan.images[sample.image]
    wording = epoch % options.text_wordings if options.text_wordings else epoch
    random = seeds.rng(options.seed, wording, image.id, sample.number, "caption")
    progress = None if step is None else (step, plan.steps)
    return captions.sample(image.caption, image.subset.captions, epoch + 1, random, progress)
