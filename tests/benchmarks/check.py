"""`dsk check`, from start to table, beside a plain loop over Pillow and onnxruntime, and a second
look at the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run
from tests.benchmarks.resize import linked

BASELINE, OURS, AGAIN = "plain loop", "dsk check", "dsk check, a second time"
GOAL = 1.5


def measure(images: Sequence[Path], work: Path, rounds: int) -> list[Row]:
    """Measure in turns; each round but for the second look begins without anything that was found
    before.
    """
    folder = work / "check-in"

    def plain() -> Cost:
        cost, out = run(
            python("tests.benchmarks.plain_check", linked(images, work / "check-plain"))
        )
        if len(out.splitlines()) != len(images):
            raise RuntimeError("the plain loop left images out")
        return cost

    def ours(*, afresh: bool) -> Cost:
        cost, out = run(
            python("datasetkit", "check", linked(images, folder) if afresh else folder, "--json")
        )
        if json.loads(out)["result"]["images"] != len(images):
            raise RuntimeError("dsk check left images out")
        return cost

    ways: dict[str, Callable[[], Cost]] = {
        BASELINE: plain,
        OURS: partial(ours, afresh=True),
        AGAIN: partial(ours, afresh=False),
    }
    notes = {
        BASELINE: "one pass of each model, 2 measures",
        OURS: f"all checks; mirror images too; goal {GOAL}",
        AGAIN: "from the store",
    }
    return rows(in_turns(ways, rounds), BASELINE, len(images), notes)
