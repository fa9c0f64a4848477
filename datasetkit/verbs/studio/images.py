"""Images that the page shows by number: which file each is, what its header says, and a JPEG of it.

A number belongs to a path while the server runs. A file is opened only if it is the one that was
listed: no link is followed, and a file that was replaced since has another version.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from datasetkit.core.errors import InputError
from datasetkit.core.file_stamp import FileStamp, stamp_of
from datasetkit.core.files import display
from datasetkit.images import near_duplicates, pixels
from datasetkit.verbs.review.thumbnails import ImageGone, open_unchanged

# The longest side of an image without a size of its own, and what may be asked for.
PREVIEW_SIDE: Final = 1600
SIDES: Final = (32, 2048)
_QUALITY: Final = 85
_THREADS: Final = 4
_VERSION: Final = 8  # characters of a version in a URL


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that was listed. width, height: upright, 0 where it cannot be read: problem."""

    id: int
    path: Path
    stamp: FileStamp
    width: int = 0
    height: int = 0
    format: str = ""
    turned: bool = False
    problem: str = ""

    @property
    def v(self) -> str:
        """The version in its URL: new content gets a new one."""
        return self.stamp.key()[:_VERSION]


class ImageIndex:
    """The images that were listed, by number and by path."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ids: dict[Path, int] = {}
        self._images: dict[int, ShownImage] = {}

    def get(self, number: int) -> ShownImage | None:
        """Return the image of a number, None if no listing gave it."""
        return self._images.get(number)

    def read(self, paths: Sequence[Path], *, max_pixels: int) -> list[ShownImage]:
        """Return the images of a listing; the headers of those that are new or changed are read.

        Files that are gone meanwhile are left out, and so are links.
        """
        fresh: list[tuple[Path, FileStamp]] = []
        for path in paths:
            stamp = stamp_of(path)
            listed = self._images.get(self._ids.get(path, -1))
            if (
                stamp is not None
                and _is_regular(path)
                and (listed is None or listed.stamp != stamp)
            ):
                fresh.append((path, stamp))
        if fresh:
            with ThreadPoolExecutor(_THREADS) as threads:
                read = list(threads.map(lambda pair: _read(pair[0], pair[1], max_pixels), fresh))
            with self._lock:
                for image in read:
                    number = self._ids.setdefault(image.path, len(self._ids) + 1)
                    self._images[number] = _numbered(image, number)
        numbers = (self._ids.get(path) for path in paths)
        return [self._images[n] for n in numbers if n is not None]


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _numbered(image: ShownImage, number: int) -> ShownImage:
    return ShownImage(
        number, image.path, image.stamp, image.width, image.height, image.format, image.turned,
        image.problem,
    )  # fmt: skip


def _read(path: Path, stamp: FileStamp, max_pixels: int) -> ShownImage:
    try:
        header = pixels.probe(path, max_pixels=max_pixels)
    except InputError as error:
        reason = error.message.removeprefix(f"cannot read {display(path)}: ")
        return ShownImage(0, path, stamp, problem=reason)
    turned = header.orientation != 1
    return ShownImage(0, path, stamp, header.width, header.height, header.format, turned)


def jpeg(image: ShownImage, side: int, *, max_pixels: int) -> bytes:
    """Return a JPEG of an image whose longer side has at most `side` pixels.

    Raises ImageGone if the file is another one now, InputError if it cannot be read.
    """
    small = near_duplicates.small(
        image.path,
        side,
        max_pixels=max_pixels,
        open_file=lambda path: open_unchanged(path, image.stamp),
    )
    return pixels.encode(small, "JPEG", quality=_QUALITY)


def require_images(index: ImageIndex, numbers: Iterable[int]) -> list[ShownImage]:
    """Return the images of numbers. Raises ImageGone for one that was not listed."""
    images = [index.get(number) for number in numbers]
    if any(image is None for image in images):
        raise ImageGone("an image was removed", hint="the page updates in a moment")
    return [image for image in images if image is not None]
