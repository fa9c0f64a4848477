"""The plot of a planned LR schedule: the learning rate of each part over the optimizer steps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import InputError
from datasetkit.core.files import display, read_regular, reading, write_atomic, writing
from datasetkit.figure_style import heading, plain_axes, png
from datasetkit.options.train import TrainOptions
from trainer.monitor.loss_plot import plot_learning_rates
from trainer.networks.parameter_groups import possible_rates
from trainer.optimizers import build_scheduler, schedule_options
from trainer.optimizers.optimizer_names import estimates_lr

# In the metadata of the plot: a file of its name without it is somebody else's.
_SOURCE: Final = "dsk train --dry-run --plot"
_LARGEST: Final = 16 * 2**20  # bytes


def write(options: TrainOptions, steps: int, parts: Sequence[str], name: str) -> Path:
    """Write `<name>-lr-schedule.png` to output_dir; return its path. parts: that are trained.

    The rates are those of the scheduler that the run builds. Raises InputError where another file
    has the name, StorageError.
    """
    groups = {
        group: rate
        for group, rate in possible_rates(options).items()
        if rate and any(group == part or group.startswith(f"{part}_") for part in parts)
    }
    rates = build_scheduler.rates(options, steps, groups)
    folder = Path(options.output_dir)
    path = folder / f"{name}-lr-schedule.png"
    _require_own(path)
    data = _png(rates, title=name, facts=_facts(options, steps))
    with writing(folder):
        make_folders(folder)
    write_atomic(path, data)
    return path


def _require_own(path: Path) -> None:
    """Raise InputError for a file that is not such a plot: it is kept."""
    if not os.path.lexists(path):
        return
    with reading(path):
        start = read_regular(path, limit=_LARGEST)
    if start is None or _SOURCE.encode() not in start:
        raise InputError(
            f"{display(path)} is not a plot of dsk train, and is not replaced",
            hint="move it, or set another output_name",
        )


def _facts(options: TrainOptions, steps: int) -> str:
    facts = f"{schedule_options.words(options, steps)}; {options.optimizer_type}"
    if estimates_lr(options.optimizer_type):
        facts += ", which multiplies the rates by its estimate"
    return facts


def _png(rates: Mapping[str, Sequence[float]], *, title: str, facts: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = range(1, len(next(iter(rates.values()))) + 1)
    rows = [{f"lr/{group}": values[step - 1] for group, values in rates.items()} for step in steps]
    figure = Figure(figsize=(9, 4.2), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    heading(figure, f"{title}: LR schedule", facts)
    axes = figure.subplots()
    plain_axes(axes, grid="y")
    plot_learning_rates(axes, list(steps), rows)
    axes.set_xlabel("optimizer step")
    return png(figure, Source=_SOURCE)
