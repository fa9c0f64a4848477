"""The latent cache on disk: shards of latents that several processes and runs write and share.

A shard is a safetensors file with one tensor for each latent: mean and deviation, (2, channels,
height, width), and a checksum of each in its metadata. A shard is complete or not there at all, and
is named by the keys that it holds, so nothing is ever written over. What one process writes, the
others find; a process that is killed loses the shard that it was filling.

Images fall into buckets by the first digits of their keys. A process locks the bucket that it
encodes, so that two processes encode different ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasetkit.core.disk_sync import make_folders, sync_folder
from datasetkit.core.errors import InputError
from datasetkit.core.files import (
    TEMP_PREFIX,
    TEMP_SUFFIX,
    display,
    patiently,
    write_new,
    writing,
)
from datasetkit.core.progress import SILENT, Reporter
from trainer.files.safetensors_bytes import safetensors_bytes

FOLDER: Final = "latent-cache"
# Latents of a shard, about: 1,000 of an image of 512 x 512 take 130 MB.
SHARD_SIZE: Final = 500
_NAME: Final = re.compile(r"[0-9a-f]{32}\.safetensors")
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_MOST_HEADER: Final = 100_000_000
# Two threads read and check shards as fast as a disk delivers them.
_READERS: Final = 2
_POLL: Final = 0.2  # seconds
# The name of the one bucket of a small dataset.
_ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Moments:
    """The latent distribution as the VAE returns it, not normalised: float32, (channels, height,
    width), on the CPU.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a latent."""
        return self.mean + self.std * torch.randn(self.mean.shape, generator=generator)


class _Entry(NamedTuple):
    """Where a latent is. shard: its number; start: in the file."""

    shard: int
    start: int
    shape: tuple[int, ...]


class LatentCache:
    """The latents of a folder: the positions of latents are held, not the latents. read_only:
    nothing is added.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.read_only = read_only
        self._entries: dict[str, _Entry] = {}
        self._shards: list[Path] = []
        self._seen: set[str] = set()
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    @classmethod
    def open(cls, folder: Path, reporter: Reporter = SILENT) -> LatentCache | None:
        """Open or create the cache of a folder; None, with a warning, where something else has its
        name. Raises StorageError.
        """
        if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
            reporter.warn(
                f"dsk did not write {display(folder)}, and does not replace it: latents are not "
                "kept"
            )
            return None
        with writing(folder):
            make_folders(folder)
        reporter.phase("reading cached latents")
        cache = cls(folder)
        cache.refresh(reporter.warn)
        return cache

    @classmethod
    def existing(cls, folder: Path, reporter: Reporter = SILENT) -> LatentCache | None:
        """Open the cache of a folder without writing to it; None without one."""
        if folder.is_symlink() or not folder.is_dir():
            return None
        reporter.phase("reading cached latents")
        cache = cls(folder, read_only=True)
        cache.refresh(reporter.warn)
        return cache

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def refresh(self, warn: Callable[[str], None]) -> None:
        """Read the shards that were written since, and check each latent; damaged ones are left
        out with a warning. Raises StorageError.
        """
        with writing(self.folder), os.scandir(self.folder) as entries:
            names = {e.name for e in entries if _NAME.fullmatch(e.name)} - self._seen
        if not names:
            return
        self._seen |= names
        paths = [self.folder / name for name in sorted(names)]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="latents") as pool:
            for path, (entries_of, problem) in zip(paths, pool.map(_checked, paths), strict=True):
                self._add(path, entries_of)
                if problem:
                    warn(f"{display(path)} {problem}; the missing ones are encoded again")

    def _add(self, path: Path, entries: Mapping[str, tuple[int, tuple[int, ...]]]) -> None:
        number = len(self._shards)
        self._shards.append(path)
        for key, (start, shape) in entries.items():
            shape = self._shapes.setdefault(shape, shape)
            self._entries.setdefault(key, _Entry(number, start, shape))

    def read(self, key: str) -> Moments | None:
        """Return a latent; None where it is not in the cache. Raises InputError for a shard that
        can no longer be read.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None
        path = self._shards[entry.shard]
        size = 4 * int(np.prod(entry.shape))
        try:
            with path.open("rb") as file:
                file.seek(entry.start)
                data = file.read(size)
        except OSError as error:
            raise _gone(path) from error
        if len(data) != size:
            raise _gone(path)
        both = torch.from_numpy(np.frombuffer(data, "<f4").reshape(entry.shape).copy())
        return Moments(both[0], both[1])

    def write(self, bucket: str, latents: Mapping[str, Moments]) -> None:
        """Write a shard of a bucket that this process holds, completely or not at all. Raises
        StorageError.
        """
        tensors = {key: torch.stack((m.mean, m.std)) for key, m in latents.items()}
        sums = {key: _checksum(tensor.numpy().tobytes()) for key, tensor in tensors.items()}
        name = hashlib.sha256("".join(sorted(tensors)).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.safetensors"
        data = safetensors_bytes(tensors, sums)
        temporary = self.folder / f"{TEMP_PREFIX}{bucket or _ALL}{TEMP_SUFFIX}"
        with writing(path):
            temporary.unlink(missing_ok=True)  # of a process that was killed
            write_new(temporary, data, sync=True)
            patiently(os.replace, temporary, path)
            sync_folder(self.folder)
        self._seen.add(path.name)
        self._add(path, _entries(data, 0)[0])

    def buckets(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Return keys by bucket, which hold about `SHARD_SIZE` of them each. Every process that has
        as many keys has the same buckets.
        """
        keys = list(dict.fromkeys(keys))
        digits = 0
        while len(keys) > SHARD_SIZE * 16**digits:
            digits += 1
        buckets: dict[str, list[str]] = {}
        for key in sorted(keys):
            buckets.setdefault(key[:digits], []).append(key)
        return buckets

    @contextmanager
    def claimed(self, bucket: str, *, wait: bool) -> Iterator[bool]:
        """Hold the lock of a bucket; yields False where another process has it, unless `wait`. On a
        file system without locks every process encodes all of its images itself.
        """
        from filelock import FileLock, Timeout

        path = self.folder / f".{bucket or _ALL}.lock"
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=-1 if wait else 0, poll_interval=_POLL)
        except Timeout:
            yield False
            return
        except (NotImplementedError, OSError):
            yield True
            return
        try:
            yield True
        finally:
            # Whoever opened the file before holds a lock of no name, and may encode an image twice.
            with suppress(OSError):
                path.unlink()
            lock.release()


