"""One run of the trainer, as `dsk train` starts it, with the moment of each step.

python -m tests.benchmarks.train_once DATA KEY=VALUE ... prints as JSON the seconds of each step,
and of all of them those that were spent waiting for images. The keys are those of [train].
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from datasetkit.options.train import TrainOptions
from trainer.config import setting
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train


class Clock:
    """A reporter that notes when each training step is over."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.counts = False

    def start(self, label: str, total: int) -> None:
        self.counts = label == "training"
        if self.counts:
            self.moments.append(time.perf_counter())

    def advance(self, n: int = 1) -> None:
        if self.counts and n:
            self.moments.append(time.perf_counter())

    def note(self, text: str) -> None:
        pass

    def phase(self, name: str) -> None:
        pass

    def finish(self) -> None:
        self.counts = False

    def warn(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")


def seconds(data: Path, options: TrainOptions) -> tuple[list[float], float]:
    """Train; return the seconds of each step, and the seconds that all of them waited for
    images.
    """
    clock = Clock()
    result = train(options, make_plan(find_subsets(data, options)[0], options), reporter=clock)
    return [after - before for before, after in pairwise(clock.moments)], result.waited


if __name__ == "__main__":
    options = TrainOptions(**dict(setting(pair) for pair in sys.argv[2:]))
    sys.stdout.write(json.dumps(seconds(Path(sys.argv[1]), options)))
