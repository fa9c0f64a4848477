"""The local executor: one function over many images in threads, results in input order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
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
from datasetkit.core.records import Failed
from datasetkit.executors.in_flight import DECODED

A = TypeVar("A")
T = TypeVar("T")

# An error of the set-up would occur for every image: a full disk is one error, not a thousand
# failed images.
_SETUP = (ConfigError, Locked, MissingExtra, ModelFileError, StorageError)


class HasPath(Protocol):
    """An item of work that names its image."""

    @property
    def path(self) -> Path: ...


Item = TypeVar("Item", bound=Path | HasPath)


# Why not ThreadPoolExecutor.map: it submits every image at once, so that Ctrl-C waits for all of
# them and prepared images pile up in memory; an error of one image ends the whole run; nothing
# reports progress. Threads are enough, since Pillow, onnxruntime, hashlib and the disk release the
# GIL. Results come in input order, because reports, captions and journal entries must not depend on
# which thread was faster.
def each(
    function: Callable[[Item], T],
    items: Sequence[Item],
    *,
    name: str,
    workers: int = 0,
    reporter: Reporter = SILENT,
) -> Generator[T | Failed, None, None]:
    """Call a function on every image in threads; yield its results in input order.

    An image for which the function raises InputError (or runs out of memory) yields `Failed`, and
    the others go on. An error of the set-up (StorageError, ModelFileError, ...) is raised and stops
    the run; so is any other exception, which is a bug. Closing the iterator, or Ctrl-C, drops the
    images that have not begun and waits for those that have, so that no file is half written.

    name: of the work, for the progress line. workers: threads; 0 means one per core and one more,
    of which as many decode as `in_flight` has room for. At most 3 x workers results wait in memory.
    """
    if not items:
        return
    threads = default_workers(workers)
    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"dsk-{name}")
    reporter.start(name, len(items))
    try:
        for result in in_order(guarded(function), items, pool, window=3 * threads):
            reporter.advance()
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        reporter.finish()


def default_workers(workers: int) -> int:
    """Return the number of threads; 0 means one per core, and one more that waits for the disk."""
    return workers or (os.cpu_count() or 1) + 1


def guarded(function: Callable[[Item], T]) -> Callable[[Item], T | Failed]:
    """Return the function with the errors of one image turned into `Failed`."""

    def guard(item: Item) -> T | Failed:
        try:
            with DECODED.work():
                return function(item)
        except _SETUP:
            raise
        except DskError as error:
            return Failed(path_of(item), error.message, error.hint)
        except MemoryError:
            hint = "--workers 1, or a smaller image"
            path = path_of(item)
            return Failed(path, f"cannot read {display(path)}: it does not fit in memory", hint)

    return guard


def path_of(item: Path | HasPath) -> Path:
    """Return the image of an item of work."""
    return item if isinstance(item, Path) else item.path


def in_order(
    function: Callable[[A], T],
    items: Iterable[A],
    pool: ThreadPoolExecutor,
    *,
    window: int,
    in_turns: bool = False,
) -> Iterator[T]:
    """Call a function in a pool at most `window` items ahead; yield the results in input order.

    in_turns: no call runs while the caller works on a result.
    """
    remaining = iter(items)
    waiting: deque[Future[T]] = deque()
    while True:
        if not (in_turns and waiting):
            ahead = islice(remaining, window - len(waiting))
            waiting.extend(pool.submit(function, item) for item in ahead)
            if in_turns:
                wait(waiting)
        if not waiting:
            return
        yield waiting.popleft().result()
