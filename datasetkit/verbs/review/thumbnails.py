"""Thumbnails of the review page: made in background threads, the newest request first, and cached
on disk. The same threads compute the fingerprints for near-duplicates.
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

from PIL.Image import Image

from datasetkit.core.errors import DskError, InputError, StorageError
from datasetkit.core.file_stamp import FileStamp
from datasetkit.core.files import display, read_regular, reading, write_atomic
from datasetkit.images import near_duplicates, pixels
from datasetkit.verbs.review.images import ReviewImage

# Long edges in pixels: in the grid, and of a single image.
SIZES = {"thumb": near_duplicates.SEEN_AT, "preview": 1600}
_QUALITY = {"thumb": 82, "preview": 88}
# Bytes of thumbnails in memory: about 5,000 thumbnails.
_MEMORY_LIMIT = 64 * 2**20
_MAX_THREADS = 4
# Bytes of a thumbnail on disk, which has 10 KB.
_MAX_CACHED = 2**20

# What is computed of an image in the background, and what gets it.
Compute = Callable[[Image], bytes]
Callback = Callable[[ReviewImage, bytes | None], None]


class ImageGone(InputError):
    """The file is no longer the image that was scanned."""


class Thumbnails:
    """Makes and caches small JPEGs. folder: the disk cache; None caches in memory only.

    The newest request is served first, because it is what the person looks at now. Fingerprints are
    computed only when no request waits.
    """

    def __init__(self, folder: Path | None, *, max_pixels: int) -> None:
        self.folder, self.max_pixels = folder, max_pixels
        self._requests: deque[tuple[Future[bytes], ReviewImage, str]] = deque()
        self._background: deque[tuple[ReviewImage, Compute, Callback]] = deque()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._change = Condition()
        self._cache_lock = Lock()
        self._stopped = False
        count = min(_MAX_THREADS, max(2, os.cpu_count() or 1))
        # Only one thread computes fingerprints, so that the others are free for requests.
        self._threads = [
            Thread(target=self._run, args=(n == 0,), name=f"dsk-thumb-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def request(self, image: ReviewImage, kind: str) -> Future[bytes]:
        """Request a JPEG of a kind of SIZES. The future raises ImageGone, or InputError for an
        image that cannot be read.
        """
        future: Future[bytes] = Future()
        cached = self._cached(_file_name(image, kind))
        if cached is not None:
            future.set_result(cached)
            return future
        with self._change:
            self._requests.append((future, image, kind))
            self._change.notify()
        return future

    def request_fingerprints(self, images: Iterable[ReviewImage], callback: Callback) -> None:
        """Compute fingerprints in the background; `callback` gets None for an unreadable image."""
        self._request(images, near_duplicates.fingerprint, callback)

    def request_details(self, images: Iterable[ReviewImage], callback: Callback) -> None:
        """Compute `near_duplicates.detail` in the same way."""
        self._request(images, near_duplicates.detail, callback)

    def _request(self, images: Iterable[ReviewImage], compute: Compute, callback: Callback) -> None:
        with self._change:
            self._background.extend((image, compute, callback) for image in images)
            self._change.notify_all()

    def stop(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, in_background: bool) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._has_work(in_background))
                if self._stopped:
                    return
                request = self._requests.pop() if self._requests else None
                background = self._background.popleft() if request is None else None
            if request is not None:
                self._serve(*request)
            elif background is not None:
                self._compute(*background)

    def _has_work(self, in_background: bool) -> bool:
        waiting = self._requests or (in_background and self._background)
        return self._stopped or bool(waiting)

    def _serve(self, future: Future[bytes], image: ReviewImage, kind: str) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._jpeg(image, kind))
        except Exception as error:  # the future raises it; this thread goes on
            future.set_exception(error)

    def _compute(self, image: ReviewImage, compute: Compute, callback: Callback) -> None:
        try:
            result = compute(near_duplicates.decode(self._jpeg(image, "thumb")))
        except DskError:
            result = None
        callback(image, result)

    def _jpeg(self, image: ReviewImage, kind: str) -> bytes:
        """Return a small JPEG from memory or from disk, or make it."""
        name = _file_name(image, kind)
        cached = self._cached(name)
        if cached is not None:
            return cached
        # Previews are rarely viewed twice, and 10,000 of them would take gigabytes.
        folder = self.folder / name[:2] if self.folder is not None and kind == "thumb" else None
        if folder is not None:
            with suppress(OSError, InputError):
                data = read_regular(folder / name, limit=_MAX_CACHED)
                if data:
                    self._cache_in_memory(name, data)
                    return data
        small = near_duplicates.small(
            image.path,
            SIZES[kind],
            max_pixels=self.max_pixels,
            open_file=lambda path: open_unchanged(path, image.stamp),
        )
        data = pixels.encode(small, "JPEG", quality=_QUALITY[kind])
        if folder is not None:
            with suppress(StorageError, OSError):  # on a full disk the page works without a cache
                # Without parents: the project of a renamed folder is not made again.
                folder.parent.mkdir(exist_ok=True)
                folder.mkdir(exist_ok=True)
                if not folder.is_symlink():  # it would lead out of the project
                    write_atomic(folder / name, data)
        self._cache_in_memory(name, data)
        return data

    def _cached(self, name: str) -> bytes | None:
        with self._cache_lock:
            data = self._cache.get(name)
            if data is not None:
                self._cache.move_to_end(name)
            return data

    def _cache_in_memory(self, name: str, data: bytes) -> None:
        with self._cache_lock:
            if name not in self._cache:
                self._cache[name] = data
                self._cached_bytes += len(data)
            while self._cached_bytes > _MEMORY_LIMIT:
                self._cached_bytes -= len(self._cache.popitem(last=False)[1])


def _file_name(image: ReviewImage, kind: str) -> str:
    return f"{image.key}-{SIZES[kind]}.jpg"


def open_unchanged(path: Path, stamp: FileStamp) -> BinaryIO:
    """Open a file if it still has this stamp and is not a link. Raises ImageGone."""
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
            f"{display(path.name)} was removed or replaced", hint="the page updates in a moment"
        ) from error
    file = os.fdopen(descriptor, "rb")
    with reading(path):
        unchanged = FileStamp.of(os.fstat(descriptor)) == stamp
    if not unchanged:
        file.close()
        raise ImageGone(f"{display(path.name)} was replaced", hint="the page updates in a moment")
    return file
