"""Metrics of a run: a JSON line per step, TensorBoard if wanted, the note on the progress line."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from PIL import Image

from datasetkit.core.files import write_atomic, writing
from datasetkit.core.progress import Reporter
from trainer import finite
from trainer.device import peak_memory
from trainer.loop import StepLog
from trainer.paired import PairedMean

# What a row says of the machine, and not of the training: it differs between equal runs.
MACHINE: Final = ("time", "elapsed", "seconds", "memory")
# sd-scripts' names of the parts in TensorBoard.
_PARTS: Final = {"text_encoder": "textencoder", "text_encoder_2": "textencoder2"}


@dataclass(frozen=True, slots=True)
class ValidationPoint:
    """One validation. step: the optimizer step it follows, 0: before the first. loss: mean loss of
    the held-out images; trained: of as many training images, measured in the same way.

    change, trained_change: the difference from step 0, None if that is unknown; error: the
    standard error of change, None for a single image.
    """

    step: int
    epoch: int
    loss: float
    trained: float
    change: float | None = None
    error: float | None = None
    trained_change: float | None = None

    @property
    def gap(self) -> float:
        """Return the training images' loss minus the held-out loss; negative and falling:
        overfitting.
        """
        return self.trained - self.loss

    def words(self) -> str:
        """Return the change and its error as text, "" if the change is unknown."""
        return "" if self.change is None else PairedMean(self.change, self.error).words()


class Writer(Protocol):
    """Records what happens in a run."""

    def add(self, log: StepLog) -> None:
        """Record a step."""

    def add_validation(self, point: ValidationPoint) -> None:
        """Record a validation."""

    def add_images(self, step: int, images: Sequence[Image.Image]) -> None:
        """Record the preview images of a step, one per prompt."""

    def close(self) -> None:
        """Finish writing."""


def step_row(log: StepLog) -> dict[str, object]:
    """Return a step as one flat JSON object."""
    row: dict[str, object] = {
        "step": log.step,
        "epoch": log.epoch,
        "loss": log.loss,
        "samples": log.samples,
        "gradient": log.grad_norm,
        "seconds": round(log.seconds, 4),
        **{f"lr/{part}": rate for part, rate in log.rates.items()},
    }
    if log.norms is not None:
        row |= {
            "norm/mean": float(log.norms.mean),
            "norm/max": float(log.norms.max),
            "norm/scaled": int(log.norms.scaled),
        }
    return row


def validation_row(point: ValidationPoint) -> dict[str, object]:
    """Return a validation as one flat JSON object."""
    return {
        "step": point.step,
        "epoch": point.epoch,
        "validation/loss": point.loss,
        "validation/trained": point.trained,
        "validation/gap": point.gap,
        "validation/change": point.change,
        "validation/error": point.error,
        "validation/trained_change": point.trained_change,
    }


class JsonLines:
    """Writes `<name>-metrics.jsonl`, one write per line; a resumed run appends after the step it
    continues from.

    Each row gets `time` (since 1970) and `elapsed` (since this process began to train), in seconds,
    and `memory`, the peak so far in bytes.
    """

    def __init__(self, path: Path, *, start: int, device: torch.device) -> None:
        kept = [line for line in read_rows(path) if int(line["step"]) <= start] if start else []
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode("utf-8"))
        self._path, self._device, self._began = path, device, time.monotonic()
        with writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def add(self, log: StepLog) -> None:
        self._write(step_row(log))

    def add_validation(self, point: ValidationPoint) -> None:
        self._write(validation_row(point))

    def _write(self, row: Mapping[str, object]) -> None:
        machine = {
            "time": round(time.time(), 3),
            "elapsed": round(time.monotonic() - self._began, 3),
            "memory": peak_memory(self._device) or None,
        }
        text = json.dumps(finite.row({**row, **machine}), allow_nan=False)
        line = memoryview(f"{text}\n".encode())
        with writing(self._path):
            while line:
                line = line[os.write(self._descriptor, line) :]

    def add_images(self, step: int, images: Sequence[Image.Image]) -> None:
        """Do nothing: the contact sheet has a record of its own."""

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(slots=True)
class RecentLoss:
    """The mean loss of the samples of the last steps: every sample weighs the same, also where a
    step has fewer.

    steps: at most so many; before: the rows of the steps before a resumed run's first one.
    """

    steps: int
    before: InitVar[Sequence[Mapping[str, Any]]] = ()
    _recent: deque[tuple[float, int]] = field(init=False)

    def __post_init__(self, before: Sequence[Mapping[str, Any]]) -> None:
        losses = [(row["loss"], row["samples"]) for row in before if row.get("loss") is not None]
        self._recent = deque(losses, maxlen=self.steps)

    def add(self, log: StepLog) -> float:
        """Add a step and return the mean."""
        self._recent.append((log.loss, log.samples))
        return mean_loss(self._recent)


def mean_loss(steps: Iterable[tuple[float, int]]) -> float:
    """Return the mean loss of the samples of some steps, each (mean loss, samples)."""
    losses = list(steps)
    return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)


class TensorBoard:
    """Writes TensorBoard's event files under sd-scripts' tags.

    per_epoch: optimizer steps in an epoch; `loss/average` is the mean over the samples of that many
    last steps. before: the rows of the steps before a resumed run's first one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        per_epoch: int,
        before: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with writing(folder):
            # From this step on, what is there before is not shown.
            self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1 if start else 0)
        self._recent = RecentLoss(per_epoch, before)

    def add(self, log: StepLog) -> None:
        mean = self._recent.add(log)
        self._writer.add_scalar("loss/current", log.loss, log.step)
        self._writer.add_scalar("loss/average", mean, log.step)
        if log.last_of_epoch:
            self._writer.add_scalar("loss/epoch_average", mean, log.epoch)
        for part, rate in log.rates.items():
            name = _PARTS.get(part, part)
            self._writer.add_scalar(f"lr/{name}", log.scheduled[part], log.step)
            if rate != log.scheduled[part]:
                self._writer.add_scalar(f"lr/d*lr/{name}", rate, log.step)
        if log.norms is not None:
            self._writer.add_scalar("max_norm/avg_key_norm", float(log.norms.mean), log.step)
            self._writer.add_scalar("max_norm/max_key_norm", float(log.norms.max), log.step)
            self._writer.add_scalar("max_norm/keys_scaled", int(log.norms.scaled), log.step)

    def add_validation(self, point: ValidationPoint) -> None:
        self._writer.add_scalar("loss/validation/step_average", point.loss, point.step)
        self._writer.add_scalar(
            "loss/validation/step_divergence", -point.gap, point.step
        )  # the sign is sd-scripts'
        for name, value in (("change", point.change), ("change_error", point.error)):
            if value is not None:
                self._writer.add_scalar(f"loss/validation/{name}", value, point.step)

    def add_images(self, step: int, images: Sequence[Image.Image]) -> None:
        for number, image in enumerate(images):
            self._writer.add_image(
                f"sample/{number:02d}", np.asarray(image), step, dataformats="HWC"
            )

    def close(self) -> None:
        self._writer.close()


