"""Metrics: a JSON line a step, the progress line, a plot of loss and rates, and TensorBoard where
it is wanted.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from PIL import Image

from datasetkit.core.files import write_atomic, writing
from datasetkit.core.progress import Reporter
from trainer.device import most_memory
from trainer.loop import StepLog

_BLOCK: Final = re.compile(r"_block\d+")
# What sd-scripts calls a part in TensorBoard.
_PARTS: Final = {"text_encoder": "textencoder", "text_encoder_2": "textencoder2"}


@dataclass(frozen=True, slots=True)
class ValidationPoint:
    """How the held-out images do after a step, 0: before the first. loss: their mean; trained:
    that of as many trained images, looked at in the same way.

    change, trained_change: what came to these since step 0, None where that is not known; error:
    the standard error of change, None where there is one image.
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
        """Return how much less the trained images lose; below 0 and falling: they are learned by
        heart.
        """
        return self.trained - self.loss

    def words(self) -> str:
        """Return the change for people, with its error; else nothing."""
        if self.change is None:
            return ""
        error = "" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.change:+.4f}{error}"


class Writer(Protocol):
    """Where steps are recorded."""

    def add(self, log: StepLog) -> None:
        """Record a step."""

    def check(self, found: ValidationPoint) -> None:
        """Record how the held-out images do, behind the step that they were looked at after."""

    def show(self, step: int, images: Sequence[Image.Image]) -> None:
        """Record the preview images that were drawn after a step, one of each prompt."""

    def close(self) -> None:
        """Finish writing."""


def row(log: StepLog) -> dict[str, object]:
    """Return a step as one flat JSON object."""
    made: dict[str, object] = {
        "step": log.step,
        "epoch": log.epoch,
        "loss": log.loss,
        "samples": log.samples,
        "gradient": log.gradient,
        **{f"lr/{part}": rate for part, rate in log.rates.items()},
    }
    if log.norms is not None:
        made |= {
            "norm/mean": float(log.norms.mean),
            "norm/max": float(log.norms.max),
            "norm/scaled": int(log.norms.scaled),
        }
    return made


def check_row(found: ValidationPoint) -> dict[str, object]:
    """Return a validation as one flat JSON object."""
    return {
        "step": found.step,
        "epoch": found.epoch,
        "validation/loss": found.loss,
        "validation/trained": found.trained,
        "validation/gap": found.gap,
        "validation/change": found.change,
        "validation/error": found.error,
        "validation/trained_change": found.trained_change,
    }


class JsonLines:
    """`<name>-metrics.jsonl`, one write a line; a resumed run goes on behind the step that it
    starts from.
    """

    def __init__(self, path: Path, *, start: int) -> None:
        kept = [line for line in rows(path) if int(line["step"]) <= start] if start else []
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode("utf-8"))
        self._path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def add(self, log: StepLog) -> None:
        self._write(row(log))

    def check(self, found: ValidationPoint) -> None:
        self._write(check_row(found))

    def _write(self, one: Mapping[str, object]) -> None:
        line = memoryview(f"{json.dumps(one)}\n".encode())
        with writing(self._path):
            while line:
                line = line[os.write(self._descriptor, line) :]

    def show(self, step: int, images: Sequence[Image.Image]) -> None:
        """Do nothing: the images have a record of their own."""

    def close(self) -> None:
        os.close(self._descriptor)


