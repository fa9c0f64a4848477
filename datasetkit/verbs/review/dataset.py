"""The dataset of the review page: all images in memory, selected by filters, with a version number
that rises at each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from datasetkit.captions.caption import with_syntax
from datasetkit.captions.filters import parse
from datasetkit.captions.predicates import predicate
from datasetkit.core.errors import DatasetError, DskError, InputError
from datasetkit.core.file_stamp import FileStamp, stamp_of
from datasetkit.core.files import config_path, display, find_root, natural_key
from datasetkit.core.records import Caption, Failed, ImageRecord, LeftOut
from datasetkit.dataset.trigger import KnownTrigger
from datasetkit.images.listing import list_images
from datasetkit.images.scan import scan
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import find
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import Store
from datasetkit.verbs.review.images import ReviewImage, TagCodes
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    ConceptSets,
    find_sets,
    tag_options,
    work_folder,
)
from datasetkit.verbs.shared.image_facts import DatasetFacts, ImageFacts, below
from datasetkit.verbs.shared.stored_scores import StoredScores
from datasetkit.verbs.shared.triggers import triggers_of

# How many changes the log keeps. A page that is further behind reloads everything.
_LOG_LENGTH = 500
# How many filter results are cached: the page asks for images, tags and counts of the same filter.
_CACHED_FILTERS = 8
COPIES = (
    "These captions are copies made by `dsk layout`, and the next layout rewrites them. "
    "Review the source folder instead."
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which images an operation applies to: all, those that match a filter, or a list of ids."""

    kind: str = "all"
    where: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """What changed in one version, as image ids. external: another program made the change."""

    version: int
    captions: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    external: bool = False


