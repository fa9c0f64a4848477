"""Plans: what a command will do to files, as data that can be shown, checked, applied and undone.

A verb builds a plan of these operations; only `Project.apply` (session.py) carries one out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text
from datasetkit.core.errors import InputError
from datasetkit.core.records import Caption


@dataclass(frozen=True, slots=True)
class Move:
    """Rename a file or folder; `dst` must be free, or be freed by another move of the same plan."""

    src: Path
    dst: Path


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy a file to a free name."""

    src: Path
    dst: Path


@dataclass(frozen=True, slots=True)
class Link:
    """Hard-link a file to a free name, or copy it if the file system has no hard links."""

    src: Path
    dst: Path


@dataclass(frozen=True, slots=True)
class WriteText:
    """Replace or create a text file; the journal keeps its old content."""

    path: Path
    text: str

    @classmethod
    def caption(cls, image: Path, caption: Caption) -> WriteText:
        """Write an image's caption beside it.

        Raises InputError for an empty caption: trainers stop at a caption of 0 bytes.
        """
        if not caption.tags:
            raise InputError(
                f"the caption of {image.name} would be empty, which stops trainers",
                hint="give it a tag",
            )
        return cls(image.with_suffix(".txt"), file_text(caption))


@dataclass(frozen=True, slots=True)
class Rewrite(WriteText):
    """Replace a text only if it still is what was read. over: the bytes that the file must hold,
    None if it must not exist.
    """

    over: bytes | None


@dataclass(frozen=True, slots=True)
class WriteBytes:
    """Replace or create a file that is not a text, e.g. a chart; the journal keeps its old
    content.
    """

    path: Path
    data: bytes


FileOp = Move | Copy | Link | WriteText | WriteBytes


@dataclass(frozen=True, slots=True)
class Plan:
    """File operations that belong together: all are checked before the first one runs."""

    ops: tuple[FileOp, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.ops + other.ops)

    def __bool__(self) -> bool:
        return bool(self.ops)

    @classmethod
    def of(cls, ops: Iterable[FileOp]) -> Plan:
        """Gather operations into a plan."""
        return cls(tuple(ops))
