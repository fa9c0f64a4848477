"""What placing work on a Ray cluster costs: `python -m tests.benchmarks.ray_scale`.

The work waits, so that two cores show what eight workers do: 20 ms an image, in batches of 20. All
nodes are on this machine, in a network namespace. Ideal is what the workers alone would take.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.executors import raylets
from tests.executors.raylets import Raylets

SECONDS, BATCH, WORKERS = 0.02, 20, (1, 2, 4, 8)
# Batches for each worker: the last of them leave workers idle, as at the end of every run.
ROUNDS = 25
_TOY = "import sys; from tests.executors.toy_work import main; main(*sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class RayTime:
    """One run. seconds: from its first batch to its last result."""

    workers: int
    images: int
    seconds: float

    @property
    def ideal(self) -> float:
        return self.images * SECONDS / self.workers

    @property
    def efficiency(self) -> float:
        return self.ideal / self.seconds


def run(
    cluster: Raylets, workers: int, images: int, seconds: float = SECONDS, batch: int = BATCH
) -> float:
    """Run work that waits on some workers; return the seconds from its first batch on."""
    process = cluster.python(
        "-c", _TOY, "ray", "waiting", str(images), str(seconds), str(workers), str(batch),
        environment={"RAY_ADDRESS": cluster.address},
    )  # fmt: skip
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return float(json.loads(out.splitlines()[-1])["seconds"])


def times(cluster: Raylets) -> list[RayTime]:
    """Measure each number of workers."""
    images = {workers: workers * BATCH * ROUNDS for workers in WORKERS}
    return [RayTime(n, images[n], run(cluster, n, images[n])) for n in WORKERS]


def overhead(cluster: Raylets, batches: int = 1000) -> float:
    """Return the seconds that a batch costs when its work takes none: two workers, one image."""
    return run(cluster, 2, batches, seconds=0.0, batch=1) / batches


def main() -> None:
    """Print the table of docs/scale.md."""
    with raylets.started(8) as cluster:
        print("| workers | images | seconds | ideal | efficiency |\n|---|---|---|---|---|")
        for row in times(cluster):
            print(
                f"| {row.workers} | {row.images:,} | {row.seconds:.2f} | {row.ideal:.2f} "
                f"| {row.efficiency:.3f} |",
                flush=True,
            )
        print(f"\noverhead of a batch: {1000 * overhead(cluster):.1f} ms")


if __name__ == "__main__":
    main()
