"""Work that can run in another process: opened there once, then given some images at a time.

The objects are pickled, so that functions and classes in them must be importable.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Protocol, TypeVar

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed
from datasetkit.executors import batches, local
from datasetkit.executors.batches import WorkerFacts
from datasetkit.executors.local import Item

T = TypeVar("T")
_NO_FACTS: Final = WorkerFacts()


class OpenWork(Protocol):
    """Work whose models are loaded. facts: what the caller needs to know of them."""

    @property
    def facts(self) -> WorkerFacts: ...

    def run(
        self, items: Sequence[Any], *, workers: int, reporter: Reporter = SILENT
    ) -> Generator[Any, None, None]:
        """Yield a result for each item, in input order."""
        ...


class Work(Protocol):
    """Work as frozen picklable options, without a model or an open file."""

    @property
    def name(self) -> str:
        """The name of the work in the progress line."""

    def open(self) -> AbstractContextManager[OpenWork]:
        """Load the models in the process that calls this, for as long as the context is held."""


@dataclass(frozen=True, slots=True)
class EachWork(Generic[T]):
    """A function of one image, which `open_function` makes once a process. name: of the work."""

    open_function: Callable[[], Callable[[Any], T]]
    name: str

    @contextmanager
    def open(self) -> Iterator[OpenEach[T]]:
        """Load what the function needs."""
        yield OpenEach(self.open_function(), self.name)


@dataclass(frozen=True, slots=True)
class OpenEach(Generic[T]):
    """A function at work."""

    function: Callable[[Any], T]
    name: str
    facts: WorkerFacts = _NO_FACTS

    def run(
        self, items: Sequence[Item], *, workers: int, reporter: Reporter = SILENT
    ) -> Generator[T | Failed, None, None]:
        """Call the function on every item in threads."""
        return local.each(self.function, items, name=self.name, workers=workers, reporter=reporter)


@dataclass(frozen=True, slots=True)
class BatchWork:
    """A batch stage (`executors/batches.py`): one model for all images of a process. Its worker has
    `facts`.
    """

    stage: Any

    @property
    def name(self) -> str:
        return str(self.stage.name)

    @contextmanager
    def open(self) -> Iterator[OpenBatches]:
        """Load the model."""
        with batches.opened(self.stage) as worker:
            yield OpenBatches(worker, self.stage, worker.facts)


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """A batch stage at work."""

    worker: Any
    stage: Any
    facts: WorkerFacts

    def run(
        self, items: Sequence[Any], *, workers: int, reporter: Reporter = SILENT
    ) -> Generator[Any, None, None]:
        """Prepare the images in threads, and give them to the model in batches."""
        return batches.work(
            self.worker,
            replace(self.stage, batch_size=self.facts.batch_size),
            items,
            workers=workers,
            in_turns=self.facts.fills_cores,
            reporter=reporter,
        )
