"""What an actor of Ray does: it opens the work once, and runs it on batches of items."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import tempfile
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import DskError
from datasetkit.core.files import TEMP_PREFIX
from datasetkit.executors import parcels
from datasetkit.executors.work import OpenWork

# What decides the bytes of a result, besides the options and the images.
PACKAGES: Final = ("datasetkit", "pillow", "numpy", "onnxruntime", "onnxruntime-gpu", "rembg")
# Of a file that two machines should see alike, so much is compared.
_COMPARED: Final = 65_536


class Worker:
    """The work of one actor. threads: that read images."""

    def __init__(self, work: bytes, threads: int) -> None:
        self._threads = threads
        self._stack = ExitStack()
        self._work: OpenWork = self._stack.enter_context(parcels.loads_absolute(work).open())

    @property
    def facts(self) -> bytes:
        return parcels.dumps(self._work.facts)

    def run(self, batch: list[bytes]) -> list[bytes]:
        """Run the work on pickled items; return a pickled result for each."""
        with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX) as folder:
            items = [
                parcels.unpacked(parcel, Path(folder, str(n))) for n, parcel in enumerate(batch)
            ]
            results = self._work.run([each.item for each in items], workers=self._threads)
            return [each.reply(result) for each, result in zip(items, results, strict=True)]


@dataclass(frozen=True, slots=True)
class WorkerError:
    """An error that ends the run: one of dsk, or a bug. trace: of a bug."""

    error: DskError | None
    kind: str
    trace: str

    @classmethod
    def of(cls, error: Exception) -> WorkerError:
        """Keep what the caller's machine can show of an error."""
        if isinstance(error, DskError):
            return cls(error, "", "")
        return cls(None, f"{type(error).__name__}: {error}", traceback.format_exc())


def versions() -> dict[str, str]:
    """Return the versions of this environment that decide the bytes of a result."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@dataclass(frozen=True, slots=True)
class FileProbe:
    """A file as one machine sees it. digest: of its size and first bytes, "" if it is missing."""

    path: str
    digest: str


def probe(path: Path) -> FileProbe:
    """Look at a file: its size and its first bytes."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(f"{size} ".encode() + file.read(_COMPARED)).hexdigest()
    except OSError:
        digest = ""
    return FileProbe(str(path.absolute()), digest)


def unseen(read: list[FileProbe], written: list[str]) -> str:
    """Return what this machine does not see as the caller's does, "" if it sees all."""
    for file in read:
        here = probe(Path(file.path))
        if here.digest != file.digest:
            return f"does not see {file.path}" if not here.digest else f"has another {file.path}"
    for folder in written:
        if not Path(folder).is_dir():
            return f"does not see {folder}"
        if not os.access(folder, os.W_OK):
            return f"cannot write to {folder}"
    return ""


def opened(work: bytes, threads: int) -> Worker | WorkerError:
    """Open pickled work; an error is returned, not raised: Ray would wrap it."""
    try:
        return Worker(work, threads)
    except Exception as error:
        return WorkerError.of(error)


def outcome(worker: Worker, batch: list[bytes]) -> Any:
    """Run a batch; an error is returned, not raised."""
    try:
        return worker.run(batch)
    except Exception as error:
        return parcels.dumps(WorkerError.of(error))
