"""What placing work on a Ray cluster costs: `python -m tests.benchmarks.ray_scale`.

The work waits, so that two cores show what eight workers do: 0.2 s an image, in batches of 20. All
nodes are on this machine, in a network namespace. Each run is compared with one of as many threads
in one process just before it: what other programs on the machine cost is in both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.executors import raylets
from tests.executors.raylets import Raylets

SECONDS, BATCH, WORKERS = 0.2, 20, (1, 2, 4, 8)
# Batches for each worker: the last of them leave workers idle, as at the end of every run.
ROUNDS = 5
# Two, with several workers each: every node costs five processes, which eight nodes on two cores
# spend minutes to start.
NODES = 2
_TOY = "import sys; from tests.executors.toy_work import main; main(*sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class RayTime:
    """One run. start: seconds until all workers were ready. seconds: from its first batch to its
    last result. local: of as many threads.
    """

    workers: int
    images: int
    start: float
    seconds: float
    local: float

    @property
    def ideal(self) -> float:
        return self.images * SECONDS / self.workers

    @property
    def efficiency(self) -> float:
        return self.local / self.seconds


def run(
    cluster: Raylets,
    workers: int,
    images: int,
    *,
    executor: str = "ray",
    seconds: float = SECONDS,
    batch: int = BATCH,
) -> tuple[float, float]:
    """Run work that waits on some workers; return the seconds until they were ready, and those of
    the run.
    """
    process = cluster.python(
        "-c", _TOY, executor, "waiting", str(images), str(seconds), str(workers), str(batch),
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    times = json.loads(out.splitlines()[-1])
    return float(times["start"]), float(times["seconds"])


def time_of(cluster: Raylets, workers: int) -> RayTime:
    """Measure one number of workers, and as many threads."""
    images = workers * BATCH * ROUNDS
    _, local = run(cluster, workers, images, executor="local")
    start, seconds = run(cluster, workers, images)
    return RayTime(workers, images, start, seconds, local)


def overhead(cluster: Raylets, batches: int = 1000) -> float:
    """Return the seconds that a batch costs when its work takes none: two workers, one image."""
    return run(cluster, 2, batches, seconds=0.0, batch=1)[1] / batches


def main() -> None:
    """Print the table of docs/scale.md."""
    with raylets.started(NODES, cpus=max(WORKERS) / NODES) as cluster:
        print("| workers | images | ideal | threads | Ray | efficiency | start |")
        print("|---|---|---|---|---|---|---|")
        for workers in WORKERS:
            row = time_of(cluster, workers)
            print(
                f"| {row.workers} | {row.images:,} | {row.ideal:.1f} s | {row.local:.1f} s "
                f"| {row.seconds:.1f} s | {row.efficiency:.2f} | {row.start:.1f} s |",
                flush=True,
            )
        print(f"\noverhead of a batch: {1000 * overhead(cluster):.1f} ms")


if __name__ == "__main__":
    main()
