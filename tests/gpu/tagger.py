"""A tagger of WD14's size with random weights: images a second of a provider of onnxruntime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from taggers import sessions
from tests.benchmarks.model import TINY, Vit, plant
from tests.gpu.rows import Row

BATCH: Final = 8
SECONDS: Final = 8.0
BOUND: Final = 1e-2  # of the difference between two providers' probabilities


def measure(row: Row, work: Path, *, cpu: bool) -> dict[str, Any]:
    """Run batches for some seconds and return the row's values."""
    vit = TINY if cpu else Vit()
    path = plant(work / f"vit-{vit.size}", vit) / "model.onnx"
    provider = "cpu" if cpu else row.settings["provider"]
    batch = np.random.default_rng(0).uniform(0, 255, (BATCH, vit.size, vit.size, 3))
    images = batch.astype(np.float32)
    run = _runner(path, provider)
    first = run(images)
    values: dict[str, Any] = {"images/s": _speed(run, images, 0.5 if cpu else SECONDS)}
    if row.settings["provider"] != "cpu":
        values["note"] = "with the CPU provider" if cpu else ""
        reference = _runner(path, "cpu")(images[:2])
        values["difference"] = float(np.abs(first[:2] - reference).max())
        if not values["difference"] <= BOUND:
            values |= {"status": "failed", "note": f"differs from the CPU by more than {BOUND:g}"}
    return values


def _runner(path: Path, provider: str) -> Any:
    session = sessions.open_session(path, provider=provider)
    names = session.get_inputs()[0].name, session.get_outputs()[0].name
    return sessions.runner(session, *names)


def _speed(run: Any, images: Any, seconds: float) -> float:
    run(images)
    begun, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        run(images)
        count += len(images)
    return count / passed
