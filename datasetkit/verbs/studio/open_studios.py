"""The studios that run on this machine: one file for each project, in the user's state folder.

A second `dsk studio` of the same user and project reads the file, which only this user can read,
and asks the running server with the key in it for a link of its own. The lock says whether the
server lives; the file is not trusted for that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import InputError
from datasetkit.core.files import read_regular, write_atomic
from datasetkit.project import job_locks
from datasetkit.project.signature import state_folder

KEY_HEADER: Final = "X-Dsk-Key"
ENTRY_PATH: Final = "/api/entry"
_FOLDER: Final = "studios"
_LARGEST: Final = 4096
_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class OpenStudio:
    """A server that runs. host: the name by which it is reached; key: for another process of this
    user; cookie, header: kept with --keep-token, else "".
    """

    host: str
    port: int
    key: str = field(repr=False)
    cookie: str = field(default="", repr=False)
    header: str = field(default="", repr=False)


def _path(root: Path) -> Path | None:
    folder = state_folder()
    if folder is None:
        return None
    name = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return folder / _FOLDER / f"{name}.json"


def stored(root: Path) -> OpenStudio | None:
    """Return what the last server of a project wrote, whether it runs or not."""
    path = _path(root)
    if path is None:
        return None
    try:
        record = json.loads(read_regular(path, limit=_LARGEST) or b"{}")
        names = ("host", "key", "cookie", "header")
        texts = {name: record[name] for name in names if isinstance(record[name], str)}
        port = record["port"]
        return OpenStudio(port=port, **texts) if type(port) is int else None
    except (InputError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def running(root: Path) -> OpenStudio | None:
    """Return the server of a project that runs, None without one."""
    path = _path(root)
    if path is None or not job_locks.is_held(path.with_suffix(".lock")):
        return None
    return stored(root)


def link(studio: OpenStudio) -> str | None:
    """Ask a server for a link that lets one browser in; None if it does not answer."""
    connection = HTTPConnection(studio.host, studio.port, timeout=_SECONDS)
    try:
        connection.request("POST", ENTRY_PATH, headers={KEY_HEADER: studio.key})
        response = connection.getresponse()
        token = json.loads(response.read()).get("token") if response.status == 200 else None
    except (OSError, HTTPException, ValueError, AttributeError):
        return None
    finally:
        connection.close()
    is_token = isinstance(token, str)
    return f"http://{studio.host}:{studio.port}/?token={token}" if is_token else None


@contextmanager
def registered(root: Path, studio: OpenStudio, *, keep: bool) -> Iterator[None]:
    """Let other processes of this user find a server while it runs. keep: its file stays for the
    next one. Without a state folder, or if another server of the project is registered, it does
    nothing.
    """
    path = _path(root)
    descriptor = None if path is None else _lock(path)
    if path is None or descriptor is None:
        yield
        return
    try:
        with suppress(OSError):
            write_atomic(path, json.dumps(asdict(studio)).encode())
            path.chmod(0o600)
        yield
    finally:
        if not keep:
            with suppress(OSError):
                path.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Hold the lock of a project's server; None if that is held, or cannot be."""
    try:
        make_folders(path.parent, mode=0o700)
        for private in (path.parent.parent, path.parent):
            private.chmod(0o700)
        descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    if job_locks.try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None
