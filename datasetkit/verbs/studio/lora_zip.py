"""A LoRA to keep as one zip: the file, its preview and A1111's JSON, for a browser elsewhere."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.verbs.keep import KeepPackage

_BLOCK: Final = 2**20  # bytes
_FIRST_YEAR: Final = (1980, 1, 1, 0, 0, 0)  # of a zip


@dataclass(frozen=True, slots=True)
class LoraZip:
    """A zip that is made while it is sent. name: of its file."""

    name: str
    blocks: Iterator[bytes]


def zipped(package: KeepPackage) -> LoraZip:
    """Return the zip of a package. Raises InputError for a LoRA that cannot be opened."""
    file = _open(package.source)
    return LoraZip(f"{package.name}.zip", _blocks(package, file))


def _blocks(package: KeepPackage, file: BinaryIO) -> Iterator[bytes]:
    """Yield the zip in blocks. Nothing is compressed: weights do not get smaller."""
    sink = _Sink()
    with file, ZipFile(sink, "w", ZIP_STORED) as archive:
        status = os.fstat(file.fileno())
        written = max(time.localtime(status.st_mtime)[:6], _FIRST_YEAR)
        if package.preview is not None:
            archive.writestr(ZipInfo(f"{package.name}.preview.png", written), package.preview)
        archive.writestr(ZipInfo(f"{package.name}.json", written), package.json)
        entry = ZipInfo(f"{package.name}.safetensors", written)
        with archive.open(entry, "w", force_zip64=True) as target:
            while block := file.read(_BLOCK):
                target.write(block)
                yield sink.take()
    yield sink.take()


def _open(path: Path) -> BinaryIO:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise InputError(f"cannot read {display(path)}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{display(path)} is not a regular file")
    return file


class _Sink(io.RawIOBase):
    """A file that cannot be sought, and gives away what was written to it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data
