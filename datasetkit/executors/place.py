"""Where work runs: in threads of this process, or on a cluster. Results come in input order in
both, and are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from datasetkit.core.cluster import Cluster
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed
from datasetkit.executors.batches import WorkerFacts
from datasetkit.executors.local import path_of
from datasetkit.executors.work import EachWork, OpenWork, Work

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlacedWork:
    """Open work, here or on the workers of a cluster. facts: what is known of its model."""

    facts: WorkerFacts
    run: Callable[[Sequence[Any]], Generator[Any, None, None]]


def each(
    open_function: Callable[[], Callable[[Any], T]],
    items: Sequence[Any],
    *,
    name: str,
    cluster: Cluster | None = None,
    workers: int = 0,
    reporter: Reporter = SILENT,
) -> Generator[T | Failed, None, None]:
    """Call a function on every image; yield its results in input order. See `local.each`.

    open_function: loads what the function needs, and returns it: once here, or once on each worker
    of the cluster. It must be importable there. Without items it is not called.
    """
    if not items:
        return
    work = EachWork(open_function, name)
    with opened(work, cluster=cluster, workers=workers, reporter=reporter) as placed:
        yield from placed.run(items)


@contextmanager
def opened(
    work: Work,
    *,
    cluster: Cluster | None = None,
    workers: int = 0,
    reporter: Reporter = SILENT,
) -> Iterator[PlacedWork]:
    """Load the models of some work, here or on the workers of a cluster.

    Raises the errors of the set-up, and ClusterError where the cluster is lost.
    """
    if cluster is None:
        with work.open() as here:
            yield PlacedWork(here.facts, lambda items: _here(here, items, workers, reporter))
        return
    facts = cluster.open(work, workers, reporter)
    try:
        yield PlacedWork(facts, lambda items: _there(cluster, work.name, items, reporter))
    finally:
        cluster.close_work()


def _here(
    work: OpenWork, items: Sequence[Any], workers: int, reporter: Reporter
) -> Generator[Any, None, None]:
    return work.run(items, workers=workers, reporter=reporter)


def _there(
    cluster: Cluster, name: str, items: Sequence[Any], reporter: Reporter
) -> Generator[Any, None, None]:
    reporter.start(name, len(items))
    try:
        for result in cluster.run(items, len(items), _unfinished):
            reporter.advance()
            yield result
    finally:
        reporter.finish()


def _unfinished(item: Any) -> Failed:
    path = path_of(item)
    return Failed(
        path,
        f"{display(path)} ended each worker that it was given to",
        "run it here, with --executor local; a larger --cpus or fewer --actors leave more memory",
    )
