"""Where the work on images runs, besides this process: what verbs know of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from datasetkit.core.progress import Reporter

# HEAD, HEAD:PORT and [::1]:PORT.
_HEAD: Final = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?")
_LAST_PORT: Final = 65_535


def is_head(address: str) -> bool:
    """Tell whether a text is the address of a machine, with or without a port."""
    head = _HEAD.fullmatch(address)
    return head is not None and int(head[2] or 0) <= _LAST_PORT


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
