"""Validation: the loss on held-out images, each time on the same timesteps with the same noise,
and the best step.

As nothing is drawn anew, two moments of a run are compared image by image: the mean of the
differences is known far better than either loss. As many trained images are looked at in the same
way; where their loss falls on and that of the held-out ones does not, the LoRA learns images by
heart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from datasetkit.core.files import write_atomic, writing
from datasetkit.dataset import validation_split
from datasetkit.options.train import TrainOptions
from trainer import loop
from trainer.data import captions, pixels, seeds
from trainer.data.captions import CaptionOptions
from trainer.data.prefetch import PreparedSample
from trainer.loop import StepLog, TrainingSetup
from trainer.monitor import preview
from trainer.monitor.metrics import ValidationPoint, rows
from trainer.plan.plan import TrainImage, TrainingPlan

# Timesteps at which each image is looked at.
CELLS: Final = 4
BEST: Final = "best"


@dataclass(frozen=True, slots=True)
class BestStep:
    """The step of the least loss on held-out images so far. change, error: against step 0, as of
    `ValidationPoint`.
    """

    step: int
    epoch: int
    loss: float
    change: float | None
    error: float | None


def grid(options: TrainOptions) -> tuple[int, ...]:
    """Return the timesteps: the middles of equal parts of those that are trained."""
    low, high = options.min_timestep, options.max_timestep
    return tuple(low + (2 * n + 1) * (high - low) // (2 * CELLS) for n in range(CELLS))


def compared(
    plan: TrainingPlan, options: TrainOptions
) -> tuple[tuple[TrainImage, ...], tuple[TrainImage, ...]]:
    """Return the held-out images that are looked at, and as many of the trained ones, chosen by
    their contents.
    """
    held = plan.held_out[: options.max_validation_steps]
    own = {p.id: p for p in reversed(plan.images) if not p.subset.is_reg}
    ranked = sorted(own.values(), key=lambda p: validation_split.fraction_of(p.id, seed(options)))
    return held, tuple(ranked[: len(held)])


def seed(options: TrainOptions) -> int:
    """Return the seed of the split and of the noise, which does not follow the run's own."""
    return options.validation_seed or 0


def due(options: TrainOptions, log: StepLog, steps: int) -> bool:
    """Tell whether the held-out images are looked at after a step; after the last one (of
    `steps`) always.
    """
    of_epochs, of_steps = options.validate_every_n_epochs, options.validate_every_n_steps
    if of_epochs is None:
        of_epochs = 0 if of_steps else 1
    by_epoch = bool(of_epochs) and log.last_of_epoch and log.epoch % max(1, of_epochs) == 0
    return log.step == steps or by_epoch or bool(of_steps and log.step % of_steps == 0)


def losses(setup: TrainingSetup, images: Sequence[TrainImage]) -> Tensor:
    """Return the loss of each image at each timestep of the grid: float64 on the CPU, (images,
    CELLS).

    The losses are weighted as in training; captions are neither shuffled nor dropped, images not
    flipped. The processes share the images.
    """
    place = setup.place
    found = torch.zeros(len(images), CELLS, dtype=place.tally, device=place.device)
    with preview.at_rest(setup, decodes=False):
        for n in range(place.process, len(images), place.processes):
            found[n] = _of_image(setup, images[n]).to(found.dtype)
        place.summed([found])
    return found.double().cpu()


def _of_image(setup: TrainingSetup, image: TrainImage) -> Tensor:
    options = setup.options
    chosen = seed(options)
    caption = captions.sample(
        image.caption,
        _still(image.subset.captions),
        1,
        seeds.rng(chosen, 0, image.id, 0, "validation caption"),
    )
    at = image.bucket.crop
    mask = pixels.read_mask(image, at, flip=False) if options.masked_loss else None
    seen = PreparedSample(image, 0, at, False, caption, None, mask)
    made = []
    for first in range(0, CELLS, options.train_batch_size):
        numbers = list(range(CELLS))[first : first + options.train_batch_size]

        def generators(purpose: str, numbers: list[int] = numbers) -> list[torch.Generator]:
            return [
                seeds.generator(chosen, 0, image.id, n, f"validation {purpose}") for n in numbers
            ]

        batch = [seen] * len(numbers)
        t = torch.tensor(grid(options))[numbers]
        made.append(
            loop.objective(setup, batch, loop.draw(setup, batch, t, generators, perturbed=False))
        )
    return torch.cat(made)


