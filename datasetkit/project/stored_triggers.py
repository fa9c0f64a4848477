"""The triggers that commands and the page stored in a project, by folder."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from datasetkit.captions.rulesets import writable
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import find_root
from datasetkit.project.store import STORE, Store

# A folder of `dsk layout`: repeats, and the concept.
LAID_OUT: Final = re.compile(r"[0-9]+_(.+)", re.DOTALL)
# Longer lists and words in a store were not written by dsk.
_MAX_WORDS, _MAX_LENGTH = 20, 200
# A store that has changed within this time is read each time: on some file systems two changes
# within two seconds have the same time.
_SETTLED_NS: Final = 3_000_000_000

_Rows = Mapping[bytes, tuple[str, ...]]
_Stamp = tuple[tuple[int, int, int] | None, ...]


def stored_key(folder: Path) -> Path:
    """Return the folder that a trigger is stored for: `train/8_sks` keeps it with other repeats."""
    folder = folder.resolve()
    laid_out = LAID_OUT.fullmatch(folder.name)
    return folder.with_name(laid_out[1]) if laid_out else folder


def stored_triggers(folders: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """Return the trigger of each folder that was stored last, from the store of its project."""
    return {folder: _checked(texts[-1]) for folder, texts in _texts(folders)}


def words_ever_stored(folder: Path) -> tuple[str, ...]:
    """Return the words of all triggers that were stored for a folder, the last ones first: captions
    have those of an earlier one until somebody removes them.
    """
    ((_, texts),) = _texts([folder])
    return tuple(dict.fromkeys(word for text in reversed(texts) for word in _checked(text)))


def _texts(folders: Iterable[Path]) -> Iterator[tuple[Path, tuple[object, ...]]]:
    rows: dict[Path, _Rows] = {}
    for folder in folders:
        root = find_root(folder)
        if root not in rows:
            rows[root] = _rows(root)
        key = stored_key(folder)
        relative = key.relative_to(root).as_posix() if key.is_relative_to(root) else str(key)
        yield folder, rows[root].get(relative.encode("utf-8", "surrogateescape"), (None,))


def _rows(root: Path) -> _Rows:
    stamp = tuple(_stamp_of(Path(f"{root / STORE}{suffix}")) for suffix in ("", "-wal"))
    newest = max((part[1] for part in stamp if part is not None), default=0)
    is_settled = newest < time.time_ns() - _SETTLED_NS
    return _rows_at(root, stamp) if is_settled else _read(root)


@lru_cache(maxsize=64)
def _rows_at(root: Path, stamp: _Stamp) -> _Rows:
    return _read(root)


def _read(root: Path) -> _Rows:
    try:
        return Store.stored_triggers(root)
    except DskError:  # a store that cannot be read is reported where it is opened
        return {}


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _checked(text: object) -> tuple[str, ...]:
    """Return the words of a stored trigger; () for what dsk cannot have written."""
    try:
        words = json.loads(text) if isinstance(text, str) else []
        if not isinstance(words, list) or len(words) > _MAX_WORDS:
            return ()
        if not all(isinstance(word, str) and len(word) <= _MAX_LENGTH for word in words):
            return ()
        return tuple(dict.fromkeys(writable(word, "trigger") for word in words))
    except (ValueError, RecursionError, ConfigError):
        return ()
