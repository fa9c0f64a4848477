"""The cards of an empty project: recent projects, and the example."""

from __future__ import annotations

import shlex
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import DskError, PlanConflict
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.project import jobs
from datasetkit.verbs.init import init_example
from datasetkit.verbs.studio.session import StudioSession

EXAMPLE_IMAGES: Final = 24
_MOST_RECENT: Final = 8
# What an empty folder may hold: the project's own folder, and files of systems.
_OWN: Final = "."


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return the projects of recent jobs, and the example where the open folder is empty."""
    is_offered = not studio.read_only and _is_empty(studio.folder)
    return {
        "recent": _recent(studio),
        "example": {"images": EXAMPLE_IMAGES} if is_offered else None,
    }


def _is_empty(folder: Path) -> bool:
    try:
        return all(entry.name.startswith(_OWN) for entry in folder.iterdir())
    except OSError:
        return False


def _recent(studio: StudioSession) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    with suppress(DskError, OSError):
        for job in jobs.list_jobs():
            folder = Path(job.folder) if job.folder else None
            if folder is None or job.folder in rows or folder == studio.folder:
                continue
            if (folder / CONFIG_NAME).is_file():
                rows[job.folder] = {
                    "name": display(folder.name),
                    "folder": job.folder,
                    "command": f"dsk studio {shlex.quote(job.folder)}",
                    "images": None,
                    "time": _seconds(job.started),
                }
    return sorted(rows.values(), key=lambda row: -float(row["time"]))[:_MOST_RECENT]


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def copy_example(studio: StudioSession) -> dict[str, Any]:
    """Copy the example into the open folder. Raises PlanConflict if it is not empty."""
    if not _is_empty(studio.folder):
        raise PlanConflict(
            f"{display(studio.folder)} is not empty",
            hint="dsk init NEW --example copies it into a new folder",
        )
    result = init_example(studio.folder, studio.context)
    command = f"dsk init {shlex.quote(str(studio.folder))} --example"
    return {"images": EXAMPLE_IMAGES, "entry": result.entry, "command": command}
