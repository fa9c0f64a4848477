"""Validation: the loss on held-out images, always with the same timesteps and noise, and the best
step.

Because the noise never changes, two validations are compared image by image: the mean of the
differences is known far more precisely than either loss. The same number of training images is
measured in the same way; if their loss keeps falling while the held-out loss does not, the LoRA
overfits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from datasetkit.core.files import write_atomic
from datasetkit.dataset import validation_split
from datasetkit.options.train import TrainOptions
from trainer import finite, loop
from trainer.data import captions, pixels, seeds
from trainer.data.captions import CaptionSettings
from trainer.data.prefetch import PreparedSample
from trainer.files.run_files import Replacing, unchecked
from trainer.loop import StepLog, TrainingSetup
from trainer.monitor import preview
from trainer.monitor.metrics import ValidationPoint, read_rows
from trainer.paired import difference
from trainer.plan.plan import TrainImage, TrainingPlan, block_name

# Timesteps at which each image is measured.
TIMESTEPS: Final = 4
BEST: Final = "best"


@dataclass(frozen=True, slots=True)
class BestStep:
    """The step with the lowest held-out loss so far. change, error: relative to step 0, see
    `ValidationPoint`.
    """

    step: int
    epoch: int
    loss: float
    change: float | None
    error: float | None


def choose_images(
    plan: TrainingPlan, options: TrainOptions
) -> tuple[tuple[TrainImage, ...], tuple[TrainImage, ...]]:
    """Return the held-out images to validate, and as many training images, chosen by content.

    An image that is trained at several resolutions is measured at each of them.
    """
    held = plan.held_out[: options.max_validation_steps]
    return held, training_images(plan, options, len(held))


def training_images(
    plan: TrainingPlan, options: TrainOptions, number: int
) -> tuple[TrainImage, ...]:
    """Return so many training images to measure, chosen by content."""
    trained = {
        (p.id, p.subset.block.number): p for p in reversed(plan.images) if not p.subset.is_reg
    }

    def rank(image: TrainImage) -> tuple[float, int]:
        fraction = validation_split.fraction_of(image.id, seed(options))
        return fraction, image.subset.block.number

    return tuple(sorted(trained.values(), key=rank)[:number])


def seed(options: TrainOptions) -> int:
    """Return the seed of the split and of the noise; it is independent of the run's seed."""
    return options.validation_seed or 0


def due(options: TrainOptions, log: StepLog, steps: int) -> bool:
    """Tell whether to validate after a step; always after the last of `steps`."""
    every_epochs, every_steps = options.validate_every_n_epochs, options.validate_every_n_steps
    if every_epochs is None:
        every_epochs = 0 if every_steps else 1
    by_epoch = bool(every_epochs) and log.last_of_epoch and log.epoch % max(1, every_epochs) == 0
    return log.step == steps or by_epoch or bool(every_steps and log.step % every_steps == 0)


def losses(setup: TrainingSetup, images: Sequence[TrainImage]) -> Tensor:
    """Return the loss of each image at each timestep of the grid: float64 on the CPU, (images,
    TIMESTEPS).

    The losses are weighted as in training. Captions are neither shuffled nor dropped, and images
    are not flipped. Each process computes a share of the images.
    """
    context = setup.device_context
    rows = torch.zeros(len(images), TIMESTEPS, dtype=context.loss_dtype, device=context.device)
    with preview.eval_mode(setup, decodes=False):
        for n in range(context.process, len(images), context.processes):
            rows[n] = _image_losses(setup, images[n]).to(rows.dtype)
        context.sum_over_processes([rows])
    return rows.double().cpu()


def _image_losses(setup: TrainingSetup, image: TrainImage) -> Tensor:
    options = setup.options
    validation_seed = seed(options)
    caption = caption_of(image, options)
    at = image.bucket.crop
    batch_size = image.subset.block.batch_size
    first_number = image.subset.block.number * TIMESTEPS  # other noise at each resolution
    mask = pixels.read_mask(image, at, flip=False) if options.masked_loss else None
    sample = PreparedSample(image, 0, at, False, caption, None, mask)
    parts = []
    for first in range(0, TIMESTEPS, batch_size):
        numbers = list(range(TIMESTEPS))[first : first + batch_size]

        def generators(purpose: str, numbers: list[int] = numbers) -> list[torch.Generator]:
            return [
                seeds.generator(
                    validation_seed, 0, image.id, first_number + n, f"validation {purpose}"
                )
                for n in numbers
            ]

        batch = [sample] * len(numbers)
        times = setup.process.grid(TIMESTEPS)[numbers]
        noisy_batch = loop.add_noise(setup, batch, times, generators, perturbed=False)
        parts.append(loop.weighted_losses(setup, batch, noisy_batch))
    return torch.cat(parts)


def caption_of(image: TrainImage, options: TrainOptions) -> str:
    """Return the caption that an image is measured with."""
    return captions.sample(
        image.caption,
        _without_randomness(image.subset.captions),
        1,
        seeds.rng(seed(options), 0, image.id, 0, "validation caption"),
    )