def _gone(path: Path) -> InputError:
    return InputError(
        f"{display(path)} was removed or changed while the run was reading it",
        hint="start the run again: it encodes what is missing",
    )


def _checksum(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _checked(path: Path) -> tuple[dict[str, tuple[int, tuple[int, ...]]], str]:
    """Return where the intact latents of a shard are, with their shapes, and its problem, "" for
    none.
    """
    try:
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        entries, sums = _entries(data, len(data))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        return {}, f"cannot be read ({str(error).splitlines()[0] if str(error) else 'not a shard'})"
    view = memoryview(data)
    intact = {
        key: (start, shape)
        for key, (start, shape) in entries.items()
        if _checksum(view[start : start + 4 * int(np.prod(shape))]) == sums.get(key)
    }
    damaged = len(entries) - len(intact)
    return intact, f"has {damaged} damaged latents" if damaged else ""


def _entries(
    data: bytes, size: int
) -> tuple[dict[str, tuple[int, tuple[int, ...]]], Mapping[str, str]]:
    """Return where the latents of a shard are, with their shapes, and their checksums. size: of the
    file, 0 if it was just made. Raises ValueError and others for what is not a shard.
    """
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
        raise ValueError("not a shard of latents")
    header = json.loads(data[8 : 8 + length])
    sums = header.pop("__metadata__") if isinstance(header, dict) else None
    if not isinstance(sums, dict):
        raise ValueError("not a shard of latents")
    entries: dict[str, tuple[int, tuple[int, ...]]] = {}
    for key, tensor in header.items():
        shape = tuple(map(int, tensor["shape"]))
        start, end = tensor["data_offsets"]
        whole = 4 * int(np.prod(shape))
        if (
            tensor["dtype"] != "F32"
            or len(shape) != 4
            or shape[0] != 2
            or min(shape) < 1
            or end - start != whole
            or start < 0
            or (size and 8 + length + end > size)
            or not _KEY.fullmatch(key)
        ):
            raise ValueError("not a shard of latents, or cut short")
        entries[key] = (8 + length + start, shape)
    return entries, sums
