"""Near-duplicates on the review page: fingerprints of images, computed in the background and stored
in the project, and the groups of images whose fingerprints are close.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from threading import RLock

from datasetkit.core.errors import DskError
from datasetkit.images import near_duplicates
from datasetkit.images.near_duplicates import KEPT, is_kept, kept_groups, kept_row
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.thumbnails import Thumbnails
from datasetkit.verbs.review.watch import OpenStore

# Fingerprints are written to the store in batches of this size.
_BATCH = 256
_UNREADABLE = b""
# To find a copy in a group, at most so many different images are compared with each other.
_MOST_COMPARED = 16
# While fingerprints keep coming in, groups are computed again after this many times as long as the
# last computation took.
_REST = 20


NOTHING: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class OfferedGroups:
    """The groups that the page offers, by image id: first those with two copies of one image, then
    those that differ somewhere. copies: which have two copies. kept: how many groups are not
    offered, because a person keeps all their images.
    """

    groups: tuple[tuple[int, ...], ...]
    copies: tuple[bool, ...]
    kept: int


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
        self._groups: list[list[ReviewImage]] = []
        self._details: dict[str, bytes] = {}
        self._awaited_details: set[str] = set()
        # Which groups have two copies, by the keys of their images.
        self._copies: dict[tuple[str, ...], bool] = {}
        self._kept: dict[str, frozenset[bytes]] = {}
        self._keeps_all = False
        self._next_grouping = 0.0

    def start(
        self,
        stored: dict[str, bytes],
        kept: Mapping[str, bytes] = NOTHING,
        *,
        keeps_all: bool = False,
    ) -> None:
        """Start to compute the fingerprints that are not stored yet. kept: rows of KEPT.
        keeps_all: dsk.toml keeps every group.
        """
        self._kept, self._keeps_all = kept_groups(kept), keeps_all
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
        """Return how many images were compared, and how many there are."""
        images = self.dataset.all()
        with self._lock:
            done = sum(image.key in self._fingerprints for image in images)
            return max(0, done - len(self._awaited_details)), len(images)

    def groups(self) -> list[list[int]]:
        """Return the groups of near-duplicates by image id, of the fingerprints computed so far."""
        return [[image.id for image in group] for group in self._current_groups()]

    def offered(self) -> OfferedGroups:
        """Return the groups that a person has not decided about yet."""
        with self._lock:
            groups = self._current_groups()
            undecided = [group for group in groups if not self._is_kept(group)]
            self._request_details(undecided)
            copies: list[tuple[int, ...]] = []
            others: list[tuple[int, ...]] = []
            for group in undecided:
                (copies if self._has_copy(group) else others).append(
                    tuple(image.id for image in group)
                )
        return OfferedGroups(
            (*copies, *others),
            (*[True] * len(copies), *[False] * len(others)),
            len(groups) - len(undecided),
        )

    def _current_groups(self) -> list[list[ReviewImage]]:
        images = self.dataset.all()
        with self._lock:
            pairs = [(p, known) for p in images if (known := self._fingerprints.get(p.key))]
            state = [(image.id, image.key) for image, _ in pairs]
            if state != self._grouped and not self._may_wait(images, state):
                started = time.monotonic()
                groups = near_duplicates.groups([fingerprint for _, fingerprint in pairs])
                self._groups = [[pairs[index][0] for index in group] for group in groups]
                self._grouped, self._copies = state, {}
                self.dataset.set_near_duplicates(
                    image.path for group in self._groups for image in group
                )
                self._next_grouping = time.monotonic() + _REST * (time.monotonic() - started)
            return self._groups

    # ---- copies and others

    def _request_details(self, groups: Iterable[Sequence[ReviewImage]]) -> None:
        wanted = {image.key: image for group in groups for image in group}
        new = [
            image
            for key, image in wanted.items()
            if key not in self._details and key not in self._awaited_details
        ]
        self._awaited_details.update(image.key for image in new)
        if new:
            self.thumbnails.request_details(new, self._add_detail)

    def _add_detail(self, image: ReviewImage, detail: bytes | None) -> None:
        with self._lock:
            self._awaited_details.discard(image.key)
            self._details[image.key] = _UNREADABLE if detail is None else detail

    def _has_copy(self, group: Sequence[ReviewImage]) -> bool:
        """Tell whether two images of a group are copies of one, as far as is known."""
        keys = tuple(image.key for image in group)
        if keys in self._copies:
            return self._copies[keys]
        known = [detail for key in keys if (detail := self._details.get(key))]
        different = list(dict.fromkeys(known))[:_MOST_COMPARED]
        has_copy = len(set(known)) < len(known) or any(
            near_duplicates.difference(*pair) <= near_duplicates.COPY_DIFFERENCE
            for pair in combinations(different, 2)
        )
        if all(key in self._details for key in keys):
            self._copies[keys] = has_copy
        return has_copy

    # ---- kept groups

    def _is_kept(self, group: Sequence[ReviewImage]) -> bool:
        looks = {self._fingerprints.get(image.key, _UNREADABLE) for image in group}
        return self._keeps_all or is_kept(looks, self._kept.values())

    def keep(self, images: Iterable[ReviewImage]) -> None:
        """Offer a group no more, until another image joins it. Raises StorageError."""
        with self._lock:
            looks = {self._fingerprints.get(image.key, _UNREADABLE) for image in images}
            looks.discard(_UNREADABLE)
            key, row = kept_row(looks)
            self._store_kept([(key, row)])
            self._kept[key] = frozenset(looks)

    def offer_again(self, images: Iterable[ReviewImage] | None = None) -> None:
        """Offer the group of these images again, or all that were kept. Raises StorageError."""
        with self._lock:
            if images is None:
                keys = list(self._kept)
            else:
                looks = {self._fingerprints.get(image.key, _UNREADABLE) for image in images}
                keys = [key for key, kept in self._kept.items() if looks <= kept]
            self._store_kept([(key, b"") for key in keys])
            for key in keys:
                del self._kept[key]

    def _store_kept(self, rows: Sequence[tuple[str, bytes]]) -> None:
        if rows and self.open_store is not None:
            with self.open_store() as store:
                store.put_measurements(KEPT, rows)

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
        """Return the group of an image; [] if it has no near-duplicate, or all are kept."""
        with self._lock:
            for group in self._current_groups():
                ids = [image.id for image in group]
                if image_id in ids:
                    return [] if self._is_kept(group) else ids
        return []