class ProgressLine:
    """Notes on the progress line the mean loss of the samples of the last epoch's worth of steps,
    the validation and the memory.
    """

    def __init__(
        self,
        reporter: Reporter,
        device: torch.device,
        *,
        per_epoch: int,
        before: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._reporter, self._device = reporter, device
        self._recent = RecentLoss(per_epoch, before)
        self._validation = ""

    def add(self, log: StepLog) -> None:
        loss = self._recent.add(log)
        memory = peak_memory(self._device)
        memory_text = f", {memory / 1e9:.1f} GB" if memory else ""
        self._reporter.note(f"loss {loss:.4f}{self._validation}{memory_text}")

    def add_validation(self, point: ValidationPoint) -> None:
        change = point.words()
        self._validation = f", held out {point.loss:.4f}" + (
            f" ({change})" if change and point.step else ""
        )

    def add_images(self, step: int, images: Sequence[Image.Image]) -> None:
        """Do nothing: the contact sheet shows them."""

    def close(self) -> None:
        """Do nothing: whoever opened the progress line closes it."""


def _is_metrics_row(row: Mapping[str, Any]) -> bool:
    return all(value is None or type(value) in (int, float) for value in row.values()) and (
        "loss" not in row or type(row.get("samples")) is int
    )


def read_rows(
    path: Path, is_row: Callable[[Mapping[str, Any]], bool] = _is_metrics_row
) -> list[dict[str, Any]]:
    """Read the rows of a file with a JSON object a line, each of a step. Lines that a kill cut off,
    and others that the run did not write, are left out: a run can go on without them.
    """
    rows: list[dict[str, Any]] = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict) or type(row.get("step")) is not int:
            continue
        if type(row.get("epoch")) is int and is_row(row):
            rows.append(row)
    return rows
