"""The image that `dsk layout` made each image of a laid-out dataset from, by the journal."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from datasetkit.core.files import MASKS, find_root
from datasetkit.project.journal import Journal
from datasetkit.project.store import Store, has_store

_LAYOUT = "layout"


def layout_sources(folders: Iterable[Path]) -> dict[Path, Path]:
    """Return laid-out image -> the image that it was copied or linked from, for the projects of the
    folders.

    Paths are absolute. Files and folders that dsk renamed since are followed. Images that dsk did
    not lay out, or whose `.dsk/` was deleted, are missing; so are images outside of the project
    where the entry of the journal is not signed. Nothing on disk changes. Raises StorageError for a
    damaged store.
    """
    roots = dict.fromkeys(map(find_root, folders))
    return {image: source for root in roots for image, source in _of_project(root).items()}


def _of_project(root: Path) -> dict[Path, Path]:
    if not has_store(root):
        return {}
    with Store.open_copy(root) as store:
        journal = Journal(store)
        rows = store.database.execute(
            "SELECT entry, verb, kind, src, dst FROM ops JOIN journal ON journal.id = ops.entry "
            "WHERE state = 'done' AND kind IN ('copy', 'link', 'move') ORDER BY entry, n"
        ).fetchall()
        signed = {entry: journal.is_signed(entry) for entry in dict.fromkeys(r[0] for r in rows)}
        links = _Links()
        for entry, verb, kind, src, dst in rows:
            if not signed[entry] and not journal.stays_inside((src, dst)):
                continue
            if kind == "move":
                links.move(src, dst)
            elif verb == _LAYOUT and not _is_mask(dst):
                links.link(src, dst)
        return {
            store.path(image, signed=True): store.path(source, signed=True)
            for image, source in links.sources.items()
        }


def _is_mask(path: bytes) -> bool:
    return path.split(b"/")[-2:-1] == [os.fsencode(MASKS)]


class _Links:
    """Laid-out image -> its source, and the images of each source, so that thousands of moves are
    quick.
    """

    def __init__(self) -> None:
        self.sources: dict[bytes, bytes] = {}
        self._images: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._folders: set[bytes] = set()

    def link(self, source: bytes, image: bytes) -> None:
        self._forget(image)
        self.sources[image] = source
        self._images[source].add(image)
        self._folders.add(image.rpartition(b"/")[0])

    def move(self, src: bytes, dst: bytes) -> None:
        for image in self._images.pop(src, set()):
            self.sources[image] = dst
            self._images[dst].add(image)
        if src in self.sources:
            self.link(self._forget(src), dst)
        elif src in self._folders:
            inside = src + b"/"
            for image in [image for image in self.sources if image.startswith(inside)]:
                self.link(self._forget(image), dst + b"/" + image.removeprefix(inside))

    def _forget(self, image: bytes) -> bytes:
        source = self.sources.pop(image, b"")
        self._images[source].discard(image)
        return source
