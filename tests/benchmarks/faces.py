"""`dsk faces list`, from start to table, beside a plain loop over onnxruntime with the same
model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run
from tests.benchmarks.resize import linked

BASELINE, OURS = "plain loop", "dsk faces list"
GOAL = 1.0


def measure(images: Sequence[Path], work: Path, rounds: int) -> list[Row]:
    """Measure in turns; each round begins without anything that was found before."""

    def plain() -> Cost:
        cost, out = run(
            python("tests.benchmarks.plain_faces", linked(images, work / "faces-plain"))
        )
        if len(out.splitlines()) != len(images):
            raise RuntimeError("the plain loop left images out")
        return cost

    def ours() -> Cost:
        cost, out = run(
            python("datasetkit", "faces", "list", linked(images, work / "faces-in"), "--json")
        )
        if len(json.loads(out)["result"]["images"]) != len(images):
            raise RuntimeError("dsk faces left images out")
        return cost

    ways: dict[str, Callable[[], Cost]] = {BASELINE: plain, OURS: ours}
    notes = {
        BASELINE: "one look at each",
        OURS: f"each looked at twice, mirrored too; goal {GOAL:g}",
    }
    return rows(in_turns(ways, rounds), BASELINE, len(images), notes)
