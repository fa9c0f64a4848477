"""The plot of a search: the estimates over the steps, and the loss that each rate of the sweep
reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasetkit import figure_style
from datasetkit.figure_style import INK, LINES, RED, heading, legend, plain_axes, write
from trainer.lr_search.rules import PartSearch, Probe


def png(searches: Sequence[PartSearch], *, title: str, facts: str) -> bytes:
    """Return the plot as a PNG. title, facts: the heading."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_sweep = any(search.sweep for search in searches)
    columns = 2 if has_sweep else 1
    figure = Figure(figsize=(9, 0.8 + 2.9 * len(searches)), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    heading(figure, title, facts)
    panels = figure.subplots(len(searches), columns, squeeze=False, width_ratios=[3, 2][:columns])
    for row, search in zip(panels, searches, strict=True):
        _estimates(row[0], search)
        if has_sweep:
            _sweep(row[1], search)
    return figure_style.png(figure)


def _estimates(axes: Any, search: PartSearch) -> None:
    plain_axes(axes, grid="y")
    for number, probe in enumerate(search.probes):
        colour = LINES[number % len(LINES)]
        steps = range(1, len(probe.estimates) + 1)
        axes.plot(
            steps, probe.estimates, color=colour, linewidth=1.6, label=_label(probe),
            linestyle="--" if probe.is_ruined else "-",
        )  # fmt: skip
        if probe.flat_from is not None:
            axes.plot(
                probe.flat_from, probe.estimates[probe.flat_from - 1], marker="o", markersize=5,
                color=colour,
            )  # fmt: skip
    _mark_rate(axes.axhline, search.rate)
    if any(value > 0 for probe in search.probes for value in probe.estimates):
        axes.set_yscale("log")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"{search.title}: estimated rate")
    legend(axes, loc="lower right")


def _label(probe: Probe) -> str:
    text = f"seed {probe.seed}, {probe.outcome}"
    if probe.flat_from is not None:
        text += f" from step {probe.flat_from}"
    return text + (", ran away" if probe.is_ruined else "")


def _mark_rate(line: Any, rate: float | None) -> None:
    if rate is not None:
        line(rate, color=INK, linewidth=0.9, linestyle=":", zorder=0)


def _sweep(axes: Any, search: PartSearch) -> None:
    plain_axes(axes)
    points = [(p.rate, p.change) for p in search.sweep if p.change is not None]
    if not points:
        axes.set_axis_off()
        return
    axes.set_xscale("log")
    axes.errorbar(
        [rate for rate, _ in points],
        [change.mean for _, change in points],
        yerr=[change.error or 0.0 for _, change in points],
        marker="o", markersize=4, capsize=2, color=LINES[0], linewidth=1.2,
    )  # fmt: skip
    for point in search.sweep:
        if point.change is None:
            axes.axvline(point.rate, color=RED, linewidth=0.9)
    rates = [point.rate for point in search.sweep]
    axes.set_xticks(rates, [f"{rate:.2g}" for rate in rates])
    axes.minorticks_off()
    _mark_rate(axes.axvline, search.rate)
    axes.set_xlabel("learning rate of AdamW")
    axes.set_ylabel("loss against step 0")
    taken = next((p for p in search.sweep if p.is_taken and p.change is not None), None)
    if taken is not None and taken.change is not None:
        axes.plot(taken.rate, taken.change.mean, marker="*", markersize=12, color=INK)
        write(
            axes, taken.rate, taken.change.mean, f"  {taken.rate:g}\n", size=8, va="bottom",
            fontweight="bold",
        )  # fmt: skip
