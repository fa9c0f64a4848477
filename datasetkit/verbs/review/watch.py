"""Watching: what other programs change in the folders while the page is open, found by looking now
and then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path, PurePath
from threading import Event, Thread

from datasetkit.core.errors import DskError
from datasetkit.core.file_stamp import FileStamp
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    MASKS,
    MAX_CAPTION_BYTES,
    caption_path,
    read_regular,
)
from datasetkit.core.records import Caption
from datasetkit.project.store import Store
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.editing import Editor
from datasetkit.verbs.review.images import ReviewImage

# Seconds between two looks; where one takes long, this many times as long as it takes.
_PAUSE, _REST = 1.0, 20
# So many files are looked at before the others of this process get their turn.
_BREATH = 500

OpenStore = Callable[[], AbstractContextManager[Store]]


class DiskWatcher:
    """Compares the disk with memory. `look` is one comparison; `start` does it again and again."""

    def __init__(self, dataset: ReviewDataset, editor: Editor, open_store: OpenStore) -> None:
        self.dataset, self.editor, self.open_store = dataset, editor, open_store
        self._ended = Event()
        self._thread = Thread(target=self._run, name="dsk-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            began = time.monotonic()
            with suppress(
                DskError, OSError
            ):  # a folder that is away for a moment is looked at next time
                self.look()
            pause = max(_PAUSE, _REST * (time.monotonic() - began))

    def look(self) -> None:
        """Take into memory what is other on disk: captions one by one, the folders anew where
        images came or went.
        """
        found = dict(self._entries())
        with self.editor.turn:
            images = self.dataset.all()
            here = {path for path in found if path.suffix.lower() in IMAGE_SUFFIXES}
            known = {image.path for image in images} | {
                failed.path for failed in self.dataset.failed
            }
            replaced = any(found.get(image.path) != image.file for image in images)
            if self.dataset.stale or replaced or here != known:
                with self.open_store() as store:
                    self.dataset.rescan(store)
                self.dataset.stale = False
            self._look_at_captions(found)

    def _look_at_captions(self, found: dict[Path, FileStamp]) -> None:
        changed: list[tuple[ReviewImage, Caption | None]] = []
        for image in self.dataset.all():
            path = caption_path(image.path)
            now = found.get(path)
            if now == image.text and (now is not None or image.caption is None):
                continue
            try:
                caption = image.read(read_regular(path, limit=MAX_CAPTION_BYTES))
            except DskError:
                continue
            if caption != image.caption:
                changed.append((image, caption))
            else:
                self.dataset.seen(image, now)
        if changed:
            with self.open_store() as store:
                self.dataset.learn(store, (caption for _, caption in changed))
            self.dataset.recaption(changed, outside=True)

    def _entries(self) -> Iterator[tuple[Path, FileStamp]]:
        """Yield the images and captions of all folders with their signs."""
        folders = [(one.folder.resolve(), one.recursive) for one in self.dataset.sets]
        seen: set[Path] = set()
        number = 0
        while folders:
            folder, recursive = folders.pop()
            if folder in seen:
                continue
            seen.add(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if recursive and entry.name != MASKS:
                            folders.append((Path(entry.path), True))
                        continue
                    suffix = PurePath(entry.name).suffix.lower()
                    if suffix in IMAGE_SUFFIXES or suffix == CAPTION_SUFFIX:
                        number += 1
                        if number % _BREATH == 0:
                            time.sleep(0.001)
                        try:
                            # Not entry.stat: on Windows that has no inode.
                            yield Path(entry.path), FileStamp.of(os.lstat(entry.path))
                        except FileNotFoundError:
                            continue