def _without_randomness(options: CaptionSettings) -> CaptionSettings:
    """Return caption options without shuffling and dropout."""
    return replace(
        options, shuffle_caption=False, caption_dropout_rate=0.0, caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
    )  # fmt: skip


def compare(
    step: int, epoch: int, now: Tensor, trained: Tensor, before: tuple[Tensor, Tensor] | None
) -> ValidationPoint:
    """Compare the losses after a step with those `before` the first one (held out, trained), if
    these are known.
    """
    change = error = trained_change = None
    if before is not None:
        held = difference(now, before[0])
        change, error = held.mean, held.error
        trained_change = difference(trained, before[1]).mean
    return ValidationPoint(
        step, epoch, float(now.mean()), float(trained.mean()), change, error, trained_change
    )


@dataclass(slots=True)
class Validator:
    """Validates a run and records the losses in `<name>-validation.jsonl`.

    start: the step that the run continues from; records of later steps are dropped. replacing:
    gives the paths to write to.
    """

    setup: TrainingSetup
    folder: Path
    name: str
    start: int = 0
    replacing: Replacing | None = None
    best: BestStep | None = None
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _images: tuple[tuple[TrainImage, ...], tuple[TrainImage, ...]] = ((), ())

    def __post_init__(self) -> None:
        self._images = choose_images(self.setup.plan, self.setup.options)
        lines = read_rows(self._record, _is_record) if self.start else []
        self._lines = [line for line in lines if line["step"] <= self.start]
        self.best = _read_best(self._best) if self.start else None

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}-validation.jsonl"

    @property
    def _best(self) -> Path:
        return _best_record(self.folder, self.name)

    def validate(self, step: int, epoch: int) -> ValidationPoint:
        """Validate after a step; all processes take part, the main one writes the record."""
        held, trained = self._images
        with self.setup.inference_weights():
            now, others = (losses(self.setup, images) for images in (held, trained))
        if not bool(torch.isfinite(torch.cat([now, others])).all()):
            context = self.setup.device_context
            what = f"the validation loss after step {step}"
            raise finite.diverged(what, step + 1, self.setup.options, context.dtype)
        before = self._before() if step else (now, others)
        point = compare(step, epoch, now, others, before)
        line = {
            "step": step,
            "epoch": epoch,
            "held_out": _named(held, now),
            "trained": _named(trained, others),
        }
        self._lines = [*(old for old in self._lines if old["step"] != step), line]
        if self.setup.device_context.is_main:
            text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in self._lines)
            self._write(self._record, text)
        return point

    def improved(self, point: ValidationPoint) -> bool:
        """Tell whether this is the lowest loss so far."""
        return self.best is None or point.loss < self.best.loss

    def record_best(self, point: ValidationPoint) -> None:
        """Record that the best LoRA was saved after this step."""
        self.best = BestStep(point.step, point.epoch, point.loss, point.change, point.error)
        self._write(self._best, json.dumps(asdict(self.best)))

    def _write(self, path: Path, text: str) -> None:
        with (self.replacing or unchecked(self.folder))(path.name) as path:
            write_atomic(path, text.encode("utf-8"))

    def _before(self) -> tuple[Tensor, Tensor] | None:
        """Return the losses before the first step; None without a record of these images."""
        first = next((line for line in self._lines if line["step"] == 0), None)
        if first is None:
            return None
        held, trained = self._images
        recorded = first["held_out"], first["trained"]
        names = [[_name(p) for p in images] for images in (held, trained)]
        if [[name for name, _ in rows] for rows in recorded] != names:
            return None
        before = [torch.tensor([row for _, row in rows], dtype=torch.float64) for rows in recorded]
        return before[0], before[1]


def _is_record(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has the losses of each image, as `Validator.validate` writes them."""
    try:
        return all(
            isinstance(name, str) and len([float(loss) for loss in losses]) == TIMESTEPS
            for key in ("held_out", "trained")
            for name, losses in row[key]
        )
    except (KeyError, TypeError, ValueError):
        return False


def _read_best(path: Path) -> BestStep | None:
    """Return the best step so far, None where it is not known."""
    try:
        best = BestStep(**json.loads(path.read_bytes()))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    is_whole = type(best.step) is type(best.epoch) is int and type(best.loss) is float
    is_whole &= all(n is None or type(n) is float for n in (best.change, best.error))
    return best if is_whole else None


def _best_record(folder: Path, name: str) -> Path:
    return folder / f"{name}-{BEST}.json"


def _name(image: TrainImage) -> str:
    number = image.subset.block.number
    name = f"{image.subset.folder.name}/{image.path.name}"
    return f"{name}, {block_name(image.subset.block)}" if number else name


def _named(images: Sequence[TrainImage], losses: Tensor) -> list[tuple[str, list[float]]]:
    return [(_name(image), row) for image, row in zip(images, losses.tolist(), strict=True)]
