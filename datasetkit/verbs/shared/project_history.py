"""The project that a folder belongs to, where it has a history."""

from __future__ import annotations

from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import PROJECT, display, find_root
from datasetkit.images.scan import require_folder


def require_history(folder: Path) -> Path:
    """Return the root of the folder's project. Raises InputError if it has no history."""
    root = find_root(require_folder(folder, hint="name a folder of the project"))
    if not (root / PROJECT / "store.sqlite").is_file():
        below = sorted(p.parent.name for p in root.glob(f"*/{PROJECT}") if p.is_dir())
        hint = (
            f"these folders have one: {', '.join(map(display, below[:5]))}"
            if below
            else "no command has changed anything here yet"
        )
        raise InputError(f"{display(root)} has no history", hint=hint)
    return root
