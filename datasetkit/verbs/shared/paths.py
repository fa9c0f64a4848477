"""Paths as callers of the API give them: text or Path, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

AnyPath = str | Path


def paths_of(files: AnyPath | Sequence[AnyPath]) -> list[Path]:
    """Return one path, or several, as a list. A text is one path, not a sequence of characters."""
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
