"""Thumbnails: images made small for the page, newest request first, kept on disk, and how each
image looks.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import BinaryIO

from datasetkit.core.errors import DskError, InputError, StorageError
from datasetkit.core.file_stamp import FileStamp
from datasetkit.core.files import display, reading, write_atomic
from datasetkit.images import near_duplicates, pixels
from datasetkit.verbs.review.images import ReviewImage

# Long edges in pixels: in the grid, and alone.
SIZES = {"thumb": near_duplicates.SEEN_AT, "preview": 1600}
_QUALITY = {"thumb": 82, "preview": 88}
# Bytes of thumbnails in memory: some 5,000.
_MEMORY = 64 * 2**20
_MOST_THREADS = 4


class ImageGone(InputError):
    """The file is not the image that was listed any more."""


class Thumbnails:
    """Makes and keeps small images. folder: where they are kept; None keeps them in memory alone.

    Requests are served newest first, because what was asked for last is what is looked at;
    `look_at` comes after all.
    """

    def __init__(self, folder: Path | None, *, max_pixels: int) -> None:
        self.folder, self.max_pixels = folder, max_pixels
        self._waiting: deque[tuple[Future[bytes], ReviewImage, str]] = deque()
        self._later: deque[tuple[ReviewImage, Callable[[ReviewImage, bytes | None], None]]] = (
            deque()
        )
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._change = Condition()
        self._lock = Lock()
        self._ended = False
        number = min(_MOST_THREADS, max(2, os.cpu_count() or 1))
        self._threads = [
            Thread(target=self._run, args=(n == 0,), name=f"dsk-thumb-{n}", daemon=True)
            for n in range(number)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, image: ReviewImage, kind: str) -> Future[bytes]:
        """Ask for a small JPEG. The result raises Gone, or InputError for an image that cannot be
        read.
        """
        future: Future[bytes] = Future()
        held = self._remembered(_name(image, kind))
        if held is not None:
            future.set_result(held)
            return future
        with self._change:
            self._waiting.append((future, image, kind))
            self._change.notify()
        return future

    def look_at(
        self, images: Iterable[ReviewImage], found: Callable[[ReviewImage, bytes | None], None]
    ) -> None:
        """Find out how images look, when nothing else is to be done; `found` gets None for one
        that is unreadable.
        """
        with self._change:
            self._later.extend((image, found) for image in images)
            self._change.notify_all()

    def stop(self) -> None:
        with self._change:
            self._ended = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, looks_too: bool) -> None:
        while True:
            with self._change:
                while not self._ended and not self._waiting and not (looks_too and self._later):
                    self._change.wait()
                if self._ended:
                    return
                urgent = self._waiting.pop() if self._waiting else None
                later = self._later.popleft() if urgent is None else None
            if urgent is not None:
                self._serve(*urgent)
            elif later is not None:
                self._look(*later)

    def _serve(self, future: Future[bytes], image: ReviewImage, kind: str) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._small(image, kind))
        except Exception as error:  # whoever waits gets it; the thread goes on
            future.set_exception(error)

    def _look(self, image: ReviewImage, found: Callable[[ReviewImage, bytes | None], None]) -> None:
        try:
            look = near_duplicates.look(near_duplicates.decode(self._small(image, "thumb")))
        except DskError:
            look = None
        found(image, look)

    def _small(self, image: ReviewImage, kind: str) -> bytes:
        """Return a small image: remembered, kept on disk, or made now."""
        name = _name(image, kind)
        held = self._remembered(name)
        if held is not None:
            return held
        # Previews are seldom seen twice, and 10,000 of them would be gigabytes.
        path = (
            self.folder / name[:2] / name if self.folder is not None and kind == "thumb" else None
        )
        if path is not None:
            with suppress(OSError):
                data = path.read_bytes()
                if data:
                    self._remember(name, data)
                    return data
        small = near_duplicates.small(
            image.path,
            SIZES[kind],
            max_pixels=self.max_pixels,
            open_file=lambda path: open_listed(path, image.file),
        )
        data = pixels.encode(small, "JPEG", quality=_QUALITY[kind])
        if path is not None:
            with suppress(StorageError, OSError):  # a full disk costs the cache, not the page
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, data)
        self._remember(name, data)
        return data

    def _remembered(self, name: str) -> bytes | None:
        with self._lock:
            data = self._memory.get(name)
            if data is not None:
                self._memory.move_to_end(name)
            return data

    def _remember(self, name: str, data: bytes) -> None:
        with self._lock:
            if name not in self._memory:
                self._memory[name] = data
                self._held += len(data)
            while self._held > _MEMORY:
                self._held -= len(self._memory.popitem(last=False)[1])


def _name(image: ReviewImage, kind: str) -> str:
    return f"{image.key}-{SIZES[kind]}.jpg"


def open_listed(path: Path, listed: FileStamp) -> BinaryIO:
    """Open an image if it is the very file that was listed: no link, and not replaced since.
    Raises Gone.
    """
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_NONBLOCK", 0)
    )
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise ImageGone(
            f"{display(path.name)} is gone or was replaced",
            hint="the page shows it when it looks again",
        ) from error
    file = os.fdopen(descriptor, "rb")
    with reading(path):
        same = FileStamp.of(os.fstat(descriptor)) == listed
    if not same:
        file.close()
        raise ImageGone(
            f"{display(path.name)} was replaced", hint="the page shows it when it looks again"
        )
    return file
