"""Twins: which images of the page look nearly the same, found out in the background and
remembered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from threading import RLock

from datasetkit.core.errors import DskError
from datasetkit.images import near_duplicates
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.thumbnails import Thumbnails
from datasetkit.verbs.review.watch import OpenStore

# New looks are written to the store in handfuls.
_KEEP_EVERY = 256
_UNREADABLE = b""
# While more and more images are known, they are compared again after this many times as long as
# it took last.
_REST = 20


class NearDuplicates:
    """Looks of images by the sign of their file, and the groups of those that are nearly the
    same.
    """

    def __init__(
        self, dataset: ReviewDataset, thumbnails: Thumbnails, open_store: OpenStore | None
    ) -> None:
        """open_store: where looks are kept; None keeps them in memory alone."""
        self.dataset, self.thumbnails, self.open_store = dataset, thumbnails, open_store
        self._lock = RLock()
        self._looks: dict[str, bytes] = {}
        self._asked: set[str] = set()
        self._new: list[tuple[str, bytes]] = []
        self._compared: list[tuple[int, str]] = []
        self._groups: list[list[int]] = []
        self._due = 0.0

    def start(self, known: dict[str, bytes]) -> None:
        """Begin to look at what is not known yet."""
        self._looks |= {
            key: look for key, look in known.items() if len(look) == near_duplicates.LOOK_BYTES
        }
        self.follow()

    def follow(self) -> None:
        """Look at the images that came since."""
        with self._lock:
            new = [image for image in self.dataset.all() if image.key not in self._looks]
            first = {image.key: image for image in new if image.key not in self._asked}
            self._asked |= first.keys()
        if first:
            self.thumbnails.look_at(first.values(), self._found)

    def _found(self, image: ReviewImage, look: bytes | None) -> None:
        with self._lock:
            self._looks[image.key] = _UNREADABLE if look is None else look
            if look is not None:
                self._new.append((image.key, look))
            full = len(self._new) >= _KEEP_EVERY
        if full:
            self.keep()

    def keep(self) -> None:
        """Write the new looks to the store."""
        with self._lock:
            new, self._new = self._new, []
        if new and self.open_store is not None:
            with (
                suppress(DskError),
                self.open_store() as store,
            ):  # a full disk costs the memory of it, not the page
                store.put_fingerprints(new)

    def progress(self) -> tuple[int, int]:
        """Return how many of the images were looked at, and how many there are."""
        images = self.dataset.all()
        with self._lock:
            return sum(image.key in self._looks for image in images), len(images)

    def groups(self) -> list[list[int]]:
        """Return the groups of images that look nearly the same, by their numbers, as far as they
        were looked at.
        """
        images = self.dataset.all()
        with self._lock:
            seen = [(p, look) for p in images if (look := self._looks.get(p.key))]
            state = [(image.id, image.key) for image, _ in seen]
            if state != self._compared and not self._growing(images, state):
                began = time.monotonic()
                found = near_duplicates.groups([look for _, look in seen])
                self._compared = state
                self._groups = [[seen[place][0].id for place in group] for group in found]
                self.dataset.set_twins(seen[place][0].path for group in found for place in group)
                self._due = time.monotonic() + _REST * (time.monotonic() - began)
            return self._groups

    def _growing(self, images: Sequence[ReviewImage], state: Sequence[tuple[int, str]]) -> bool:
        """Tell whether what was compared still holds, more is to come, and the next comparison is
        not yet due.
        """
        waiting = any(image.key not in self._looks for image in images)
        return waiting and time.monotonic() < self._due and set(state).issuperset(self._compared)

    def of(self, number: int) -> list[int]:
        """Return the group that an image is in, [] for none."""
        return next((group for group in self.groups() if number in group), [])
