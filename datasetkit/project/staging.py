"""A folder below `.dsk/` for large files that a plan links into place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from datasetkit.core.files import PROJECT, refuse_links, writing
from datasetkit.project.session import Project

FOLDER: Final = "staging"


@contextmanager
def staging_folder(project: Project) -> Iterator[Path]:
    """Create an empty folder, on the disk of the project, and delete it at the end. Needs the
    project lock; what a killed run left there is deleted first.
    """
    folder = project.root / PROJECT / FOLDER
    refuse_links(folder, project.root)
    with writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def trash_folder(project: Project, verb: str) -> Path:
    """Return the folder that a plan may move files to, which does not exist yet."""
    return project.root / PROJECT / "trash" / f"{verb}-{project.journal.next_id()}"
