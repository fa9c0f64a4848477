"""The facts from which outputs are planned: files, their rows in the store, and captions.

`OutputFacts` is plain data. `outputs/gather.py` fills it from the disk and the store; tests fill
it by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from datasetkit.core.errors import InputError
from datasetkit.core.files import MASKS, CompanionIndex, companion_index, companions_in
from datasetkit.core.records import Caption
from datasetkit.project.plans import Move
from datasetkit.project.store import Output, StoredOutput

T = TypeVar("T")


def absolute(path: Path) -> Path:
    """Return a path as `OutputFacts` and the store spell it."""
    if path.is_absolute() and ".." not in path.parts:  # the usual case, ten times as fast
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved


@dataclass(frozen=True, slots=True)
class FileState:
    """A directory entry. exists: False for a link to nothing. is_file: a regular file, or a link to
    one.
    """

    size: int = 0
    mtime_ns: int = 0
    is_file: bool = True
    is_link: bool = False
    exists: bool = True


@dataclass(frozen=True, slots=True)
class CaptionState:
    """A caption file. caption: None if it could not be read, and `problem` says why. generated:
    dsk wrote just this text. data: the bytes that were read, None without a file.
    """

    caption: Caption | None
    generated: bool = False
    problem: InputError | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class OutputFacts:
    """All that the plan of outputs depends on besides the scan and the options.

    Every path is absolute. root: of the project. trash: the folder that this command's trash goes
    to. files: every entry of the folders of the originals and of the outputs, masks included.
    stored: the outputs that the store lists. captions: by the path of the caption file. digests: of
    the files that a killed run may have copied, and of their sources.
    """

    root: Path
    trash: Path
    files: Mapping[Path, FileState] = field(default_factory=dict)
    stored: Mapping[Path, StoredOutput] = field(default_factory=dict)
    captions: Mapping[Path, CaptionState] = field(default_factory=dict)
    digests: Mapping[Path, str] = field(default_factory=dict)

    @cached_property
    def _companions(self) -> CompanionIndex:
        return companion_index(
            (path.parent.parent if path.parent.name == MASKS else path.parent, path)
            for path, state in self.files.items()
            if state.is_file
        )

    def has(self, path: Path) -> bool:
        """Tell whether there is anything at a path, even a broken link."""
        return absolute(path) in self.files

    def exists(self, path: Path) -> bool:
        """Tell whether there is a file at a path, links followed."""
        state = self.files.get(absolute(path))
        return state is not None and state.exists

    def is_ours(self, path: Path) -> bool:
        """Tell whether a file is an output that dsk made and nobody touched since."""
        stored = self.stored.get(absolute(path))
        return stored is not None and (stored.is_pending or self._is_untouched(stored))

    def is_current(self, path: Path, source: str, recipe: str) -> bool:
        """Tell whether an output was made from this image by this recipe, and nobody touched it
        since.
        """
        stored = self.stored.get(absolute(path))
        return (
            stored is not None
            and (stored.output.source, stored.output.recipe) == (source, recipe)
            and self._is_untouched(stored)
        )

    def _is_untouched(self, stored: StoredOutput) -> bool:
        state = self.files.get(stored.output.path)
        if state is None or stored.is_pending:
            return False
        return (stored.size, stored.mtime_ns) == (state.size, state.mtime_ns)

    def is_pending(self, path: Path) -> bool:
        """Tell whether a run was killed before it recorded an output as made."""
        stored = self.stored.get(absolute(path))
        return stored is not None and stored.is_pending

    def source(self, path: Path) -> str | None:
        """Return what an output was made from, as `Output.source` says it."""
        stored = self.stored.get(absolute(path))
        return stored.output.source if stored is not None else None

    def companions(self, image: Path) -> tuple[Path, ...]:
        """Return the files that belong to an image, as `core.files.companions` does."""
        return companions_in(self._companions, absolute(image))

    def with_pending(self, outputs: Iterable[Output]) -> OutputFacts:
        """Return the facts after the store lists outputs as pending."""
        pending = {
            absolute(output.path): StoredOutput(output, 0, 0, is_pending=True) for output in outputs
        }
        return replace(self, stored={**self.stored, **pending})

    def after(self, moves: Iterable[Move], outputs: Iterable[Output]) -> OutputFacts:
        """Return the facts after files are moved and the store lists them as `outputs`."""
        sources = {move.dst: move.src for move in moves}
        if not sources:
            return self
        files = _moved(self.files, sources)
        stored = {
            output.path: StoredOutput(output, state.size, state.mtime_ns, is_pending=False)
            for output in outputs
            if (state := files.get(output.path)) is not None
        }
        return replace(
            self,
            files=files,
            stored={**self.stored, **stored},
            captions=_moved(self.captions, sources),
            digests=_moved(self.digests, sources),
        )


def _moved(by_path: Mapping[Path, T], sources: Mapping[Path, Path]) -> dict[Path, T]:
    """Return a mapping by path after moves. sources: where each new path comes from."""
    gone = set(sources.values())
    staying = {path: value for path, value in by_path.items() if path not in gone}
    arrived = {new: by_path[old] for new, old in sources.items() if old in by_path}
    return staying | arrived
