"""The plot of a run, loss.png: loss, validation and learning rates over the optimizer steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasetkit.core.files import write_atomic

_BLOCK: Final = re.compile(r"_block\d+")


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the loss, its running mean, the validations and the learning rates to a PNG.

    rows: of metrics.jsonl.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    validations = [row for row in rows if row.get("validation/change") is not None]
    rows = [row for row in rows if "loss" in row]
    steps = [row["step"] for row in rows]
    loss = [row["loss"] for row in rows]
    figure = Figure(figsize=(9, 8 if validations else 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        3 if validations else 2, 1, sharex=True, height_ratios=[2, 2, 1] if validations else [2, 1]
    )
    loss_panel, lr_panel = panels[0], panels[-1]
    if validations:
        _plot_validations(panels[1], validations)
    loss_panel.plot(steps, loss, linewidth=0.6, alpha=0.5, label="loss")
    loss_panel.plot(steps, running_mean(loss), linewidth=1.8, label="running mean")
    loss_panel.set_ylabel("loss")
    loss_panel.legend()
    _plot_learning_rates(lr_panel, steps, rows)
    lr_panel.set_ylabel("learning rate")
    lr_panel.set_xlabel("optimizer step")
    lr_panel.legend()
    png = BytesIO()
    # Without matplotlib's version and the date, the file depends on the numbers alone.
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    write_atomic(path, png.getvalue())


def _plot_learning_rates(axes: Any, steps: Sequence[int], rows: Sequence[dict[str, Any]]) -> None:
    """Plot the learning rates; those of the UNet's blocks share a colour and a name."""
    colours: dict[str, str] = {}
    for key in sorted({key for row in rows for key in row if key.startswith("lr/")}):
        name = _BLOCK.sub("_blocks", key)
        label = (
            "_" + name if name in colours else name
        )  # matplotlib leaves such labels out of the legend
        (line,) = axes.plot(
            steps, [row.get(key) for row in rows], label=label, color=colours.get(name)
        )
        colours[name] = line.get_color()


def _plot_validations(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the change of the held-out and the training loss since step 0, and the gap between
    them.
    """
    steps = [row["step"] for row in rows]
    held = np.array([row["validation/change"] for row in rows])
    trained = np.array([row["validation/trained_change"] for row in rows])
    error = np.array([row["validation/error"] or 0.0 for row in rows])
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
    """Return the mean of the last `window` values at each position (fewer at the start)."""
    means: list[float] = []
    total = 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means