class ReviewDataset:
    """Images by id, in natural order. Hold `lock` to read several values that belong together."""

    def __init__(
        self, folder: Path, *, recursive: bool = False, max_pixels: int = 64_000_000
    ) -> None:
        self.folder, self.recursive, self.max_pixels = folder.resolve(), recursive, max_pixels
        self.root = find_root(folder)
        self.lock = RLock()
        self.version = 1
        self.sets: tuple[ConceptSet, ...] = ()
        self.failed: tuple[Failed, ...] = ()
        self.left_out: tuple[LeftOut, ...] = ()
        self.notice = ""
        # Memory may differ from the disk: the folders must be scanned again.
        self.stale = False
        self.log: list[DatasetChange] = []
        self.codes = TagCodes()
        self.generated: set[Caption] = set()
        self.near_duplicates: frozenset[Path] = frozenset()
        self.options: list[TagOptions] = []
        self._to_write = False
        # The folders of finished images, and the stamp at which the concepts were those in memory.
        self._work: tuple[Path, ...] = ()
        self._stamp_of_sets: tuple[object, ...] | None = None
        self._scores: StoredScores | None = None
        self.facts = DatasetFacts(
            self._scores_of, self.generated.__contains__, lambda path: path in self.near_duplicates
        )
        self._images: dict[int, ReviewImage] = {}
        self._id_by_path: dict[Path, int] = {}
        # Of all paths that were ever listed, so that an image that comes back gets its id back.
        self._assigned_ids: dict[Path, int] = {}
        self._filter_cache: dict[str, tuple[int, list[int]]] = {}
        self._triggers: tuple[int, dict[tuple[int, Path], KnownTrigger]] = (0, {})

    # ---- from the disk

    def load(self, store: Store, *, to_write: bool = False) -> None:
        """Scan all images; what the store already has is not computed again. to_write: captions
        will be changed. Raises DatasetError without images, and as find_sets.
        """
        self._to_write = to_write
        self._use(find_sets(self.folder, recursive=self.recursive, to_write=to_write))
        self._scores = StoredScores(store, self.options[0])
        records, failed = self._scan(store)
        if not records and not failed:
            raise DatasetError(
                f"{display(self.folder)} has no images", hint="name the folder that holds them"
            )
        self.failed = tuple(failed)
        self._read_store(store, [record for record, _ in records])
        self._replace_all([self._image(record, concept, 0) for record, concept in records])

    def _use(self, sets: ConceptSets) -> None:
        self.sets = sets.train
        self.notice = COPIES if sets.origin == "laid out" else ""
        # In place: operations hold the list.
        self.options[:] = [tag_options(each.folder, {}, only_read=True) for each in self.sets]

    def moved_sets(self) -> ConceptSets | None:
        """Return the concepts where their images lie elsewhere than those in memory: `dsk resize`
        has made a folder of finished images, or dsk.toml names other folders. None otherwise, and
        while they have no images or cannot be read.
        """
        if self._concepts_stamp() == self._stamp_of_sets:
            return None  # dsk.toml is not read at each poll
        self._stamp_of_sets = None
        with suppress(DskError):
            config = find(self.folder)
            self._work = tuple(work_folder(config, concept) for concept in config.concepts)
            stamp = self._concepts_stamp()
            sets = None
            if config.concepts:
                sets = find_sets(self.folder, recursive=self.recursive, to_write=self._to_write)
            if sets is None or sets.train == self.sets:
                self._stamp_of_sets = stamp
                return None
            moved = [each for each in sets.train if each not in self.sets]
            if all(list_images(each.folder).images for each in moved):
                return sets
        return None

    def _concepts_stamp(self) -> tuple[object, ...]:
        """Return what changes with dsk.toml, and when a folder of finished images appears."""
        path = config_path(self.folder)
        return (path, path and stamp_of(path), *(folder.is_dir() for folder in self._work))

    def rescan(self, store: Store, sets: ConceptSets | None = None) -> None:
        """Scan the folders again after images were added, removed or replaced. sets: other
        concepts.
        """
        with self.lock:
            if sets is not None:
                self._use(sets)
        records, failed = self._scan(store)
        self._read_store(store, [record for record, _ in records])
        with self.lock:
            self.failed = tuple(failed)
            before = {image.path: image for image in self._images.values()}
            version = self.version + 1
            images = []
            changed: list[int] = []
            for record, concept in records:
                old = before.pop(record.path, None)
                if old is not None and sets is None and _is_unchanged(old, record):
                    images.append(old)
                    continue
                image = self._image(record, concept, version)
                images.append(image)
                if old is not None:
                    changed.append(image.id)
            added = tuple(image.id for image in images if image.id not in self._images)
            removed = tuple(old.id for old in before.values())
            if added or removed or changed:
                self.version = version
                self._replace_all(images)
                self._record(DatasetChange(version, tuple(changed), added, removed, external=True))

    def _scan(self, store: Store) -> tuple[list[tuple[ImageRecord, int]], list[Failed]]:
        """Return the records of all concepts, each with its concept's index."""
        records: dict[Path, tuple[ImageRecord, int]] = {}
        failed: list[Failed] = []
        with_ids = bool(store.models())
        left_out: list[LeftOut] = []
        for index, concept in enumerate(self.sets):
            try:
                result = scan(
                    concept.folder.resolve(), store, recursive=concept.recursive,
                    max_pixels=self.max_pixels, with_ids=with_ids,
                )  # fmt: skip
            except DatasetError:  # the concept's last image may have been removed
                continue
            failed.extend(result.failed)
            left_out.extend(result.left_out)
            for record in result.records:
                records.setdefault(record.path, (record, index))
        self.left_out = tuple(left_out)
        return list(records.values()), failed

    def _read_store(self, store: Store, records: Sequence[ImageRecord]) -> None:
        """Read the scores of images, and which of their captions dsk generated."""
        if self._scores is not None:
            self._scores.read(store, [record.id for record in records])
        self.read_generated(store, [record.caption for record in records])

    def read_generated(self, store: Store, captions: Iterable[Caption | None]) -> None:
        """Read which of these captions dsk generated."""
        self.generated |= store.generated(captions)

    def _image(self, record: ImageRecord, index: int, version: int) -> ReviewImage:
        image_id = self._assigned_ids.setdefault(record.path, len(self._assigned_ids) + 1)
        concept = self.sets[index]
        facts = ImageFacts(
            record, below(record.path, self.folder), concept.name, concept.repeats or 1, self.facts
        )
        stamp = stamp_of(record.path)
        if stamp is None:
            raise InputError(f"{display(record.path)} is gone")
        return ReviewImage(image_id, facts, record.path.name, index, stamp, changed_in=version)

    def require_folder(self) -> None:
        """Raise InputError unless the dataset's folder is still where it was.

        Of a renamed folder no caption has changed, and its project must not be made again in the
        old place, or behind a link that took it.
        """
        if self.folder.resolve() != self.folder:
            raise InputError(
                f"{display(self.folder)} is now a symbolic link, and dsk does not write "
                "through links",
                hint="run `dsk review` on the folder itself",
            )
        require_present([self.folder])

    # ---- reading

    @property
    def scores(self) -> StoredScores:
        if self._scores is None:
            raise RuntimeError("the dataset is not loaded")
        return self._scores

    def _scores_of(self, content_id: str) -> Mapping[str, int]:
        return self._scores.by_form(content_id) if self._scores is not None else {}

    def triggers(self) -> dict[tuple[int, Path], KnownTrigger]:
        """Return the known trigger of each concept (by index) and folder of images."""
        with self.lock:
            version, triggers = self._triggers
            if version != self.version:
                triggers = self._read_triggers()
                self._triggers = self.version, triggers
            return triggers

    def trigger_of(self, image: ReviewImage) -> KnownTrigger:
        """Return the known trigger of the folder of an image."""
        return self.triggers().get((image.concept, image.path.parent), KnownTrigger())

    def follow_triggers(self) -> None:
        """Parse captions with sentences again, after a stored trigger has changed: its words are no
        part of them. The triggers are read again when they are next asked for.
        """
        self._triggers = (0, {})
        captions = [
            (image, image.caption)
            for image in self.all()
            if image.caption is not None and image.caption.syntax.kind != "tags"
        ]
        folders = dict.fromkeys(image.path.parent for image, _ in captions)
        syntaxes = {folder: syntax_of(folder) for folder in folders}
        again = [
            (image, with_syntax(caption, syntaxes[image.path.parent]))
            for image, caption in captions
            if caption.syntax != syntaxes[image.path.parent]
        ]
        self.set_captions(again, external=False)

    def _read_triggers(self) -> dict[tuple[int, Path], KnownTrigger]:
        captions: list[list[tuple[Path, Caption | None]]] = [[] for _ in self.sets]
        for image in self._images.values():
            captions[image.concept].append((image.path, image.caption))
        return {
            (index, folder): trigger
            for index, concept in enumerate(self.sets)
            for folder, trigger in triggers_of(captions[index], concept.trigger).items()
        }

    def __len__(self) -> int:
        return len(self._images)

    def get(self, image_id: int) -> ReviewImage | None:
        return self._images.get(image_id)

    def at(self, path: Path) -> ReviewImage | None:
        image_id = self._id_by_path.get(path)
        return None if image_id is None else self._images.get(image_id)

    def all(self) -> list[ReviewImage]:
        return list(self._images.values())

    def ids(self, where: str = "") -> Sequence[int]:
        """Return the ids of the images that match a filter, in order. Raises FilterError."""
        with self.lock:
            cached = self._filter_cache.get(where)
            if cached is not None and cached[0] == self.version:
                return cached[1]
            matches = predicate(parse(where))
            ids = [image.id for image in self._images.values() if matches(image.facts)]
            self._filter_cache.pop(where, None)
            self._filter_cache[where] = self.version, ids
            while len(self._filter_cache) > _CACHED_FILTERS:
                del self._filter_cache[next(iter(self._filter_cache))]
            return ids

    def select(self, scope: Scope) -> list[ReviewImage]:
        """Return the images of a scope, in order; ids of removed images are ignored."""
        with self.lock:
            if scope.kind == "all":
                return self.all()
            ids = set(scope.ids) if scope.kind == "ids" else set(self.ids(scope.where))
            return [image for image in self._images.values() if image.id in ids]

    def changes_since(self, version: int) -> list[DatasetChange] | None:
        """Return the changes after a version; None if the log does not reach back so far."""
        with self.lock:
            oldest = self.log[0].version if self.log else self.version + 1
            if version > self.version or (version < self.version and version + 1 < oldest):
                return None
            return [change for change in self.log if change.version > version]

    # ---- changing

    def set_captions(
        self, captions: Iterable[tuple[ReviewImage, Caption | None]], *, external: bool
    ) -> tuple[int, ...]:
        """Take new captions into memory and return the ids of their images.

        external: another program wrote them.
        """
        with self.lock:
            current = [
                (self._images[image.id], caption)
                for image, caption in captions
                if image.id in self._images
            ]
            if not current:
                return ()
            self.version += 1
            for image, caption in current:
                self._images[image.id] = replace(
                    image, facts=image.facts.with_caption(caption), caption_stamp=None,
                    changed_in=self.version, previous_caption=image.caption,
                )  # fmt: skip
            ids = tuple(image.id for image, _ in current)
            self._record(DatasetChange(self.version, ids, external=external))
            return ids

    def set_caption_stamp(self, image: ReviewImage, stamp: FileStamp | None) -> None:
        """Store the stamp of a caption file that holds the caption in memory."""
        with self.lock:
            if self._images.get(image.id) is image:
                self._images[image.id] = replace(image, caption_stamp=stamp)

    def remove(self, images: Iterable[ReviewImage]) -> tuple[int, ...]:
        """Remove images from memory and return their ids."""
        with self.lock:
            ids = tuple(
                image.id for image in images if self._images.pop(image.id, None) is not None
            )
            self.version += 1
            self._id_by_path = {image.path: image.id for image in self._images.values()}
            self._record(DatasetChange(self.version, removed=ids))
            return ids

    def restore(self, images: Iterable[ReviewImage]) -> tuple[int, ...]:
        """Put removed images back in their order and return their ids."""
        with self.lock:
            self.version += 1
            restored = [
                replace(image, changed_in=self.version, caption_stamp=None) for image in images
            ]
            self._replace_all([*self._images.values(), *restored])
            ids = tuple(image.id for image in restored)
            self._record(DatasetChange(self.version, added=ids))
            return ids

    def set_near_duplicates(self, paths: Iterable[Path]) -> None:
        """Set which images have near-duplicates, for the filter `dup:`."""
        with self.lock:
            new = frozenset(paths)
            if new != self.near_duplicates:
                self.near_duplicates = new
                self._filter_cache.clear()

    def _replace_all(self, images: Iterable[ReviewImage]) -> None:
        ordered = sorted(images, key=lambda image: (image.concept, natural_key(str(image.path))))
        with self.lock:
            self._images = {image.id: image for image in ordered}
            self._id_by_path = {image.path: image.id for image in ordered}
            self._filter_cache.clear()

    def _record(self, change: DatasetChange) -> None:
        self.log = [*self.log[-_LOG_LENGTH:], change]


def require_present(folders: Iterable[Path]) -> None:
    """Raise InputError for a folder that is no longer where it was when it was scanned."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{display(folder)} was renamed, moved or removed",
                hint="end this page (Ctrl-C), and run `dsk review` on the folder's new name",
            )


def _is_unchanged(image: ReviewImage, record: ImageRecord) -> bool:
    return image.stamp == stamp_of(record.path) and image.caption == record.caption
