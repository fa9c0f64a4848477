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


def measure(pictures: Sequence[Path], work: Path, rounds: int) -> list[Row]:
    """Measure in turns; each round begins without anything that was found before."""

    def plain() -> Cost:
        cost, out = run(
            python("tests.benchmarks.plain_faces", linked(pictures, work / "faces-plain"))
        )
        if len(out.splitlines()) != len(pictures):
            raise RuntimeError("the plain loop left pictures out")
        return cost

    def ours() -> Cost:
        cost, out = run(
            python("datasetkit", "faces", "list", linked(pictures, work / "faces-in"), "--json")
        )
        if len(json.loads(out)["result"]["pictures"]) != len(pictures):
            raise RuntimeError("dsk faces left pictures out")
        return cost

    ways: dict[str, Callable[[], Cost]] = {BASELINE: plain, OURS: ours}
    notes = {
        BASELINE: "one look at each",
        OURS: f"each looked at twice, mirrored too; goal {GOAL:g}",
    }
    return rows(in_turns(ways, rounds), BASELINE, len(pictures), notes)
