"""Near-duplicates on the review page: fingerprints of images, computed in the background and stored
in the project, and the groups of images whose fingerprints are close.
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

# Fingerprints are written to the store in batches of this size.
_BATCH = 256
_UNREADABLE = b""
# While fingerprints keep coming in, groups are computed again after this many times as long as the
# last computation took.
_REST = 20


class NearDuplicates:
    """Fingerprints by the cache key of the image file, and the groups of near-duplicates."""

    def __init__(
        self, dataset: ReviewDataset, thumbnails: Thumbnails, open_store: OpenStore | None
    ) -> None:
        """open_store: None keeps the fingerprints in memory only."""
        self.dataset, self.thumbnails, self.open_store = dataset, thumbnails, open_store
        self._lock = RLock()
        self._fingerprints: dict[str, bytes] = {}
        self._requested: set[str] = set()
        self._unsaved: list[tuple[str, bytes]] = []
        self._grouped: list[tuple[int, str]] = []
        self._groups: list[list[int]] = []
        self._next_grouping = 0.0

    def start(self, stored: dict[str, bytes]) -> None:
        """Start to compute the fingerprints that are not stored yet."""
        self._fingerprints |= {
            key: fingerprint
            for key, fingerprint in stored.items()
            if len(fingerprint) == near_duplicates.FINGERPRINT_BYTES
        }
        self.update()

    def update(self) -> None:
        """Request the fingerprints of images that were added since."""
        with self._lock:
            new = [image for image in self.dataset.all() if image.key not in self._fingerprints]
            unique = {image.key: image for image in new if image.key not in self._requested}
            self._requested |= unique.keys()
        if unique:
            self.thumbnails.request_fingerprints(unique.values(), self._add)

    def _add(self, image: ReviewImage, fingerprint: bytes | None) -> None:
        with self._lock:
            self._fingerprints[image.key] = _UNREADABLE if fingerprint is None else fingerprint
            if fingerprint is not None:
                self._unsaved.append((image.key, fingerprint))
            batch_is_full = len(self._unsaved) >= _BATCH
        if batch_is_full:
            self.save()

    def save(self) -> None:
        """Write new fingerprints to the store."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, []
        if unsaved and self.open_store is not None:
            # If the disk is full, they are computed again next time.
            with suppress(DskError), self.open_store() as store:
                store.put_fingerprints(unsaved)

    def progress(self) -> tuple[int, int]:
        """Return how many images have a fingerprint, and how many there are."""
        images = self.dataset.all()
        with self._lock:
            return sum(image.key in self._fingerprints for image in images), len(images)

    def groups(self) -> list[list[int]]:
        """Return the groups of near-duplicates by image id, of the fingerprints computed so far."""
        images = self.dataset.all()
        with self._lock:
            pairs = [(p, known) for p in images if (known := self._fingerprints.get(p.key))]
            state = [(image.id, image.key) for image, _ in pairs]
            if state != self._grouped and not self._may_wait(images, state):
                started = time.monotonic()
                groups = near_duplicates.groups([fingerprint for _, fingerprint in pairs])
                members = [[pairs[index][0] for index in group] for group in groups]
                self._grouped = state
                self._groups = [[image.id for image in group] for group in members]
                self.dataset.set_near_duplicates(image.path for group in members for image in group)
                self._next_grouping = time.monotonic() + _REST * (time.monotonic() - started)
            return self._groups

    def _may_wait(self, images: Sequence[ReviewImage], state: Sequence[tuple[int, str]]) -> bool:
        """Tell whether the current groups are still valid, more fingerprints are coming, and the
        next grouping is not due.
        """
        incomplete = any(image.key not in self._fingerprints for image in images)
        return (
            incomplete
            and time.monotonic() < self._next_grouping
            and set(state).issuperset(self._grouped)
        )

    def group_of(self, image_id: int) -> list[int]:
        """Return the group of an image, [] if it has no near-duplicate."""
        return next((group for group in self.groups() if image_id in group), [])
