"""How many images a worker of a cluster gets at once."""

import heapq
from itertools import pairwise

import pytest

from datasetkit.executors.ray_cluster import batch_size


def sizes(count: int, workers: int, largest: int) -> list[int]:
    cut, left = [], count
    while left > 0:
        cut.append(min(left, batch_size(left, count, workers, largest)))
        left -= cut[-1]
    return cut


def test_few_images_are_dealt_out_to_all_workers():
    assert sizes(8, 2, 32) == [1] * 8
    assert sizes(3, 4, 32) == [1] * 3


@pytest.mark.parametrize("workers", [1, 2, 8, 100])
@pytest.mark.parametrize("largest", [1, 7, 32, 1000])
def test_the_last_batches_are_smaller_and_none_is_too_small(workers, largest):
    count = 50 * workers * largest
    cut = sizes(count, workers, largest)
    assert sum(cut) == count and cut[0] == largest
    assert all(a >= b for a, b in pairwise(cut))
    assert min(cut[:-1]) >= max(1, largest // 8) >= cut[-1]
    # What small batches cost: not many more than full ones alone.
    assert len(cut) <= 50 * workers + 16 * workers


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_workers_of_unequal_speed_end_at_about_the_same_time(workers):
    """Each takes the next batch when it is done: idle at the end is what counts."""
    cut = sizes(500 * workers, workers, 20)
    free = [(0.0, n) for n in range(workers)]
    for size in cut:
        at, n = heapq.heappop(free)
        heapq.heappush(free, (at + size * (0.02 + 0.001 * n), n))
    ends = [at for at, _ in free]
    assert max(ends) - min(ends) < 0.01 * max(ends)
