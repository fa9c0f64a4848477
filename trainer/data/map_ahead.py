"""Do work for later items in threads while the caller works on an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from datasetkit.executors.local import in_order

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(items: Iterable[T], work: Callable[[T], R], workers: int) -> Generator[R, None, None]:
    """Yield `work(item)` for each item in order; the threads are at most `workers` items ahead."""
    if workers == 0:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reading")
    try:
        yield from in_order(work, items, pool, window=workers + 1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
