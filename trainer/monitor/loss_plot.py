"""The plot of a run, loss.png: loss, validation and learning rates over the optimizer steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasetkit.core.files import write_atomic
from datasetkit.figure_style import (
    BLUE,
    FAINT,
    INK,
    LINES,
    ORANGE,
    RED,
    SAVED,
    heading,
    legend,
    plain_axes,
    png,
    write,
)

_BLOCK: Final = re.compile(r"_block\d+")
# The mean is over an epoch, and at most over this share of the run; over fewer steps it says
# nothing.
_MOST_OF_RUN, _LEAST_STEPS = 0.2, 10
_OUTLIERS: Final = 1.0  # percent of the losses that may lie above the plot
_BETWEEN_LABELS: Final = 0.06  # the least distance of names of saved LoRAs, as a share of the run
_FEW_STEPS: Final = 200


def plot(
    rows: Sequence[dict[str, Any]],
    path: Path,
    *,
    title: str,
    facts: str,
    per_epoch: int,
    saved: Mapping[int, str],
) -> None:
    """Plot the loss, its mean, the validations and the learning rates to a PNG.

    rows: of metrics.jsonl. title, facts: the heading: which run, with which rates. per_epoch:
    optimizer steps. saved: step -> what the LoRA that was saved there is called.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    validations = [row for row in rows if row.get("validation/change") is not None]
    rows = [row for row in rows if "loss" in row]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(9, 8.6 if validations else 6.6), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    heading(figure, title, facts)
    panels = figure.subplots(
        3 if validations else 2, 1, sharex=True, height_ratios=[2, 2, 1] if validations else [2, 1]
    )
    for panel in panels:
        plain_axes(panel, grid="y")
        for step in saved:
            panel.axvline(step, color=SAVED, linewidth=1, zorder=0)
    samples = [row["samples"] for row in rows]
    _plot_loss(panels[0], steps, [row["loss"] for row in rows], samples, per_epoch)
    _name_saved(panels[0], saved)
    if validations:
        _plot_validations(panels[1], validations)
    plot_learning_rates(panels[-1], steps, rows)
    panels[-1].set_xlabel("optimizer step")
    write_atomic(path, png(figure))


def _plot_loss(
    axes: Any,
    steps: Sequence[int],
    loss: Sequence[float],
    samples: Sequence[int],
    per_epoch: int,
) -> None:
    """Plot the loss of each step, and its mean over so many steps that all images are in it."""
    window = min(per_epoch, max(_LEAST_STEPS, int(len(loss) * _MOST_OF_RUN)))
    width = 0.6 if len(loss) > _FEW_STEPS else 1.2
    axes.plot(steps, loss, linewidth=width, alpha=0.45, color=BLUE, label="loss of a step")
    if _LEAST_STEPS <= window <= len(loss):
        of = "an epoch" if window == per_epoch else f"{window} steps"
        means = moving_mean(loss, samples, window)
        axes.plot(steps[window - 1 :], means, linewidth=2, color=ORANGE, label=f"mean of {of}")
    if len(loss) > 2:
        low, high = min(loss), float(np.percentile(loss, 100 - _OUTLIERS))
        room = 0.06 * (high - low)
        if high > low:
            axes.set_ylim(low - room, high + 2 * room)
    axes.set_ylabel("loss")
    legend(axes, loc="upper right")


def moving_mean(values: Sequence[float], weights: Sequence[int], window: int) -> list[float]:
    """Return the weighted mean of each `window` values in a row. weights: samples of each step."""
    weighted = np.concatenate([[0.0], np.cumsum(np.multiply(values, weights))])
    total = np.concatenate([[0], np.cumsum(weights)])
    means = (weighted[window:] - weighted[:-window]) / (total[window:] - total[:-window])
    return [float(mean) for mean in means]


def _name_saved(axes: Any, saved: Mapping[int, str]) -> None:
    """Name the saved LoRAs above their lines; of those that are close together the last one."""
    named = None
    for step, name in sorted(saved.items(), reverse=True):
        if named is None or named - step >= _BETWEEN_LABELS * max(saved):
            named = step
            write(
                axes, step, 1.005, name, size=7.5, color=FAINT, ha="center", va="bottom",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    if saved:
        write(
            axes, 0, 1.005, "saved:", size=7.5, color=FAINT, va="bottom", transform=axes.transAxes
        )


def plot_learning_rates(axes: Any, steps: Sequence[int], rows: Sequence[dict[str, Any]]) -> None:
    """Plot the learning rates. Parts with the same rates share a line; the UNet's blocks share a
    name.
    """
    lines: dict[tuple[float | None, ...], list[str]] = {}
    for key in sorted({key for row in rows for key in row if key.startswith("lr/")}):
        name = _BLOCK.sub("_blocks", key.removeprefix("lr/"))
        names = lines.setdefault(tuple(row.get(key) for row in rows), [])
        if name not in names:
            names.append(name)
    colours: dict[str, str] = {}
    for rates, names in lines.items():
        label = ", ".join(names)
        colour = colours.get(label, LINES[len(colours) % len(LINES)])
        # matplotlib leaves labels that begin with _ out of the legend.
        shown = "_" + label if label in colours else label
        axes.plot(steps, rates, label=shown, color=colour, linewidth=1.6)
        colours[label] = colour
    axes.set_ylabel("learning rate")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    axes.yaxis.get_offset_text().set(color=FAINT, fontsize=8)
    legend(axes, loc="upper right")


def _plot_validations(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the change of the held-out and the training loss since step 0, and the gap between
    them.
    """
    steps = [row["step"] for row in rows]
    held = np.array([row["validation/change"] for row in rows])
    trained = np.array([row["validation/trained_change"] for row in rows])
    error = np.array([row["validation/error"] or 0.0 for row in rows])
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.fill_between(
        steps, trained, held, where=held > trained, interpolate=True, color=RED, alpha=0.12,
        linewidth=0, label="overfit gap",
    )  # fmt: skip
    axes.errorbar(
        steps, held, yerr=error, marker="o", markersize=3, capsize=2, color=ORANGE,
        label="held-out images",
    )  # fmt: skip
    axes.plot(steps, trained, marker="o", markersize=3, color=BLUE, label="trained images")
    best = int(held[1:].argmin()) + 1 if len(held) > 1 else 0
    axes.plot(
        steps[best], held[best], marker="*", markersize=12, color=INK, linestyle="", label="best"
    )
    axes.set_ylabel("loss against step 0")
    legend(axes, loc="best")
