"""Signatures: which entries of a journal this user made, on this machine, in this folder.

A project folder may come from somebody else, and so may the journal in its `.dsk/`. Each entry is
signed with a secret in the user's state folder: its operations, and the folder that they belong to.
What has no valid signature may not touch files outside of the project, and is not completed unasked
for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from datasetkit.core.disk_sync import make_folders, sync_folder
from datasetkit.core.files import display, temp_name, write_new

_APP = "datasetkit"
_SECRET = "journal.key"
_BYTES = 32
_VERSION = "dsk journal 1"


def state_folder() -> Path | None:
    """Return the folder for the user's secret, None if the system has no home folder for it."""
    named = os.environ.get("XDG_STATE_HOME", "")
    if named and Path(named).is_absolute():
        return Path(named, _APP)
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local", _APP)
        if sys.platform == "darwin":
            return Path.home() / "Library/Application Support" / _APP
        return Path.home() / ".local/state" / _APP
    except RuntimeError:  # the user has no home folder
        return None


def _read_secret(path: Path) -> bytes | None:
    """Return the secret; None where there is none, or other users could have read it."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and os.name == "posix":
            path.chmod(0o600)  # a restored backup may have lost the mode
        data = path.read_bytes()
    except OSError:
        return None
    return data if len(data) == _BYTES else None


def _make_secret(path: Path) -> bytes | None:
    """Make the secret, or read the one that another process made meanwhile; None if neither
    works.
    """
    with suppress(OSError):
        make_folders(path.parent, mode=0o700)
        path.parent.chmod(0o700)
        # Complete before it has its name, so that no other process reads a part of it.
        temporary = path.parent / temp_name()
        write_new(temporary, secrets.token_bytes(_BYTES), sync=True, mode=0o600)
        try:
            if not path.exists():
                _rename_if_free(temporary, path)
                # Its signatures must be valid after a power cut, too.
                sync_folder(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()
    return _read_secret(path)


def _rename_if_free(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        old.rename(new)


class Signer:
    """Makes and verifies the signatures of one project's journal. root: resolved."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root.resolve())
        folder = state_folder()
        self.path = None if folder is None else folder / _SECRET

    @property
    def problem(self) -> str:
        """Return why `sign` returns None, for people."""
        return (
            "there is no home folder"
            if self.path is None
            else f"{display(self.path)} cannot be written"
        )

    @cached_property
    def _secret_to_verify(self) -> bytes | None:
        return None if self.path is None else _read_secret(self.path)

    @cached_property
    def _secret_to_sign(self) -> bytes | None:
        if self.path is None:
            return None
        return _read_secret(self.path) or _make_secret(self.path)

    def sign(self, header: Sequence[object], operations: str) -> bytes | None:
        """Return the signature of an entry; None where the secret cannot be read or made.

        header: id, verb, state, and the entry that it undoes. operations: their digest.
        """
        secret = self._secret_to_sign
        return None if secret is None else self._mac(secret, header, operations)

    def verify(self, signature: object, header: Sequence[object], operations: str) -> bool:
        """Tell whether this user signed just this entry in this folder."""
        secret = self._secret_to_sign if "_secret_to_sign" in vars(self) else self._secret_to_verify
        if secret is None or not isinstance(signature, bytes):
            return False
        return hmac.compare_digest(signature, self._mac(secret, header, operations))

    def _mac(self, secret: bytes, header: Sequence[object], operations: str) -> bytes:
        text = repr((_VERSION, self._root, *header, operations))
        return hmac.digest(secret, text.encode("utf-8", "backslashreplace"), "sha256")


class OperationsDigest:
    """The digest of the rows of an entry's operations, in order; rows may be added one by one."""

    def __init__(self, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._hash = hashlib.sha256()
        for row in rows:
            self.add(row)

    def add(self, row: Sequence[Any]) -> None:
        # The representation of a tuple of numbers, texts and bytes is unambiguous.
        self._hash.update(repr(tuple(row)).encode("utf-8", "backslashreplace"))

    def added(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Add a row, and return it."""
        self.add(row)
        return row

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
