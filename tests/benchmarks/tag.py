"""`dsk tag`, end to end, beside the bare model: how much of the machine is left to the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run
from tests.benchmarks.model import Vit, plant
from tests.benchmarks.resize import linked

BASELINE, OURS, FAST = "raw onnxruntime session", "dsk tag, end to end", "dsk tag --fast-decode"
GOAL, AIM = 0.92, 0.97


def measure(images: Sequence[Path], work: Path, rounds: int, vit: Vit) -> list[Row]:
    """Measure in turns: the seconds inside of the raw session's `run`, and all of `dsk tag` from
    start to captions.
    """
    model = plant(work / f"vit-{vit.size}-{vit.depth}", vit)

    def raw() -> Cost:
        cost, out = run(
            python("tests.benchmarks.raw_session", model / "model.onnx", str(len(images)))
        )
        return replace(cost, seconds=json.loads(out))

    def ours(*options: str) -> Cost:
        folder = linked(images, work / "tag-in")
        cost, _ = run(
            python(
                "datasetkit", "tag", folder, "--tagger", "wd-vit-v3", "--model-dir", model, *options
            )
        )
        if len(list(folder.glob("*.txt"))) != len(images):
            raise RuntimeError("dsk tag left images without a caption")
        return cost

    ways: dict[str, Callable[[], Cost]] = {
        BASELINE: raw,
        OURS: ours,
        FAST: partial(ours, "--fast-decode"),
    }
    notes = {BASELINE: "without start and loading", OURS: f"goal {GOAL}", FAST: f"aim {AIM}"}
    return rows(in_turns(ways, rounds), BASELINE, len(images), notes)
