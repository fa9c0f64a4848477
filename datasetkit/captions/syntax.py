"""How captions are written in a folder: what the `[train]` of its dsk.toml says.

Read here and not with the other options, which are above the captions: everything that reads a
caption needs it, and must not be able to forget it.
"""

from __future__ import annotations

import tomllib
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from datasetkit.core.files import config_path
from datasetkit.core.records import CaptionSyntax

# Longer texts, and those with a comma, are no separators; the trainer refuses them.
_LONGEST_SEPARATOR: Final = 32


def syntax_of(folder: Path) -> CaptionSyntax:
    """Return the syntax of the captions of a folder. A dsk.toml that cannot be read says nothing:
    the command that needs it reports it.
    """
    path = config_path(folder)
    if path is None:
        return CaptionSyntax()
    try:
        info = path.stat()
        return _read(path, info.st_mtime_ns, info.st_size)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return CaptionSyntax()


@lru_cache(maxsize=32)
def _read(path: Path, modified: int, size: int) -> CaptionSyntax:
    train = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("train")
    return of_options(train if isinstance(train, dict) else {})


def of_options(options: dict[str, Any]) -> CaptionSyntax:
    """Return the syntax that options say, by name; values of a wrong type are ignored."""
    usable: dict[str, Any] = {}
    for about in fields(CaptionSyntax):
        value = options.get(about.name, about.default)
        if type(value) is not type(about.default):
            continue
        if isinstance(value, str) and ("," in value or len(value) > _LONGEST_SEPARATOR):
            continue
        usable[about.name] = value
    return CaptionSyntax(**usable)
