"""Which folders the page may look into and write to, and what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.captions.caption_names import CAPTION_SUFFIXES
from datasetkit.core import file_kinds
from datasetkit.core.errors import InputError
from datasetkit.core.files import display, fold, natural_key
from datasetkit.verbs.studio.session import StudioSession

MAX_FOLDERS: Final = 2000
# Entries that are looked at to count images: a disk in the network takes long for more.
_COUNTED: Final = 50_000


@dataclass(slots=True)
class _Budget:
    """How many more entries are looked at."""

    entries: int = _COUNTED


def browse(studio: StudioSession, path: str, text: str = "") -> dict[str, Any]:
    """Return the subfolders of a folder, with the number of images and captions in each.

    text: the beginning of the names to list. For a path that does not exist yet, its nearest folder
    is listed, and the rest completes the names. Counts are None where counting takes too long.
    Hidden folders are left out; links are named and not followed.
    """
    chosen = studio.roots.path(path)
    folder = chosen
    if not chosen.is_dir():
        folder = next((p for p in chosen.parents if p.is_dir()), chosen.parent)
        text = text or chosen.relative_to(folder).parts[0]
        studio.roots.path(str(folder))
    entries = sorted(_subfolders(folder, text), key=lambda entry: natural_key(entry.name))
    budget = _Budget()
    allowed = studio.roots.folders
    above = folder.parent
    has_above = any(above.is_relative_to(root) for root in allowed)
    return {
        "path": str(folder),
        "exists": folder == chosen,
        "parent": str(above) if has_above and folder not in allowed else None,
        "root": max(
            (n for n, root in enumerate(allowed) if folder.is_relative_to(root)),
            key=lambda n: len(allowed[n].parts),
        ),
        "roots": [{"n": n, "path": str(root)} for n, root in enumerate(allowed)],
        **_counts(folder, budget),
        "folders": [_row(entry, budget) for entry in entries[:MAX_FOLDERS]],
        "truncated": len(entries) > MAX_FOLDERS,
    }


def _subfolders(folder: Path, text: str) -> Iterator[os.DirEntry[str]]:
    wanted = fold(text)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_hidden = entry.name.startswith(".") or file_kinds.is_system_folder(entry.name)
                if not is_hidden and fold(entry.name).startswith(wanted) and entry.is_dir():
                    yield entry
    except OSError as error:
        raise InputError(f"cannot read {display(folder)}: {error.strerror}") from error


def _row(entry: os.DirEntry[str], budget: _Budget) -> dict[str, Any]:
    row = {"name": entry.name, "path": entry.path, "link": entry.is_symlink()}
    if entry.is_symlink():
        return {**row, "images": None, "captions": None}
    return {**row, **_counts(Path(entry.path), budget)}


def _counts(folder: Path, budget: _Budget) -> dict[str, int | None]:
    images = captions = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            budget.entries -= 1
            if budget.entries < 0:
                return {"images": None, "captions": None}
            images += file_kinds.is_image_name(entry.name)
            captions += file_kinds.suffix_of(entry.name) in CAPTION_SUFFIXES
    return {"images": images, "captions": captions}