def _still(options: CaptionOptions) -> CaptionOptions:
    """Return how a caption is read where nothing about it varies."""
    return replace(
        options, shuffle_caption=False, caption_dropout_rate=0.0, caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
    )  # fmt: skip


def check(
    step: int, epoch: int, now: Tensor, trained: Tensor, before: tuple[Tensor, Tensor] | None
) -> ValidationPoint:
    """Compare the losses of a moment with those `before` the first step (held out, trained), where
    these are known.

    The standard error is over images: what the timesteps of one image say is not independent.
    """
    change = error = trained_change = None
    if before is not None:
        differences = (now - before[0]).mean(dim=1)
        change, trained_change = float(differences.mean()), float((trained - before[1]).mean())
        if len(differences) > 1:
            error = float(differences.std(correction=1)) / math.sqrt(len(differences))
    return ValidationPoint(
        step, epoch, float(now.mean()), float(trained.mean()), change, error, trained_change
    )


@dataclass(slots=True)
class Validator:
    """Looks at the held-out images of a run, and remembers what it saw in
    `<name>-validation.jsonl`.

    start: the step that the run goes on from; what was seen later is seen again.
    """

    setup: TrainingSetup
    folder: Path
    name: str
    start: int = 0
    best: BestStep | None = None
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _images: tuple[tuple[TrainImage, ...], tuple[TrainImage, ...]] = ((), ())

    def __post_init__(self) -> None:
        self._images = compared(self.setup.plan, self.setup.options)
        found = rows(self._record) if self.start else []
        self._lines = [line for line in found if int(line["step"]) <= self.start]
        if self.start and self._best.is_file():
            self.best = BestStep(**json.loads(self._best.read_text(encoding="utf-8")))

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}-validation.jsonl"

    @property
    def _best(self) -> Path:
        return _best_record(self.folder, self.name)

    def look(self, step: int, epoch: int) -> ValidationPoint:
        """Return how the held-out images do after a step; all processes take part, the main one
        writes it down.
        """
        held, trained = self._images
        with self.setup.given():
            now, others = (losses(self.setup, images) for images in (held, trained))
        found = check(step, epoch, now, others, self._before() if step else (now, others))
        line = {
            "step": step,
            "epoch": epoch,
            "held_out": _named(held, now),
            "trained": _named(trained, others),
        }
        self._lines = [*(known for known in self._lines if known["step"] != step), line]
        if self.setup.place.is_main:
            text = "".join(json.dumps(known, ensure_ascii=False) + "\n" for known in self._lines)
            write_atomic(self._record, text.encode("utf-8"))
        return found

    def improved(self, found: ValidationPoint) -> bool:
        """Tell whether no step before was as good."""
        return self.best is None or found.loss < self.best.loss

    def keep(self, found: ValidationPoint) -> None:
        """Write down that the best LoRA was saved after this step."""
        self.best = BestStep(found.step, found.epoch, found.loss, found.change, found.error)
        write_atomic(self._best, json.dumps(asdict(self.best)).encode("utf-8"))

    def _before(self) -> tuple[Tensor, Tensor] | None:
        """Return the losses before the first step; None where their record is gone."""
        first = next((line for line in self._lines if line["step"] == 0), None)
        if first is None:
            return None
        held, trained = self._images
        known = first["held_out"], first["trained"]
        if [[name for name, _ in each] for each in known] != [
            [_name(p) for p in held],
            [_name(p) for p in trained],
        ]:
            return None
        before = [torch.tensor([cells for _, cells in each], dtype=torch.float64) for each in known]
        return before[0], before[1]


def forget(folder: Path, name: str) -> None:
    """Remove what an earlier run of the same name left as its best: this run begins anew. Raises
    StorageError.
    """
    stem = f"{name}-{BEST}"
    for path in (
        folder / f"{stem}.safetensors",
        folder / f"{stem}.diffusers.safetensors",
        _best_record(folder, name),
        folder / f"{name}-validation.jsonl",
    ):
        with writing(path):
            path.unlink(missing_ok=True)


def _best_record(folder: Path, name: str) -> Path:
    return folder / f"{name}-{BEST}.json"


def _name(image: TrainImage) -> str:
    return f"{image.subset.folder.name}/{image.path.name}"


def _named(images: Sequence[TrainImage], found: Tensor) -> list[tuple[str, list[float]]]:
    return [(_name(image), cells) for image, cells in zip(images, found.tolist(), strict=True)]
