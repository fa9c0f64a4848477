"""The project that a folder belongs to, where it has a history."""

from __future__ import annotations

import os
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import PROJECT, display, find_root
from datasetkit.images.scan import require_folder
from datasetkit.project.store import has_store


def require_history(folder: Path) -> Path:
    """Return the root of the folder's project. Raises InputError if it has no history."""
    root = find_root(require_folder(folder, hint="name a folder of the project"))
    if not has_store(root):
        if (root / PROJECT).is_dir() and not os.access(root / PROJECT, os.R_OK | os.X_OK):
            raise InputError(
                f"{display(root / PROJECT)} cannot be read", hint="it belongs to another user"
            )
        below = sorted(p.parent.name for p in root.glob(f"*/{PROJECT}") if p.is_dir())
        hint = (
            f"these folders have one: {', '.join(map(display, below[:5]))}"
            if below
            else "no command has changed anything here yet"
        )
        raise InputError(f"{display(root)} has no history", hint=hint)
    return root
