"""Batches: images are prepared in threads, and one model takes several of them at once."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed, ImageRecord, Outcome
from datasetkit.executors.local import default_workers, guarded, in_order

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
W_co = TypeVar("W_co", covariant=True)
Prepared = tuple[ImageRecord, object]


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a caller needs to know of a loaded model, as data. batch_size: images that it takes best
    at once. fills_cores: it keeps all cores busy by itself. device: where it runs. notice: to show,
    or "". labels: of a tagger, as (name, category).
    """

    batch_size: int = 1
    fills_cores: bool = False
    device: str = ""
    notice: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class BatchWorker(Protocol[T_co]):
    """A batch stage at work in one process, with its models loaded."""

    def prepare(self, record: ImageRecord) -> object:
        """Do what needs one image only: decode, preprocess, shrink.

        Runs in several threads at once, so it must not change the worker. Its result goes to
        `process`. Raises InputError for an image that cannot be used: that image becomes `Failed`,
        and the others go on. An error of the set-up (StorageError, ModelFileError, ...) stops the
        run; any other exception is a bug.
        """

    def process(self, batch: Sequence[tuple[ImageRecord, object]]) -> Sequence[Outcome[T_co]]:
        """Finish a batch of prepared images: one outcome for each, in the batch's order.

        Never runs twice at once. A batch holds `batch_size` images, the last one fewer, never none.
        """


class BatchStage(Protocol[T_co]):
    """The work as frozen picklable options, without a model or an open file.

    An image's outcome must not depend on the other images of its batch.
    """

    @property
    def name(self) -> str:
        """The name of the stage in the progress line and in the report."""

    @property
    def batch_size(self) -> int:
        """How many images `process` takes at once, at least 1."""

    def open(self) -> AbstractContextManager[BatchWorker[T_co]]:
        """Load the models in the process that calls this, for as long as the context is held.

        Raises DskError when the set-up cannot work; nothing has been done then.
        """


class Openable(Protocol[W_co]):
    """What `opened` needs of a stage: the worker keeps its own type."""

    def open(self) -> AbstractContextManager[W_co]: ...


def run(
    stage: BatchStage[T],
    records: Sequence[ImageRecord],
    *,
    workers: int = 0,
    reporter: Reporter = SILENT,
) -> Generator[Outcome[T], None, None]:
    """Open the stage, work on the records, close it: one outcome for each record, in input order.

    Without records nothing is opened. See `work` for the arguments and errors.
    """
    if not records:
        return
    with opened(stage) as worker:
        yield from work(worker, stage, records, workers=workers, reporter=reporter)


def opened(stage: Openable[W_co]) -> AbstractContextManager[W_co]:
    """Open a stage in this process, for callers that need the worker before they give it images."""
    return stage.open()


def work(
    worker: BatchWorker[T],
    stage: BatchStage[T],
    records: Sequence[ImageRecord],
    *,
    workers: int = 0,
    in_turns: bool = False,
    reporter: Reporter = SILENT,
) -> Generator[Outcome[T], None, None]:
    """Work on the records with an open worker: one outcome for each, in input order.

    workers: threads that prepare images; 0 means one per core and one more. At most 2 x workers +
    batch_size prepared images wait in memory besides the batch at work. Closing the iterator, or
    Ctrl-C, drops the images that have not begun and waits for those that have.

    in_turns: `process` fills all cores by itself, so images are prepared between its batches and
    not beside them (a model of two threads, one of which shares its core with a decoder, keeps the
    other one waiting); at most 4 x workers + batch_size then wait. With fewer workers than cores
    they are still prepared beside the model.
    """
    threads = default_workers(workers)
    turns = in_turns and threads >= (os.cpu_count() or 1)
    window = (4 if turns else 2) * threads + stage.batch_size
    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"dsk-{stage.name}")

    def prepare(record: ImageRecord) -> Prepared:
        return record, worker.prepare(record)

    reporter.start(stage.name, len(records))
    try:
        prepared = in_order(guarded(prepare), records, pool, window=window, in_turns=turns)
        for outcome in _processed(worker, prepared, stage.batch_size):
            reporter.advance()
            yield outcome
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        reporter.finish()


def _processed(
    worker: BatchWorker[T], prepared: Iterable[Prepared | Failed], batch_size: int
) -> Iterator[Outcome[T]]:
    """Group the prepared images into batches; a failed image keeps its place in the order and takes
    none in a batch.
    """
    group: list[Prepared | Failed] = []
    ready = 0
    for item in prepared:
        group.append(item)
        ready += not isinstance(item, Failed)
        if ready in (0, batch_size):
            yield from _finish(worker, group)
            group, ready = [], 0
    yield from _finish(worker, group)


def _finish(worker: BatchWorker[T], group: Sequence[Prepared | Failed]) -> Iterator[Outcome[T]]:
    batch = [item for item in group if not isinstance(item, Failed)]
    results = worker.process(batch) if batch else ()
    if len(results) != len(batch):
        raise RuntimeError(f"the worker gave {len(results)} outcomes for {len(batch)} images")
    following = iter(results)
    for item in group:
        yield item if isinstance(item, Failed) else next(following)
