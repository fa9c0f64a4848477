"""Files: how names are displayed and compared, which files belong to an image, and how a file is
written completely or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

from datasetkit.core.disk_sync import sync_folder
from datasetkit.core.errors import DatasetError, InputError, StorageError
from datasetkit.core.file_kinds import IMAGE_SUFFIXES

CAPTION_SUFFIX = ".txt"
# Masks are in a subfolder beside the images, which no trainer scans.
MASKS = "masks"
PROJECT = ".dsk"
CONFIG_NAME = "dsk.toml"
TEMP_PREFIX, TEMP_SUFFIX = ".dsk-", ".tmp"
MAX_CAPTION_BYTES = 1_000_000

# A full disk still takes empty files, and the store needs about this much.
_PROBE = bytes(256 * 1024)

T = TypeVar("T")

_AS_ZERO: Final = str.maketrans("123456789", "000000000")
_DIGITS = re.compile(r"(\d+)")
# What Windows answers for a file that a program has open: sharing and lock violations, and access
# denied, which it also answers for other reasons.
_HELD: Final = (32, 33, 5)
_WAITS: Final = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds
# What it answers for a path of more characters than it takes by default.
_TOO_LONG: Final = (3, 206)
_LONGEST_ON_WINDOWS: Final = 248
_STORAGE_HINTS = {
    errno.ENOSPC: "free some disk space and run the command again",
    errno.EDQUOT: "free some disk space and run the command again",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.ENOENT: "the folder cannot be created, or was removed: choose another folder",
}


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a sort key that puts `a2` before `a10` and ignores case; the text breaks ties."""
    folded = (text if text.isascii() else unicodedata.normalize("NFC", text)).casefold()
    # isdecimal, not isdigit: int() refuses superscripts.
    parts = ((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in _DIGITS.split(folded) if p)
    return tuple(parts), text


def in_natural_order(items: Iterable[T], name_of: Callable[[T], str]) -> list[T]:
    """Return items sorted by the natural order of their names."""
    items = list(items)
    patterns = {name_of(item).translate(_AS_ZERO) for item in items}
    if len(patterns) == 1 and next(iter(patterns)).isascii():
        # Numbers of one width at one place, as nearly always: the order of the letters is the same.
        return sorted(items, key=name_of)
    return sorted(items, key=lambda item: natural_key(name_of(item)))


def stem_of(name: str) -> str:
    """Return what `Path.stem` is of the name of a file."""
    at = name.rfind(".")
    return name[:at] if 0 < at < len(name) - 1 else name


def fold(text: str) -> str:
    """Return a name in the form in which some file systems compare it: they ignore case, or how an
    accent is written. `ß` is `ss`, as in the captions of trainers on other systems.
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def display(name: str | Path) -> str:
    """Return a name that is safe to print: control, bidi and undecodable characters are escaped."""
    safe = []
    for char in str(name):
        if char.isprintable() and unicodedata.category(char) not in ("Cf", "Cs"):
            safe.append(char)
        elif 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8, as Python carries it
            safe.append(f"\\x{ord(char) - 0xDC00:02x}")
        else:
            safe.append(char.encode("unicode_escape").decode("ascii"))
    return "".join(safe)


def is_readable_name(name: str) -> bool:
    """Tell whether a file name is valid UTF-8 without control characters."""
    if name.isascii() and name.isprintable():  # nearly always
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not any(unicodedata.category(c) == "Cc" for c in name)


def companions(folder: Path, images: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Return the files that belong to each image: those of the same stem, sidecars named
    `image.jpg.txt`, and `masks/<stem>.png`.

    If two images share a stem, its files are listed under both.
    """
    files: list[Path] = []
    for searched in (folder, folder / MASKS):
        if searched.is_symlink() or not searched.is_dir():
            continue
        with reading(searched), os.scandir(searched) as entries:
            # A directory entry knows that it is a file; a link has to be followed.
            regular = {e.name: e.is_file(follow_symlinks=False) for e in entries}
            paths = list(searched.iterdir())
        files += [path for path in paths if regular.get(path.name) or path.is_file()]
    index = companion_index((folder, path) for path in files)
    return {image: companions_in(index, folder / image.name) for image in images}


CompanionIndex = dict[tuple[Path, str], list[Path]]


def companion_index(files: Iterable[tuple[Path, Path]]) -> CompanionIndex:
    """Sort files that may belong to an image by folder and stem. files: (folder of the images,
    file); the file lies in that folder or in its `masks/`.
    """
    index: CompanionIndex = {}
    named = [(path.parent != folder, path.name, folder, path) for folder, path in files]
    for is_mask, name, folder, path in sorted(named, key=itemgetter(0, 1)):
        if not name.startswith(".") and (is_mask or path.suffix.lower() not in IMAGE_SUFFIXES):
            index.setdefault((folder, path.stem), []).append(path)
    return index


def companions_in(index: CompanionIndex, image: Path) -> tuple[Path, ...]:
    """Return the files that belong to an image: captions and sidecars, then masks."""
    # `a.txt` has the stem `a`; the sidecar `a.jpg.txt` has the stem `a.jpg`.
    same_stem = index.get((image.parent, image.stem), [])
    return tuple(dict.fromkeys(same_stem + index.get((image.parent, image.name), [])))


def caption_path(image: Path) -> Path:
    """Return the path of an image's caption: the same stem with `.txt`."""
    return image.with_suffix(CAPTION_SUFFIX)


def mask_path(image: Path) -> Path:
    """Return where an image's mask is: `masks/<stem>.png` beside it."""
    return image.parent / MASKS / f"{image.stem}.png"


def existing_mask(image: Path) -> Path | None:
    """Return the mask of an image; None where it has none, or one behind a symbolic link."""
    path = mask_path(image)
    linked = path.is_symlink() or path.parent.is_symlink()
    return path if path.is_file() and not linked else None


def read_regular(path: Path, *, limit: int) -> bytes | None:
    """Return the bytes of a regular file, None if nothing is there.

    Raises InputError for a link, and for a file of more than `limit` bytes.
    """
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        raise InputError(
            f"{display(path)} is not a regular file",
            hint="links and special files are not followed",
        )
    if info.st_size > limit:
        raise InputError(
            f"{display(path)} is {info.st_size:,} bytes large", hint=f"at most {limit:,} are read"
        )
    with reading(path):
        return _read(path, info.st_size)


def _read(path: Path, size: int) -> bytes:
    """Read a file of about this size, in half the time of a buffered file object."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(descriptor, size + 1)
        while more := os.read(descriptor, max(size, 1 << 16)):
            data += more
        return data
    finally:
        os.close(descriptor)


def read_existing(path: Path) -> bytes | None:
    """Return the bytes of a file that a command may replace; None if there is no regular file."""
    with reading(path), suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            return path.read_bytes()
    return None


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes in hex, without holding the file in memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def image_id(path: Path) -> str:
    """Return the id of an image: the first 16 hex digits of its sha256. Raises InputError."""
    with reading(path):
        return file_sha256(path)[:16]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a failure to read `path` into an InputError with the reason."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {display(path)}: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into a StorageError with the reason and what to do next.

    A name that is too long gives an InputError: the disk is fine, and other files can be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            problem = f"{display(path)}: the name is too long"
            raise InputError(problem, hint="dsk rename gives it a short one") from error
        raise storage_error(path, error) from error


def require_names(paths: Iterable[Path]) -> None:
    """Raise InputError if a name is too long for its disk, before the first file is written."""
    for path in paths:
        with writing(path), suppress(FileNotFoundError):
            os.lstat(path)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the StorageError for an operating system's error at `path`."""
    code = getattr(error, "winerror", None)
    hint = _STORAGE_HINTS.get(error.errno or 0, "")
    if code in _HELD[:2]:
        hint = "close the program that has the file open and run the command again"
    elif code in _TOO_LONG and len(str(path)) >= _LONGEST_ON_WINDOWS:
        hint = "the path is too long for this Windows: use a folder with a shorter path"
    return StorageError(f"cannot write {display(path)}: {error.strerror or error}", hint=hint)


def patiently(rename: Callable[[Path, Path], object], source: Path, target: Path) -> None:
    """Rename, and wait for up to two seconds if Windows refuses because a viewer or a virus scanner
    has one of the files open. Raises OSError.
    """
    for wait in (*_WAITS, 0.0):
        try:
            rename(source, target)
            return
        except PermissionError as error:
            if not wait or getattr(error, "winerror", None) not in _HELD:
                raise
            time.sleep(wait)


def temp_name() -> str:
    """Return a new name for a file that is being written; `sweep` removes what a crash leaves."""
    return f"{TEMP_PREFIX}{uuid.uuid4().hex[:12]}{TEMP_SUFFIX}"


def write_new(path: Path, data: bytes, *, sync: bool, mode: int = 0o666) -> None:
    """Write `data` to a file that must not exist yet; if that fails, remove it. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Replace or create a file so that readers, and a crash, see the old bytes or all new ones.

    An existing file keeps its permissions. Raises StorageError.
    """
    temporary = path.parent / temp_name()
    with writing(path):
        write_new(temporary, data, sync=True)
        try:
            keep_mode(path, temporary)
            patiently(os.replace, temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def keep_mode(old: Path, new: Path) -> None:
    """Give the file `new`, which will replace `old`, the permissions of `old`."""
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.lstat(old).st_mode)
        if mode != stat.S_IMODE(os.lstat(new).st_mode):
            os.chmod(new, mode)


def sweep(folder: Path) -> int:
    """Remove the temporary files that a killed run left in a folder; return their number.

    Needs the project lock: without it another run may be using its temporary files.
    """
    removed = 0
    for path in temporary_files(folder):
        with suppress(OSError):
            os.unlink(path)
            removed += 1
    if removed:
        with suppress(OSError):
            sync_folder(folder)
    return removed


def temporary_files(folder: Path) -> list[Path]:
    """Return the temporary files in a folder: being written, or left by a killed run."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return []
    return [
        folder / name
        for name in names
        if name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)
    ]


def require_writable(folder: Path) -> None:
    """Raise StorageError if a folder cannot be written or its disk is full, before long work."""
    with writing(folder):
        descriptor = _open_nameless(folder)
        if descriptor is None:
            probe = folder / temp_name()
            write_new(probe, _PROBE, sync=False)
            os.unlink(probe)
            return
        try:
            written = 0
            while written < len(_PROBE):
                written += os.write(descriptor, _PROBE[written:])
        finally:
            os.close(descriptor)


def _open_nameless(folder: Path) -> int | None:
    """Open a file without a name, which vanishes with a kill; None if the system has no such
    files.
    """
    flag = getattr(os, "O_TMPFILE", 0)
    try:
        return os.open(folder, os.O_WRONLY | flag, 0o600) if flag else None
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise


def nearest_folder(path: Path) -> Path:
    """Return the path, or its nearest ancestor, that is a folder already."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.is_dir())


def refuse_link(folder: Path) -> None:
    """Raise InputError for a symbolic link: dsk never writes through links."""
    if folder.is_symlink():
        raise InputError(
            f"{display(folder)} is a symbolic link, and dsk does not write through links",
            hint="name the folder that it points to, or remove it",
        )


def refuse_links(folder: Path, top: Path) -> None:
    """Raise InputError if `folder`, or a folder between it and `top`, is a symbolic link."""
    path = top
    for part in folder.relative_to(top).parts:
        path /= part
        refuse_link(path)


def make_project_folder(root: Path) -> Path:
    """Create the `.dsk/` of a project, readable by its user alone, or by the group where the group
    writes to the folder. Raises InputError for links in it, StorageError, and DatasetError if
    `root` does not exist: it may have been renamed, and is never made again.

    What is in `.dsk/` may come from somebody else: a link there would lead out of the project.
    """
    folder = root / PROJECT
    refuse_link(folder)
    with writing(folder):
        if not folder.is_dir():
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError as error:
                raise DatasetError(
                    f"{display(root)} was renamed, moved or removed",
                    hint="name the folder as it is",
                ) from error
            sync_folder(root)
        for path in folder.iterdir():
            refuse_link(path)
    with suppress(OSError):  # another user's folder, or a file system without modes
        mode = 0o2770 if root.stat().st_mode & stat.S_IWGRP else 0o700
        now = stat.S_IMODE(folder.stat().st_mode)
        if now & 0o007 or (now & 0o070 and mode == 0o700):
            folder.chmod(mode)
    return folder


def share_with_group(path: Path) -> None:
    """Let the group write a file in the `.dsk/` of a project that the group may write to."""
    with suppress(OSError):
        if path.parent.stat().st_mode & stat.S_IWGRP:
            path.chmod(0o660)


def config_path(folder: Path) -> Path | None:
    """Return the path of the dsk.toml that governs a folder, None where there is none."""
    folder = folder.resolve()
    candidates = (parent / CONFIG_NAME for parent in (folder, *folder.parents))
    return next((path for path in candidates if path.is_file()), None)


def find_root(folder: Path) -> Path:
    """Return the project root: the nearest folder upward with a `dsk.toml` or a `.dsk/`, else
    `folder` itself.
    """
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_NAME).is_file() or (candidate / PROJECT).is_dir():
            return candidate
    return folder
