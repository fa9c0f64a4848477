"""Where the work on images runs, besides this process: what verbs know of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datasetkit.core.progress import Reporter


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of a cluster. versions: of dsk and of the packages that decide the bytes of a
    result, by name; empty where dsk is not installed.
    """

    address: str
    cpus: float
    gpus: float
    versions: dict[str, str]


class Cluster(Protocol):
    """A connected cluster. `executors.place` sends work to it."""

    def require_visible(self, read: Sequence[Path], written: Sequence[Path]) -> None:
        """Raise ClusterError for a file that a node does not see as this machine does, and for a
        folder that it cannot write to. Nothing is checked where images are shipped.
        """

    def open(self, work: object, workers: int, reporter: Reporter) -> Any:
        """Open the work on every worker; return what its first worker says of it (`facts`)."""

    def run(
        self, items: Iterable[Any], count: int, missing: Callable[[Any], Any]
    ) -> Generator[Any, None, None]:
        """Run the open work on items; yield a result for each, in order. missing: the result of an
        item whose worker dies each time.
        """

    def close_work(self) -> None:
        """End the workers of the open work, and free their models."""
