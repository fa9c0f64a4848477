"""A disk that forgets what was not synced, for commands that run in a child process.

The real files are always as the command left them. Beside them, `ForgetfulDisk` keeps what a power
cut would leave: the bytes that each file had when it was last synced, and the names that each
folder had. `cut` writes that to another folder. sqlite syncs by itself: the store counts as synced
once the folder of the project does.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasetkit.core import disk_sync
from datasetkit.core.files import PROJECT
from datasetkit.project.store import STORE

# What a file system may do with what was not synced: forget all of it; keep the new names, but not
# the bytes, as ext4 does; keep the names of some folders only, as btrfs does.
FORGETS = ("all", "bytes", "some names")
_STORE_FILES = {f"{STORE.name}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")} | {"lock"}

_RENAMING = ("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir")

# Not that of a test which takes links away from the command.
_LINK = os.link

Names = dict[str, int]


@dataclass(slots=True)
class ForgetfulDisk:
    """The files below a folder as they are on the disk. names: of each synced folder, by inode;
    data: the bytes of each synced file.
    """

    root: Path
    names: dict[int, Names] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    # Held by each change of a name and by each sync: a file that another thread moves while a sync
    # is recorded would be in neither of two folders.
    turn: Any = field(default_factory=threading.RLock)

    def install(self) -> None:
        """Watch the syncs of the rest of this process; all that is there now is on the disk."""
        self._sync_everything()
        for name in _RENAMING:
            setattr(os, name, self._in_turn(getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._watched(getattr(os, name)))
        vars(disk_sync)["sync_disk"] = lambda descriptor: self._sync_everything()
        vars(os)["sync"] = self._sync_everything

    def _in_turn(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with self.turn:
                return real(*args, **options)

        return call

    def _watched(self, real: Callable[[int], None]) -> Callable[[Any], None]:
        def sync(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            with self.turn:
                real(descriptor)
                path = Path(f"/proc/self/fd/{descriptor}").readlink()
                if path.is_relative_to(self.root) and path.exists():
                    self._sync(path)

        return sync

    def _sync_everything(self) -> None:
        with self.turn:
            for path in [self.root, *_below(self.root)]:
                self._sync(path)

    def _sync(self, path: Path) -> None:
        try:
            info = path.lstat()
        except FileNotFoundError:  # another thread has renamed or removed it meanwhile
            return
        if stat.S_ISREG(info.st_mode):
            self.data[info.st_ino] = path.read_bytes()
        elif stat.S_ISDIR(info.st_mode):
            self._sync_names(path, info.st_ino)

    def _sync_names(self, folder: Path, inode: int) -> None:
        old, now = self.names.get(inode, {}), _names(folder)
        self.names[inode] = now
        left = set(old.values()) - set(now.values())
        for path in _below(self.root) if left else ():
            # It moved to another folder: a rename is on the disk as a whole.
            if path.lstat().st_ino in left:
                self.names.setdefault(_inode(path.parent), {})[path.name] = _inode(path)

    def cut(self, target: Path, forgets: str, seed: int = 0) -> None:
        """Write to `target` what a power cut would leave now."""
        draw = random.Random(seed)
        content = {_inode(path): path for path in [self.root, *_below(self.root)]}
        names: dict[int, Names] = {}
        for inode, path in content.items():
            if path.is_dir() and not path.is_symlink():
                keeps = forgets == "bytes" or (forgets == "some names" and draw.random() < 0.5)
                names[inode] = _names(path) if keeps else self.names.get(inode, {})
        if forgets == "some names":
            reachable = set(_reachable(names, _inode(self.root)))
            for inode, entries in self.names.items():
                lost = {n: f for n, f in entries.items() if f in content and f not in reachable}
                names[inode] = lost | names.get(inode, {})
        _Writer(self, names, content, forgets, draw).folder(_inode(self.root), target)


@dataclass(slots=True)
class _Writer:
    """Writes the files that a power cut leaves. content: where each inode is really."""

    disk: ForgetfulDisk
    names: dict[int, Names]
    content: dict[int, Path]
    forgets: str
    draw: random.Random
    made: dict[int, Path] = field(default_factory=dict)

    def folder(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, file in self.names.get(inode, {}).items():
            if file in self.names:
                self.folder(file, target / name)
            elif file in self.made:
                _LINK(self.made[file], target / name)
            else:
                self.file(file, target / name)
                self.made[file] = target / name
        real = self.content.get(inode)
        if target.name == PROJECT and real is not None:
            for path in real.iterdir():
                if path.name in _STORE_FILES:
                    shutil.copy2(path, target / path.name)

    def file(self, inode: int, path: Path) -> None:
        data, real = self.disk.data.get(inode, b""), self.content.get(inode)
        if real is None:  # it was deleted, and that is forgotten
            path.write_bytes(data)
            return
        if real.is_symlink():
            path.symlink_to(real.readlink())
            return
        if real.read_bytes() != data:
            if self.forgets == "bytes":
                data = b""
            elif self.forgets == "some names" and self.draw.random() < 0.5:
                data = real.read_bytes()
        path.write_bytes(data)
        shutil.copystat(real, path)


def _below(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name not in _STORE_FILES:
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path))


def _names(folder: Path) -> Names:
    return {e.name: e.inode() for e in os.scandir(folder) if e.name not in _STORE_FILES}


def _inode(path: Path) -> int:
    return path.lstat().st_ino


def _reachable(names: dict[int, Names], folder: int) -> Iterator[int]:
    for inode in names.get(folder, {}).values():
        yield inode
        if inode in names:
            yield from _reachable(names, inode)
