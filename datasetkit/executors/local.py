"""The local executor: a stage's images through the threads of this process, results in input
order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from itertools import islice
from typing import Protocol, TypeVar

from datasetkit.core.errors import (
    ConfigError,
    DskError,
    Locked,
    MissingExtra,
    ModelFileError,
    StorageError,
)
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed, ImageRecord, Outcome
from datasetkit.stages.base import Stage, Worker

T = TypeVar("T")
W_co = TypeVar("W_co", covariant=True)
Prepared = tuple[ImageRecord, object]

# What would fail for every image: one full disk is one error, not a thousand failed images.
_SETUP = (ConfigError, Locked, MissingExtra, ModelFileError, StorageError)


class Openable(Protocol[W_co]):
    """What `opened` needs of a stage: the worker keeps its own type."""

    def open(self) -> AbstractContextManager[W_co]: ...


def run(
    stage: Stage[T],
    records: Sequence[ImageRecord],
    *,
    workers: int = 0,
    reporter: Reporter = SILENT,
) -> Generator[Outcome[T], None, None]:
    """Open the stage, work on the records, close it: one outcome for each record, in input order,
    as they come.

    workers: threads that prepare images; 0 means one a core and one more. Without records nothing
    is opened. Raises what the set-up raises (`Stage.open`, `Worker.process`); see `work`.
    """
    if not records:
        return
    with opened(stage) as worker:
        yield from work(worker, stage, records, workers=workers, reporter=reporter)


def opened(stage: Openable[W_co]) -> AbstractContextManager[W_co]:
    """Open a stage in this process, for callers that ask the worker something before they give it
    images.
    """
    return stage.open()


def work(
    worker: Worker[T],
    stage: Stage[T],
    records: Sequence[ImageRecord],
    *,
    workers: int = 0,
    in_turns: bool = False,
    reporter: Reporter = SILENT,
) -> Generator[Outcome[T], None, None]:
    """Work on the records with an open worker: one outcome for each, in input order, as they come.

    At most 2 x workers + batch_size prepared images wait in memory besides the batch at work.
    Closing the iterator or Ctrl-C drops what has not begun, and waits for the images in hand, so
    nothing is left half-written. in_turns: `process` fills all cores by itself, so images are
    prepared between its batches and not beside them (a model of two threads, one of which shares
    its core with a decoder, keeps the other one waiting); at most 4 x workers + batch_size then
    wait. With fewer workers than cores they stay side by side.
    """
    cores = os.cpu_count() or 1
    threads = workers or cores + 1  # one more than cores: one of them waits for the disk
    turns = in_turns and threads >= cores
    window = (4 if turns else 2) * threads + stage.batch_size
    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"dsk-{stage.name}")
    reporter.start(stage.name, len(records))
    try:
        prepared = _prepared(worker, records, pool, window=window, in_turns=turns)
        for outcome in _processed(worker, prepared, stage.batch_size):
            reporter.advance()
            yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        reporter.finish()


def _prepared(
    worker: Worker[object],
    records: Sequence[ImageRecord],
    pool: ThreadPoolExecutor,
    *,
    window: int,
    in_turns: bool,
) -> Iterator[Prepared | Failed]:
    """Prepare ahead in the pool, at most `window` images at a time; yield in input order.

    in_turns: nothing is prepared while the caller works on what it was given.
    """
    left = iter(records)
    waiting: deque[Future[Prepared | Failed]] = deque()
    while True:
        if not (in_turns and waiting):
            waiting.extend(
                pool.submit(_prepare, worker, record)
                for record in islice(left, window - len(waiting))
            )
            if in_turns:
                wait(waiting)
        if not waiting:
            return
        yield waiting.popleft().result()


def _prepare(worker: Worker[object], record: ImageRecord) -> Prepared | Failed:
    """The guard: what is wrong with one image costs that image only."""
    try:
        return record, worker.prepare(record)
    except _SETUP:
        raise
    except DskError as error:
        return Failed(record.path, error.message, error.hint)
    except MemoryError:
        hint = "--workers 1, or a smaller image"
        return Failed(
            record.path, f"cannot read {display(record.path)}: it does not fit in memory", hint
        )


def _processed(
    worker: Worker[T], prepared: Iterable[Prepared | Failed], batch_size: int
) -> Iterator[Outcome[T]]:
    """Group what was prepared into batches; a failed image keeps its place and takes none in a
    batch.
    """
    group: list[Prepared | Failed] = []
    ready = 0
    for item in prepared:
        group.append(item)
        ready += not isinstance(item, Failed)
        if ready in (0, batch_size):
            yield from _settle(worker, group)
            group, ready = [], 0
    yield from _settle(worker, group)


def _settle(worker: Worker[T], group: Sequence[Prepared | Failed]) -> Iterator[Outcome[T]]:
    batch = [item for item in group if not isinstance(item, Failed)]
    results = worker.process(batch) if batch else ()
    if len(results) != len(batch):
        raise RuntimeError(f"the worker gave {len(results)} outcomes for {len(batch)} images")
    following = iter(results)
    for item in group:
        yield item if isinstance(item, Failed) else next(following)
