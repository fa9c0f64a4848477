"""Origins: from which image each image of a laid-out folder was linked, as the project's
journal tells.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from datasetkit.core.files import find_root
from datasetkit.project.store import STORE, Store

_LAYOUT = "layout"


def origins(folder: Path) -> dict[Path, Path]:
    """Return laid-out image -> the image that it was linked from, for the project of `folder`;
    paths are absolute.

    Files and laid-out folders that dsk renamed since are followed. What dsk did not lay out, or
    what a deleted `.dsk/` knew, is not in it. Nothing on disk is changed. Raises StorageError for a
    damaged store.
    """
    root = find_root(folder)
    if not (root / STORE).is_file():
        return {}
    with Store.open_copy(root) as store:
        rows = store.database.execute(
            "SELECT verb, kind, src, dst FROM ops JOIN journal ON journal.id = ops.entry "
            "WHERE state = 'done' AND kind IN ('link', 'move') ORDER BY entry, n"
        )
        known = _Links()
        for verb, kind, src, dst in rows:
            if kind == "move":
                known.move(src, dst)
            elif verb == _LAYOUT:
                known.link(src, dst)
        return {store.path(laid): store.path(own) for laid, own in known.own.items()}


class _Links:
    """Laid-out path -> its origin, and who uses each origin, so that thousands of moves
    stay quick.
    """

    def __init__(self) -> None:
        self.own: dict[bytes, bytes] = {}
        self._laid: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._folders: set[bytes] = set()

    def link(self, own: bytes, laid: bytes) -> None:
        self._forget(laid)
        self.own[laid] = own
        self._laid[own].add(laid)
        self._folders.add(laid.rpartition(b"/")[0])

    def move(self, src: bytes, dst: bytes) -> None:
        for laid in self._laid.pop(src, set()):
            self.own[laid] = dst
            self._laid[dst].add(laid)
        if src in self.own:
            self.link(self._forget(src), dst)
        elif src in self._folders:
            inside = src + b"/"
            for laid in [laid for laid in self.own if laid.startswith(inside)]:
                self.link(self._forget(laid), dst + b"/" + laid.removeprefix(inside))

    def _forget(self, laid: bytes) -> bytes:
        own = self.own.pop(laid, b"")
        self._laid[own].discard(laid)
        return own
