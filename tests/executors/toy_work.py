"""Functions that workers of a cluster can import, and a program that runs them there and prints
what came back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from datasetkit.core.errors import ModelFileError
from datasetkit.core.progress import SilentReporter
from datasetkit.executors import place
from datasetkit.executors.ray_cluster import connected
from datasetkit.executors.work import EachWork


class Warnings(SilentReporter):
    """Keeps the warnings of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def waiting(path: Path, *, seconds: float) -> str:
    """Wait, and return the number in a name and the process."""
    time.sleep(seconds)
    return f"{path.stem} {os.getpid()}"


def open_waiting(seconds: float) -> Callable[[Path], str]:
    """Load nothing."""
    return partial(waiting, seconds=seconds)


def on_gpu(path: Path, *, seconds: float) -> str:
    """Wait, and return the number in a name, the process, its GPUs, and when it waited."""
    begun = time.monotonic()
    time.sleep(seconds)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all") or "none"
    return f"{path.stem} {os.getpid()} {gpus} {begun} {time.monotonic()}"


def open_on_gpu(seconds: float) -> Callable[[Path], str]:
    """Load nothing."""
    return partial(on_gpu, seconds=seconds)


def deadly(path: Path) -> str:
    """End the process for one name, as a decoder does that runs out of memory."""
    if path.stem == "13":
        os._exit(9)
    return path.stem


def open_deadly() -> Callable[[Path], str]:
    """Load nothing."""
    return deadly


def open_missing() -> Callable[[Path], str]:
    """Find no model."""
    raise ModelFileError("the model toy is missing", hint="download it")


def main(
    executor: str,
    kind: str,
    count: str,
    seconds: str,
    actors: str,
    size: str,
    gpus: str = "0",
) -> None:
    """Run a function on numbered items; print a line for each result as it comes. Then print the
    seconds until all of a given number of actors were ready (start), those of the run after that,
    and the warnings. executor: "local" for as many threads of this process.
    """
    functions: dict[str, Callable[[], Callable[[Path], str]]] = {
        "waiting": partial(open_waiting, float(seconds)),
        "on_gpu": partial(open_on_gpu, float(seconds)),
        "deadly": open_deadly,
        "missing": open_missing,
    }
    items = [Path(f"{n}.png") for n in range(int(count))]
    reporter = Warnings()
    work = EachWork(functions[kind], "toy")
    workers = int(actors)
    is_local = executor == "local"
    started = time.monotonic()
    with ExitStack() as stack:
        cluster = None
        if not is_local:
            shape = {"actors": workers, "gpus": float(gpus), "batch_images": int(size)}
            cluster = stack.enter_context(connected(executor, **shape))
        threads = workers if is_local else 1
        placed = stack.enter_context(
            place.opened(work, cluster=cluster, workers=threads, reporter=reporter)
        )
        ready: set[str] = set()
        while kind in ("waiting", "on_gpu") and not is_local and len(ready) < workers:
            ready |= {str(line).split()[1] for line in placed.run(items[: 4 * workers])}
        begun = time.monotonic()
        for result in placed.run(items):
            print(result, flush=True)
        ended = time.monotonic()
    times = {"start": begun - started, "seconds": ended - begun}
    print(json.dumps({**times, "warnings": reporter.lines}), flush=True)
