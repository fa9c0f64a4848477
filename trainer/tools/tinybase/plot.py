"""Plot the losses of the stages: `python -m trainer.tools.tinybase.plot LOG PNG`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from datasetkit.figure_style import BLUE, INK, heading, plain_axes

STAGES = {
    "text": "text encoder: tags predicted",
    "vae": "VAE: reconstruction error",
    "base": "UNet: noise prediction error",
}


def rows(log: Path) -> dict[str, list[tuple[int, float]]]:
    """Return stage -> (step, loss); a step that was taken again after a kill counts once."""
    losses: dict[str, dict[int, float]] = {name: {} for name in STAGES}
    for line in log.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["stage"] in losses:
            losses[row["stage"]][int(row["step"])] = float(row["loss"])
    return {name: sorted(steps.items()) for name, steps in losses.items()}


def plot(log: Path, path: Path) -> None:
    """Draw a panel for each stage, both axes as powers of ten."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    stages = rows(log)
    figure = Figure(figsize=(12, 4.2), facecolor="white")
    counts = ", ".join(f"{name} {points[-1][0]:,}" for name, points in stages.items() if points)
    heading(figure, "Training of the tiny base", f"steps: {counts}")
    for panel, (name, points) in zip(figure.subplots(1, len(STAGES)), stages.items(), strict=True):
        plain_axes(panel)
        panel.loglog(
            [step for step, _ in points], [loss for _, loss in points], color=BLUE, linewidth=1.4
        )
        panel.set_title(STAGES[name], fontsize=10, color=INK, loc="left")
        panel.set_xlabel("step")
        panel.xaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))
