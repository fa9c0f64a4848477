"""The disk watcher of the review page: polls the folders for what other programs change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Event, Thread

from datasetkit.core.errors import DskError
from datasetkit.core.file_kinds import is_image_name, is_searched, suffix_of
from datasetkit.core.file_stamp import FileStamp
from datasetkit.core.files import (
    CAPTION_SUFFIX,
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

# Seconds between two polls, or this many times as long as a slow poll takes.
_PAUSE, _REST = 1.0, 20
# After this many files other threads get a turn.
_FILES_PER_TURN = 500

OpenStore = Callable[[], AbstractContextManager[Store]]


class DiskWatcher:
    """Compares the disk with memory: `poll` once, `start` again and again in a thread."""

    def __init__(self, dataset: ReviewDataset, editor: Editor, open_store: OpenStore) -> None:
        self.dataset, self.editor, self.open_store = dataset, editor, open_store
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="dsk-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            started = time.monotonic()
            # A folder that cannot be read now is read at the next poll.
            with suppress(DskError, OSError):
                self.poll()
            pause = max(_PAUSE, _REST * (time.monotonic() - started))

    def poll(self) -> None:
        """Load what changed on disk: single captions, or all folders if images were added, removed
        or replaced, or a concept has its images elsewhere.
        """
        sets = self.dataset.moved_sets()
        stamps = dict(self._stamps())
        with self.editor.lock:
            images = self.dataset.all()
            on_disk = {path for path in stamps if is_image_name(path.name)}
            in_memory = {image.path for image in images} | {
                failed.path for failed in self.dataset.failed
            }
            replaced = any(stamps.get(image.path) != image.stamp for image in images)
            if sets is not None or self.dataset.stale or replaced or on_disk != in_memory:
                with self.open_store() as store:
                    self.dataset.rescan(store, sets)
                self.dataset.stale = False
            if sets is None:  # else of other folders
                self._load_captions(stamps)

    def _load_captions(self, stamps: dict[Path, FileStamp]) -> None:
        changed: list[tuple[ReviewImage, Caption | None]] = []
        for image in self.dataset.all():
            path = caption_path(image.path)
            stamp = stamps.get(path)
            if stamp == image.caption_stamp and (stamp is not None or image.caption is None):
                continue
            try:
                caption = image.read(read_regular(path, limit=MAX_CAPTION_BYTES))
            except DskError:
                continue
            if caption != image.caption:
                changed.append((image, caption))
            else:
                self.dataset.set_caption_stamp(image, stamp)
        if changed:
            with self.open_store() as store:
                self.dataset.read_generated(store, (caption for _, caption in changed))
            self.dataset.set_captions(changed, external=True)

    def _stamps(self) -> Iterator[tuple[Path, FileStamp]]:
        """Yield the images and captions of all folders with their stamps."""
        for number, path in enumerate(self._files(), start=1):
            if number % _FILES_PER_TURN == 0:
                time.sleep(0.001)
            # Not entry.stat: on Windows that has no inode.
            with suppress(FileNotFoundError):
                yield path, FileStamp.of(os.lstat(path))

    def _files(self) -> Iterator[Path]:
        """Yield the images and captions of all folders."""
        folders = [(concept.folder.resolve(), concept.recursive) for concept in self.dataset.sets]
        visited: set[Path] = set()
        while folders:
            folder, recursive = folders.pop()
            if folder in visited:
                continue
            visited.add(folder)
            for entry in self._entries(folder):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if recursive and entry.name != MASKS and is_searched(entry.name):
                        folders.append((Path(entry.path), True))
                    continue
                if is_image_name(entry.name) or suffix_of(entry.name) == CAPTION_SUFFIX:
                    yield Path(entry.path)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """List a folder: nothing for a concept's that is gone, an error for the dataset's, whose
        images then stay in memory.
        """
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            self.dataset.require_folder()
            return []
