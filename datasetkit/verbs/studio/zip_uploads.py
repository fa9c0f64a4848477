"""Zip archives that are uploaded: checked by their directory first, then unpacked with a limit that
trusts no number in them.
"""

from __future__ import annotations

import os
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.verbs.studio.upload_names import (
    MAX_FILES,
    MAX_IMAGE_BYTES,
    LeftOutFile,
    SentFile,
    left_out,
    relative,
)

_MAX_RATIO: Final = 100
_MAX_DIRECTORY: Final = 2**24  # bytes of the central directory
_CHUNK: Final = 2**20
# The end of the central directory (APPNOTE 4.3.16), with its longest comment; the same of ZIP64.
_END, _END_BYTES, _MAX_COMMENT = b"PK\5\6", 22, 2**16
_END64_LOCATOR, _LOCATOR_BYTES = b"PK\6\7", 20
_END64, _END64_BYTES = b"PK\6\6", 56
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file of an archive that is unpacked."""

    sent: SentFile
    info: zipfile.ZipInfo


@dataclass(frozen=True, slots=True)
class ZipContent:
    """The files of an archive. left_out: those that are not unpacked, and why."""

    entries: tuple[ZipEntry, ...]
    left_out: tuple[LeftOutFile, ...]

    @property
    def bytes(self) -> int:
        return sum(entry.sent.size for entry in self.entries)


def read(path: Path, has_image: Callable[[str, str], bool]) -> ZipContent:
    """Read the directory of an archive. Raises InputError for one that is damaged, too large or
    hostile as a whole.
    """
    _require_small_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"the archive cannot be read: {error}", hint="make it again") from error
    if len(infos) > MAX_FILES:
        raise InputError(
            f"the archive has {len(infos):,} files, more than {MAX_FILES:,}",
            hint="send it in parts",
        )
    refused: list[LeftOutFile] = []
    entries: list[ZipEntry] = []
    for info in infos:
        try:
            sent = SentFile(relative(info.filename), info.file_size, _time_of(info))
        except InputError:
            refused.append(LeftOutFile(display(info.filename[:200]), "name", "not below a folder"))
            continue
        if reason := _fault(info):
            refused.append(LeftOutFile(sent.path, *reason))
        else:
            entries.append(ZipEntry(sent, info))
    _require_ratio(path, entries)
    by_name = left_out([entry.sent for entry in entries], has_image)
    nested = {e.sent.path: "an archive in an archive" for e in entries if e.sent.suffix == ".zip"}
    refused += by_name
    refused += [LeftOutFile(path, "archive", reason) for path, reason in nested.items()]
    names = {item.path for item in refused}
    return ZipContent(tuple(e for e in entries if e.sent.path not in names), tuple(refused))


def _require_ratio(path: Path, entries: list[ZipEntry]) -> None:
    """Raise InputError for an archive whose entries share their bytes."""
    total, packed = sum(entry.info.file_size for entry in entries), path.stat().st_size
    if total > _MAX_RATIO * packed:
        raise InputError(
            f"the archive would unpack to {total / 1e6:,.0f} MB, more than {_MAX_RATIO} times its "
            "size",
            hint="send the images themselves",
        )


def _fault(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Return the kind and the reason of an entry that is not unpacked, else None."""
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "link", "a link or a special file"
    if info.flag_bits & 0x1:
        return "encrypted", "encrypted"
    if info.compress_type not in _METHODS:
        return "method", "packed by a method that is not read"
    if info.file_size > MAX_IMAGE_BYTES:
        return "size", f"larger than {MAX_IMAGE_BYTES // 2**20} MB"
    if info.file_size > _MAX_RATIO * max(1, info.compress_size):
        return "ratio", f"packed more than {_MAX_RATIO} times"
    return None


def _time_of(info: zipfile.ZipInfo) -> float:
    with suppress(ValueError, OverflowError):
        return max(0.0, time.mktime((*info.date_time, 0, 0, -1)))
    return 0.0


def unpack(path: Path, content: ZipContent, target: Callable[[int], Path]) -> Iterator[ZipEntry]:
    """Unpack the entries of an archive, each into the file that `target` names; yield each when it
    is complete. Raises InputError for one that is damaged, or holds more than it says.
    """
    with zipfile.ZipFile(path) as archive:
        for number, entry in enumerate(content.entries):
            name = display(entry.sent.path)
            try:
                with archive.open(entry.info) as packed, target(number).open("xb") as file:
                    _copy(packed, file, entry.sent.size, name)  # type: ignore[arg-type]
                    file.flush()
                    os.fsync(file.fileno())
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"{name} of the archive is damaged: {error}", hint="make the archive again"
                ) from error
            yield entry


def _copy(packed: BinaryIO, file: BinaryIO, size: int, name: str) -> None:
    written = 0
    while chunk := packed.read(_CHUNK):
        written += len(chunk)
        if written > size:
            break
        file.write(chunk)
    if written != size:
        raise InputError(f"{name} of the archive holds more or less than it says")


def _require_small_directory(path: Path) -> None:
    """Raise InputError where the directory of an archive is too large to be read into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = max(0, size - _END_BYTES - _MAX_COMMENT - _LOCATOR_BYTES)
        file.seek(start)
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + _END_BYTES:
            raise InputError("the archive is cut off", hint="make it again")
        entries, directory = struct.unpack_from("<HI", tail, at + 10)
        if tail[max(0, at - _LOCATOR_BYTES) :].startswith(_END64_LOCATOR):
            (where,) = struct.unpack_from("<Q", tail, at - _LOCATOR_BYTES + 8)
            file.seek(min(where, size))
            record = file.read(_END64_BYTES)
            if len(record) < _END64_BYTES or not record.startswith(_END64):
                raise InputError("the archive is damaged", hint="make it again")
            entries, directory = struct.unpack_from("<QQ", record, 32)
    if directory > _MAX_DIRECTORY or entries > 2 * MAX_FILES:
        raise InputError(f"the archive has more than {MAX_FILES:,} files", hint="send it in parts")
