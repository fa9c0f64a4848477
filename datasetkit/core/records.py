"""The nouns that travel between the rooms: an image's record and the outcome of work on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Caption:
    """The tags of one image, in order."""

    tags: tuple[str, ...]

    def text(self) -> str:
        """Return the caption as one line without its newline: tags joined by a comma and a
        space.
        """
        return ", ".join(self.tags)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a dataset, as it is looked at (EXIF turn applied).

    path: the file. id: first 16 hex of the sha256 of its bytes, "" where the caller needed none.
    width, height: pixels after the EXIF turn. caption: the same-stem `.txt`, or None where there is
    none.
    """

    path: Path
    id: str
    width: int
    height: int
    caption: Caption | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """The work on one image succeeded; `value` is what it made."""

    record: ImageRecord
    value: T_co
    note: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing had to be done for this image, and why."""

    record: ImageRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """One image could not be worked on; the others were. `error` is one line for people."""

    path: Path
    error: str
    hint: str = ""


Outcome = Done[T_co] | Skipped | Failed


@dataclass(frozen=True, slots=True)
class RunReport(Generic[T_co]):
    """What a stage did, one outcome an image, in input order."""

    stage: str
    outcomes: tuple[Outcome[T_co], ...]

    @property
    def done(self) -> Sequence[Done[T_co]]:
        return [o for o in self.outcomes if isinstance(o, Done)]

    @property
    def skipped(self) -> Sequence[Skipped]:
        return [o for o in self.outcomes if isinstance(o, Skipped)]

    @property
    def failed(self) -> Sequence[Failed]:
        return [o for o in self.outcomes if isinstance(o, Failed)]
