"""Plans: what a verb is going to do to files, as data that can be shown, checked, applied and
undone.
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
    """Copy a file's bytes to a free name."""

    src: Path
    dst: Path


@dataclass(frozen=True, slots=True)
class Link:
    """Hard-link a file to a free name; where the file system has no hard links, its bytes are
    copied.
    """

    src: Path
    dst: Path


@dataclass(frozen=True, slots=True)
class WriteText:
    """Replace or create a text file; what stood there before is kept in the journal."""

    path: Path
    text: str

    @classmethod
    def caption(cls, image: Path, caption: Caption) -> WriteText:
        """Write an image's caption beside it. An empty caption is refused: trainers stop at 0-byte
        captions.
        """
        if not caption.tags:
            raise InputError(
                f"an empty caption for {image.name} would stop the trainers", hint="give it a tag"
            )
        return cls(image.with_suffix(".txt"), file_text(caption))


@dataclass(frozen=True, slots=True)
class Rewrite(WriteText):
    """Write a text only over what is known. over: the bytes that must stand there, None for
    nothing.
    """

    over: bytes | None


@dataclass(frozen=True, slots=True)
class WriteBytes:
    """Replace or create a file that is no text, e.g. a chart; what stood there before is kept in
    the journal.
    """

    path: Path
    data: bytes


FileOp = Move | Copy | Link | WriteText | WriteBytes


@dataclass(frozen=True, slots=True)
class Plan:
    """File operations that belong together: all are checked before the first is done."""

    ops: tuple[FileOp, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.ops + other.ops)

    def __bool__(self) -> bool:
        return bool(self.ops)

    @classmethod
    def of(cls, ops: Iterable[FileOp]) -> Plan:
        """Gather operations into a plan."""
        return cls(tuple(ops))
