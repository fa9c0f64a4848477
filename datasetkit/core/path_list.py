"""The paths of very many files, as their folders and names."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload


class PathList(Sequence[Path]):
    """Paths that are made when somebody reads one: a path takes six times as much memory as the
    name of its file.
    """

    __slots__ = ("_folders", "_length", "_names", "_starts")

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._folders: list[Path] = []
        self._names: list[list[str]] = []
        self._starts: list[int] = []
        self._length = 0
        name, folder = None, Path()
        for path in paths:
            if (inside := _folder_name(path)) != name:
                name, folder = inside, path.parent
            self.add(folder, path.name)

    def add(self, folder: Path, name: str) -> None:
        """Add a file at the end. folder: the same object for files that follow each other."""
        if not self._folders or self._folders[-1] is not folder:
            self._folders.append(folder)
            self._names.append([])
            self._starts.append(self._length)
        self._names[-1].append(name)
        self._length += 1

    def by_folder(self) -> Iterator[tuple[Path, Sequence[str]]]:
        """Yield folders with the names of files that follow each other; a folder may come twice."""
        yield from zip(self._folders, self._names, strict=True)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Path]:
        for folder, names in self.by_folder():
            for name in names:
                yield folder / name

    @overload
    def __getitem__(self, at: int) -> Path: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Path]: ...
    def __getitem__(self, at: int | slice) -> Path | Sequence[Path]:
        if isinstance(at, slice):
            return [self[n] for n in range(self._length)[at]]
        at = range(self._length)[at]
        group = bisect_right(self._starts, at) - 1
        return self._folders[group] / self._names[group][at - self._starts[group]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"PathList({list(self)!r})"


def folders_of(paths: Iterable[Path]) -> list[Path]:
    """Return the folders of files, each once, in order."""
    folders: dict[str, Path] = {}
    for path in paths:
        name = _folder_name(path)
        if name not in folders:
            folders[name] = path.parent
    return list(folders.values())


def _folder_name(path: Path) -> str:
    return str(path).rpartition(os.sep)[0]  # `parent` makes a path for each


class PathSet(Container[Path]):
    """A set of paths that keeps their texts alone."""

    __slots__ = ("_texts",)

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._texts = set(map(str, paths))

    def add(self, path: Path) -> None:
        """Add a path."""
        self._texts.add(str(path))

    def __contains__(self, path: object) -> bool:
        return str(path) in self._texts

    def __len__(self) -> int:
        return len(self._texts)


class _EveryPath(Container[Path]):
    def __contains__(self, path: object) -> bool:
        return True


EVERY_PATH: Container[Path] = _EveryPath()
