"""A sequence of very many records in a tenth of their memory: packed, some thousands at a time."""

from __future__ import annotations

import io
import os
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, overload

from datasetkit.core.collection import paused_collection

T = TypeVar("T")
# How many items a pack has.
_AT_ONCE = 16_384
# So many packs' items are kept as they are before the first is packed: reading packs costs a layout
# of 20,000 images a third of its time again. They take some 100 MB.
_PACKS_AT_FIRST = 4
# The fastest: higher levels take twice the time for a tenth less.
_LEVEL = 1
# How a path is made of its folder and its name. Python splits the name again to look for slashes,
# which is most of the time of reading an operation; the name of a path has none. 3.11 and 3.12 have
# a way around that, which their `iterdir` takes.
_child: Callable[[Path, str], Path] = getattr(Path, "_make_child_relpath", Path.__truediv__)


class PackedList(Sequence[T]):
    """Items that are read in order, again and again, and cannot change. All but the last ones are
    pickled and compressed, so that an image with its caption takes 200 bytes instead of 4,000.
    """

    __slots__ = ("_at", "_chunk", "_last", "_packs")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._packs: list[bytes] = []
        self._last: list[T] = []
        # The pack that was read last, for `items[n]`.
        self._at, self._chunk = -1, list[T]()
        self.extend(items)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        if len(self._last) >= (_AT_ONCE if self._packs else _PACKS_AT_FIRST * _AT_ONCE):
            for at in range(0, len(self._last), _AT_ONCE):
                self._packs.append(_packed(self._last[at : at + _AT_ONCE]))
            self._last = []
        self._last.append(item)

    def extend(self, items: Iterable[T]) -> None:
        """Add items at the end."""
        for item in items:
            self.append(item)

    def __len__(self) -> int:
        return len(self._packs) * _AT_ONCE + len(self._last)

    def __iter__(self) -> Iterator[T]:
        for pack in self._packs:
            yield from _unpacked(pack)
        yield from self._last

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        number, inside = divmod(at, _AT_ONCE)
        if number >= len(self._packs):
            return self._last[at - len(self._packs) * _AT_ONCE]
        if number != self._at:
            self._chunk, self._at = _unpacked(self._packs[number]), number
        return self._chunk[inside]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"PackedList({list(self)!r})"


class _RecordPickler(pickle.Pickler):
    """Writes records as calls of their classes, which is three times as fast as the state of each,
    and a path as its folder, written once, and its name: Python writes and splits all its parts.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._folders: dict[str, Path] = {}

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, Path):
            return self._reduced(obj)
        values_of = _values_of(type(obj))
        return NotImplemented if values_of is None else (type(obj), values_of(obj))

    def _reduced(self, path: Path) -> Any:
        text = str(path)
        if self._folders.get(text) is path:  # a folder itself
            return NotImplemented
        name = text.rpartition(os.sep)[2]
        above = text[: -len(name) - 1]
        if not above or not name:
            return NotImplemented
        folder = self._folders.get(above)
        if folder is None:
            folder = self._folders[above] = path.parent
        return _child, (folder, name)


# What returns the values of the fields of a class; None for what is not a record.
_known_classes: dict[type, Callable[[Any], tuple[object, ...]] | None] = {}


def _values_of(kind: type) -> Callable[[Any], tuple[object, ...]] | None:
    if kind not in _known_classes:
        _known_classes[kind] = _getter(kind)
    return _known_classes[kind]


def _getter(kind: type) -> Callable[[Any], tuple[object, ...]] | None:
    if not is_dataclass(kind) or not all(field.init for field in fields(kind)):
        return None
    names = [field.name for field in fields(kind)]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


def _packed(items: Sequence[object]) -> bytes:
    file = io.BytesIO()
    with paused_collection():
        _RecordPickler(file).dump(items)
    return zlib.compress(file.getbuffer(), _LEVEL)


def _unpacked(pack: bytes) -> list[Any]:
    with paused_collection():
        items: list[Any] = pickle.loads(zlib.decompress(pack))
    return items
