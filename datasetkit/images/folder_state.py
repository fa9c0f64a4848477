"""The state of folders: one digest of the entries of folders, which tells without opening a file
whether anything in them has changed.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from datasetkit.core.file_kinds import is_searched
from datasetkit.core.files import CONFIG_NAME, MASKS, PROJECT, temp_name
from datasetkit.images.listing import has_own_images

# How many entries are hashed at once.
_ROWS = 1_000
# A file system writes the time of its last clock tick: at most 10 ms ago on Linux.
_TICKS_NS = 50_000_000
# Times in whole milliseconds come from a file system that rounds them, or has no time of change.
_COARSE_NS = 1_000_000
# Without this row format, a digest of another one could be equal.
_FORMAT = "folders 1"
_Row = tuple[str, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class FolderState:
    """The state of folders when they were listed.

    digest: of the name, size, inode, mode, and times of modification and of change of each entry.
    newest: the latest of these times, in ns. at: when they were listed, by `time.monotonic_ns`.
    devices: the file systems that they are on.
    """

    digest: str
    newest: int
    at: int
    devices: frozenset[int]

    def is_settled(self, root: Path) -> bool:
        """Tell whether every later change of a file gives another digest: that is so unless a file
        was changed within the same tick of the file system's clock. False where the file system
        does not say when a file was changed.

        root: of a project on the same file system; a file is written there to read its clock.
        """
        if os.name != "posix":  # Windows gives the time of creation instead
            return False
        probe = root / PROJECT / temp_name()
        try:
            with probe.open("xb"):
                info = probe.stat()
            probe.unlink()
        except OSError:
            return False
        if info.st_mtime_ns % _COARSE_NS == 0 or self.devices != {info.st_dev}:
            return False
        listed = info.st_mtime_ns - (time.monotonic_ns() - self.at)
        return self.newest < listed - _TICKS_NS


@dataclass(slots=True)
class _StateDigest:
    """The entries that are gathered so far. without: a folder that is left out."""

    digest: hashlib.blake2b
    without: str | None
    newest: int = 0
    devices: set[int] = field(default_factory=set)

    def add(self, rows: list[_Row]) -> None:
        # Version 2 has no references, which depend on who else holds an object.
        self.digest.update(marshal.dumps(rows, 2))
        self.newest = max(self.newest, max((max(row[2], row[3]) for row in rows), default=0))


def state_of_folders(
    folders: Iterable[tuple[Path, bool]], *, without: Path | None = None
) -> FolderState | None:
    """Return the state of folders, each with whether its subfolders belong to it; None if one
    cannot be listed. Hidden folders are left out, and the folder `without`.

    Without its subfolders a folder has those that `images/listing.py` names as left out, and its
    masks.
    """
    leave_out = None if without is None else str(without.resolve())
    entries = _StateDigest(hashlib.blake2b(_FORMAT.encode(), digest_size=16), leave_out)
    at = time.monotonic_ns()
    try:
        for folder, recursive in folders:
            _add(str(folder.resolve()), entries, recursive=recursive)
    except OSError:
        return None
    return FolderState(entries.digest.hexdigest(), entries.newest, at, frozenset(entries.devices))


def _add(folder: str, entries: _StateDigest, *, recursive: bool, is_below: bool = False) -> None:
    info = Path(folder).stat()
    entries.devices.add(info.st_dev)
    entries.add([(folder, info.st_dev, 0, 0, info.st_ino, int(recursive))])
    rows: list[_Row] = []
    others: list[tuple[os.DirEntry[str], os.stat_result]] = []
    with os.scandir(folder) as scanned:
        for entry in scanned:
            info = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode):
                others.append((entry, info))
                continue
            rows.append(_row(entry.name, info))
            if len(rows) == _ROWS:
                entries.add(rows)
                rows.clear()
    entries.add(rows)
    has_config = os.path.lexists(Path(folder, CONFIG_NAME))
    for entry, info in sorted(others, key=lambda other: other[0].name):
        _add_other(
            entry, info, entries,
            recursive=recursive, has_config=has_config, is_below=is_below,
        )  # fmt: skip


def _add_other(
    entry: os.DirEntry[str],
    info: os.stat_result,
    entries: _StateDigest,
    *,
    recursive: bool,
    has_config: bool,
    is_below: bool,
) -> None:
    """Add an entry that is not a file: a folder by what counts of it, a link with what it names."""
    if not stat.S_ISDIR(info.st_mode):
        followed = info
        with suppress(OSError):  # a link to nothing
            followed = entry.stat()
        entries.add([_row(entry.name, info), _row(entry.name, followed)])
    elif entry.name == PROJECT:
        # What commands recorded counts as well, of another project than that of the command.
        for store in ("store.sqlite", "store.sqlite-wal") if is_below else ():
            with suppress(OSError):
                entries.add([_row(store, Path(entry.path, store).stat())])
    elif entry.path != entries.without:
        counts = False
        if entry.name == MASKS or (recursive and is_searched(entry.name)):
            _add(entry.path, entries, recursive=recursive, is_below=True)
        elif is_searched(entry.name):
            counts = has_own_images(Path(entry.path), in_project=has_config)
        entries.add([(entry.name, counts, 0, 0, 0, stat.S_IFDIR)])


def _row(name: str, info: os.stat_result) -> _Row:
    return (
        name, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_mode
    )  # fmt: skip
