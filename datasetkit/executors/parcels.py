"""What travels between this machine and the workers of a cluster: items and their results, pickled.

An item names its files as the user did. A worker may have another current folder, or no such files
at all, so the paths of an item are replaced on the way there, and put back on the way home: results
and messages are those of a local run. Where images are shipped, a worker finds them, and leaves its
outputs, in a temporary folder.

Results are unpickled here: a cluster must be trusted (docs/scale.md).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.core.files import display, existing_mask, reading
from datasetkit.executors.local import path_of

_PROTOCOL: Final = 5


@dataclass(frozen=True, slots=True)
class ItemPaths:
    """The files of an item of work: its image, and what is written for it."""

    image: Path
    outputs: tuple[Path, ...] = ()

    @classmethod
    def of(cls, item: Any) -> ItemPaths:
        """Return the files of an item; one that writes has `files`."""
        return cls(path_of(item), tuple(getattr(item, "files", ())))

    @property
    def all(self) -> tuple[Path, ...]:
        return (self.image, *self.outputs)


@dataclass(frozen=True, slots=True)
class Parcel:
    """An item on its way to a worker. paths: its files as the user named them, the image first;
    absolute: the same as any process finds them. shipped: the bytes of its image, and of its mask,
    by path below the image's folder; empty on shared storage.
    """

    data: bytes
    paths: tuple[str, ...]
    absolute: tuple[str, ...]
    shipped: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A result on its way back. written: the bytes of shipped outputs, by their number."""

    data: bytes
    written: Mapping[int, bytes]


class _Pickler(pickle.Pickler):
    """Writes numbers in place of the paths of an item. texts: replacements in messages."""

    def __init__(
        self, file: io.BytesIO, numbers: Mapping[str, int], texts: Mapping[str, str]
    ) -> None:
        super().__init__(file, _PROTOCOL)
        self._numbers, self._texts = numbers, texts

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Path):
            return self._numbers.get(str(obj))
        if isinstance(obj, str):
            text = obj
            for old, new in self._texts.items():
                text = text.replace(old, new)
            return None if text == obj else text
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, paths: Sequence[Path]) -> None:
        super().__init__(io.BytesIO(data))
        self._paths = paths

    def persistent_load(self, pid: Any) -> Any:
        return self._paths[pid] if isinstance(pid, int) else pid


def dumps(value: Any, paths: Sequence[Path] = (), texts: Mapping[str, str] | None = None) -> bytes:
    """Pickle a value, with a number in place of each of some paths."""
    file = io.BytesIO()
    _Pickler(file, {str(path): n for n, path in enumerate(paths)}, texts or {}).dump(value)
    return file.getvalue()


def loads(data: bytes, paths: Sequence[Path] = ()) -> Any:
    """Undo `dumps`, with other paths in the same order."""
    return _Unpickler(data, paths).load()


class _AbsolutePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        is_relative = isinstance(obj, Path) and not obj.is_absolute()
        return str(obj.absolute()) if is_relative else None


class _AbsoluteUnpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return Path(pid)


def dumps_absolute(value: Any) -> bytes:
    """Pickle a value, such as the options of a stage, with absolute paths."""
    file = io.BytesIO()
    _AbsolutePickler(file, _PROTOCOL).dump(value)
    return file.getvalue()


def loads_absolute(data: bytes) -> Any:
    """Undo `dumps_absolute`."""
    return _AbsoluteUnpickler(io.BytesIO(data)).load()


# ---- here
# ----------------------------------------------------------------------------------------------


def packed(item: Any, *, ship: bool) -> bytes:
    """Pickle an item for a worker. ship: with the bytes of its image. Raises InputError if the
    image cannot be read.
    """
    paths = ItemPaths.of(item)
    shipped: dict[str, bytes] = {}
    if ship:
        files = [paths.image]
        if paths.outputs and (mask := existing_mask(paths.image)) is not None:
            files.append(mask)
        for path in files:
            with reading(path):
                shipped[str(path.relative_to(paths.image.parent))] = path.read_bytes()
    return pickle.dumps(
        Parcel(
            dumps(item, paths.all),
            tuple(map(str, paths.all)),
            tuple(str(path.absolute()) for path in paths.all),
            shipped,
        ),
        _PROTOCOL,
    )


def result_of(reply: bytes, item: Any) -> tuple[Any, dict[Path, bytes]]:
    """Return the result of an item, and the bytes of its outputs where they were shipped."""
    received: Reply = pickle.loads(reply)
    paths = ItemPaths.of(item)
    written = {paths.outputs[n]: data for n, data in received.written.items()}
    return loads(received.data, paths.all), written


# ---- on a worker
# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnpackedItem:
    """An item on a worker. paths: its files there, the image first."""

    item: Any
    parcel: Parcel
    paths: tuple[Path, ...]

    def reply(self, result: Any) -> bytes:
        """Pickle the result of the item, with the bytes of shipped outputs."""
        texts: dict[str, str] = {}
        for local, named in zip(self.paths, self.parcel.paths, strict=True):
            if str(local) != named:
                texts |= {str(local): named, display(local): display(named)}
        written: dict[int, bytes] = {}
        if self.parcel.shipped:
            outputs = enumerate(self.paths[1:])
            written = {n: path.read_bytes() for n, path in outputs if path.is_file()}
        return pickle.dumps(Reply(dumps(result, self.paths, texts), written), _PROTOCOL)


def unpacked(parcel: bytes, folder: Path) -> UnpackedItem:
    """Unpickle an item. folder: to make for the files of this item where they are shipped."""
    received: Parcel = pickle.loads(parcel)
    paths = tuple(map(Path, received.absolute))
    if received.shipped:
        image, *outputs = paths
        for name, data in received.shipped.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        places = [folder / image.name]
        for n, output in enumerate(outputs):
            (folder / str(n)).mkdir(exist_ok=True)
            places.append(folder / str(n) / output.name)
        paths = tuple(places)
    return UnpackedItem(loads(received.data, paths), received, paths)
