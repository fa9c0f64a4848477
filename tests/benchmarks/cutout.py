"""`dsk cutout`, from start to images, beside a plain loop over rembg with the same model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from datasetkit.vision import models
from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run
from tests.benchmarks.resize import linked

BASELINE, OURS = "plain loop over rembg", "dsk cutout"
GOAL = 1.0


def measure(images: Sequence[Path], work: Path, rounds: int) -> list[Row]:
    """Measure in turns: both load the shipped model, and write a PNG of each image on white."""
    home = work / "rembg"
    weights = home / "models" / "u2netp" / "u2netp.onnx"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(models.read_model("cutout"))

    def plain() -> Cost:
        return _once(python("tests.benchmarks.plain_cutout", source, out, home), out, len(images))

    def ours() -> Cost:
        return _once(python("datasetkit", "cutout", source, out), out, len(images))

    source, out = linked(images, work / "cutout-in"), work / "cutout-out"
    ways: dict[str, Callable[[], Cost]] = {BASELINE: plain, OURS: ours}
    notes = {BASELINE: "no masks, a halo", OURS: f"with masks, without halos; goal {GOAL:g}"}
    return rows(in_turns(ways, rounds), BASELINE, len(images), notes)


def _once(command: list[str], out: Path, count: int) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cost, _ = run(command)
    if len(list(out.glob("*.png"))) != count:
        raise RuntimeError(f"{len(list(out.glob('*.png')))} images of {count} were written")
    return cost
