"""Work that waits is as fast on a cluster as its workers are many."""

import pytest

from tests.benchmarks import ray_scale
from tests.executors import raylets

WHY_NOT = raylets.missing()


@pytest.mark.slow
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "Ray is here")
def test_the_efficiency_of_two_four_and_eight_workers():
    with raylets.started(ray_scale.NODES, cpus=4) as cluster:
        rows = [ray_scale.time_of(cluster, workers) for workers in ray_scale.WORKERS]
        cost = ray_scale.overhead(cluster, batches=200)
    assert {row.workers: row.efficiency for row in rows if row.efficiency < 0.9} == {}
    assert cost < 0.05