class TensorBoard:
    """TensorBoard's files, under sd-scripts' names.

    per_epoch: steps of an epoch: `loss/average` is the mean of the last so many. before: the losses
    of the steps that a resumed run has behind it.
    """

    def __init__(
        self, folder: Path, *, start: int, per_epoch: int, before: Sequence[float] = ()
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with writing(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        self._recent = deque(before, maxlen=per_epoch)

    def add(self, log: StepLog) -> None:
        self._recent.append(log.loss)
        mean = sum(self._recent) / len(self._recent)
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

    def check(self, found: ValidationPoint) -> None:
        self._writer.add_scalar("loss/validation/step_average", found.loss, found.step)
        self._writer.add_scalar(
            "loss/validation/step_divergence", -found.gap, found.step
        )  # sd-scripts' sign
        for name, value in (("change", found.change), ("change_error", found.error)):
            if value is not None:
                self._writer.add_scalar(f"loss/validation/{name}", value, found.step)

    def show(self, step: int, images: Sequence[Image.Image]) -> None:
        for place, image in enumerate(images):
            self._writer.add_image(
                f"sample/{place:02d}", np.asarray(image), step, dataformats="HWC"
            )

    def close(self) -> None:
        self._writer.close()


class ProgressLine:
    """What stands beside the progress line: the mean loss of the last epoch's worth of steps, and
    the memory.
    """

    def __init__(
        self,
        reporter: Reporter,
        device: torch.device,
        *,
        per_epoch: int,
        before: Sequence[float] = (),
    ) -> None:
        self._reporter, self._device = reporter, device
        self._recent = deque(before, maxlen=per_epoch)
        self._checked = ""

    def add(self, log: StepLog) -> None:
        self._recent.append(log.loss)
        memory = most_memory(self._device)
        held = f", {memory / 1e9:.1f} GB" if memory else ""
        self._reporter.note(
            f"loss {sum(self._recent) / len(self._recent):.4f}{self._checked}{held}"
        )

    def check(self, found: ValidationPoint) -> None:
        change = found.words()
        self._checked = f", held out {found.loss:.4f}" + (
            f" ({change})" if change and found.step else ""
        )

    def show(self, step: int, images: Sequence[Image.Image]) -> None:
        """Do nothing: the images have a sheet of their own."""

    def close(self) -> None:
        """Do nothing: who opened the progress line closes it."""


def rows(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics file; the last one may have been cut off by a kill."""
    found: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
    return found


def plot(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the loss, its running mean and the learning rates to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checks = [line for line in lines if line.get("validation/change") is not None]
    lines = [line for line in lines if "loss" in line]
    steps = [line["step"] for line in lines]
    loss = [line["loss"] for line in lines]
    figure = Figure(figsize=(9, 8 if checks else 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        3 if checks else 2, 1, sharex=True, height_ratios=[2, 2, 1] if checks else [2, 1]
    )
    above, below = panels[0], panels[-1]
    if checks:
        _plot_checks(panels[1], checks)
    above.plot(steps, loss, linewidth=0.6, alpha=0.5, label="loss")
    above.plot(steps, running_mean(loss), linewidth=1.8, label="running mean")
    above.set_ylabel("loss")
    above.legend()
    _plot_rates(below, steps, lines)
    below.set_ylabel("learning rate")
    below.set_xlabel("optimizer step")
    below.legend()
    drawn = BytesIO()
    # Without the software's version and the date the file depends on the numbers alone.
    figure.savefig(drawn, format="png", dpi=100, metadata={"Software": None})
    write_atomic(path, drawn.getvalue())


def _plot_rates(axes: Any, steps: Sequence[int], lines: Sequence[dict[str, Any]]) -> None:
    """Draw the learning rates, those of a UNet's blocks in one colour and under one name."""
    colours: dict[str, str] = {}
    for key in sorted({key for line in lines for key in line if key.startswith("lr/")}):
        name = _BLOCK.sub("_blocks", key)
        label = "_" + name if name in colours else name  # matplotlib lists no label that begins so
        (drawn,) = axes.plot(
            steps, [line.get(key) for line in lines], label=label, color=colours.get(name)
        )
        colours[name] = drawn.get_color()


def _plot_checks(axes: Any, checks: Sequence[dict[str, Any]]) -> None:
    """Draw what held-out and trained images gained since step 0 on the same grid, and the gap
    between them.
    """
    steps = [line["step"] for line in checks]
    held = np.array([line["validation/change"] for line in checks])
    trained = np.array([line["validation/trained_change"] for line in checks])
    error = np.array([line["validation/error"] or 0.0 for line in checks])
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.fill_between(
        steps,
        trained,
        held,
        where=held > trained,
        interpolate=True,
        color="tab:red",
        alpha=0.15,
        linewidth=0,
        label="overfit gap",
    )
    axes.errorbar(
        steps,
        held,
        yerr=error,
        marker="o",
        markersize=3,
        capsize=2,
        color="tab:orange",
        label="held out",
    )
    axes.plot(steps, trained, marker="o", markersize=3, color="tab:blue", label="trained")
    best = int(held[1:].argmin()) + 1 if len(held) > 1 else 0
    axes.plot(
        steps[best],
        held[best],
        marker="*",
        markersize=11,
        color="tab:orange",
        linestyle="",
        label="best",
    )
    axes.set_ylabel("loss against step 0")
    axes.legend()


def running_mean(values: Sequence[float], window: int = 50) -> list[float]:
    """Return the mean of the last `window` values at each place (of as many as there are, at the
    start).
    """
    means: list[float] = []
    total = 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means
