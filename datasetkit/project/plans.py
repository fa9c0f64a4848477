"""Plans: what a command will do to files, as data that can be shown, checked, applied and undone.

A verb builds a plan of these operations; only `Project.apply` (session.py) carries one out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from datasetkit.core.files import PROJECT
from datasetkit.core.packed import PackedList

# How a path is written in the description of an operation.
Name = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Move:
    """Rename a file or folder; `dst` must be free, or be freed by another move of the same plan.

    over: the bytes that the file must hold, where the plan depends on them; None: any.
    """

    src: Path
    dst: Path
    over: bytes | None = None

    def describe(self, name: Name) -> str:
        return f"move   {name(self.src)} -> {name(self.dst)}"


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy a file to a free name; the copy shares its blocks with the file where the file system
    can.
    """

    src: Path
    dst: Path

    def describe(self, name: Name) -> str:
        return f"copy   {name(self.src)} -> {name(self.dst)}"


@dataclass(frozen=True, slots=True)
class Link:
    """Hard-link a file to a free name, or copy it if the file system has no hard links."""

    src: Path
    dst: Path

    def describe(self, name: Name) -> str:
        return f"link   {name(self.src)} -> {name(self.dst)}"


@dataclass(frozen=True, slots=True)
class WriteText:
    """Replace or create a text file; the journal keeps its old content.

    over: the bytes that the file held when the text was decided, None if there was no file. If it
    holds anything else when the plan is applied, somebody saved it meanwhile: FileChanged.
    """

    path: Path
    text: str
    over: bytes | None

    def describe(self, name: Name) -> str:
        return f"write  {name(self.path)}"


@dataclass(frozen=True, slots=True)
class WriteBytes:
    """Replace or create a file that is not a text, e.g. a chart; the journal keeps its old
    content. over: as of a text.
    """

    path: Path
    data: bytes
    over: bytes | None

    def describe(self, name: Name) -> str:
        return f"write  {name(self.path)}"


FileOp = Move | Copy | Link | WriteText | WriteBytes


@dataclass(frozen=True, slots=True)
class Plan:
    """File operations that belong together: all are checked before the first one runs."""

    ops: Sequence[FileOp] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan.of(chain(self.ops, other.ops)) if self and other else other or self

    def __bool__(self) -> bool:
        return len(self.ops) > 0

    @classmethod
    def of(cls, ops: Iterable[FileOp]) -> Plan:
        """Gather operations into a plan."""
        return cls(PackedList(ops))

    @property
    def moves(self) -> int:
        """Return how many files are renamed."""
        return sum(isinstance(op, Move) for op in self.ops)

    def removed(self) -> tuple[Path, ...]:
        """Return the files that go into .dsk/ and are not replaced by others of the same name."""
        replaced = {op.dst for op in self.ops if isinstance(op, Link | Copy)}
        return tuple(
            op.src
            for op in self.ops
            if isinstance(op, Move) and PROJECT in op.dst.parts and op.src not in replaced
        )
