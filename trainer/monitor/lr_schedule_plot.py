"""The plot of a planned LR schedule: the learning rate of each part over the optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.files import write_atomic, writing
from datasetkit.figure_style import heading, plain_axes
from datasetkit.options.train import TrainOptions
from trainer.monitor.loss_plot import plot_learning_rates
from trainer.networks.parameter_groups import possible_rates
from trainer.optimizers import build_scheduler, schedule_options
from trainer.optimizers.optimizer_names import estimates_lr


def write(options: TrainOptions, steps: int, parts: Sequence[str], name: str) -> Path:
    """Write `<name>-lr-schedule.png` to output_dir; return its path. parts: that are trained.

    The rates are those of the scheduler that the run builds. Raises StorageError.
    """
    groups = {
        group: rate
        for group, rate in possible_rates(options).items()
        if rate and any(group == part or group.startswith(f"{part}_") for part in parts)
    }
    rates = build_scheduler.rates(options, steps, groups)
    folder = Path(options.output_dir)
    path = folder / f"{name}-lr-schedule.png"
    data = _png(rates, title=name, facts=_facts(options, steps))
    with writing(folder):
        make_folders(folder)
    write_atomic(path, data)
    return path


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
    figure = Figure(figsize=(9, 4.2), facecolor="white")
    FigureCanvasAgg(figure)
    heading(figure, f"{title}: LR schedule", facts)
    axes = figure.subplots()
    plain_axes(axes, grid="y")
    plot_learning_rates(axes, list(steps), rows)
    axes.set_xlabel("optimizer step")
    png = BytesIO()
    # Without matplotlib's version and the date, the file depends on the numbers alone.
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    return png.getvalue()
