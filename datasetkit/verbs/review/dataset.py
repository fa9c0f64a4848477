"""The dataset as the review page has it: all images in memory, chosen by filters, with a version
for each change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from datasetkit.captions.filters import parse
from datasetkit.captions.predicates import predicate
from datasetkit.core.errors import DatasetError, InputError
from datasetkit.core.file_stamp import FileStamp, sign
from datasetkit.core.files import display, find_root, natural_key
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.images.scan import scan
from datasetkit.options.tag import TagOptions
from datasetkit.project.store import Store
from datasetkit.verbs.review.images import ReviewImage, TagCodes
from datasetkit.verbs.shared.concept_folders import ConceptSet, find_sets, tag_options
from datasetkit.verbs.shared.image_facts import DatasetFacts, ImageFacts, below
from datasetkit.verbs.shared.stored_scores import StoredScores

# So many changes are remembered for pages that ask what is new; whoever is further behind starts
# anew.
_LOG = 500
# Results of filters that are kept: the page asks for images, tags and counts of the same one.
_KEPT_FILTERS = 8
COPIES = (
    "These captions are copies that `dsk layout` made: the next layout writes them anew. "
    "Review the source folder."
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which images are meant: all, those that pass a filter, or those of some numbers."""

    kind: str = "all"
    where: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetChange:
    """What became new in one version: numbers of images."""

    version: int
    captions: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    outside: bool = False


class ReviewDataset:
    """Images by number, in natural order. Take `lock` to read several things that belong
    together.
    """

    def __init__(
        self, folder: Path, *, recursive: bool = False, max_pixels: int = 64_000_000
    ) -> None:
        self.folder, self.recursive, self.max_pixels = folder.resolve(), recursive, max_pixels
        self.root = find_root(folder)
        self.lock = RLock()
        self.version = 1
        self.sets: tuple[ConceptSet, ...] = ()
        self.failed: tuple[Failed, ...] = ()
        self.notice = ""
        # Memory may be other than the disk: the folders have to be looked at again.
        self.stale = False
        self.log: list[DatasetChange] = []
        self.codes = TagCodes()
        self.generated: set[Caption] = set()
        self.twins: frozenset[Path] = frozenset()
        self.options: tuple[TagOptions, ...] = ()
        self._scores: StoredScores | None = None
        self.known = DatasetFacts(
            self._scores_of, self.generated.__contains__, lambda path: path in self.twins
        )
        self._images: dict[int, ReviewImage] = {}
        self._by_path: dict[Path, int] = {}
        self._numbers: dict[Path, int] = {}
        self._chosen: dict[str, tuple[int, list[int]]] = {}

    # ---- from the disk
    # --------------------------------------------------------------------------------------

    def load(self, store: Store) -> None:
        """Look at all images; what the store knows is not computed again. Raises DatasetError
        without images.
        """
        sets = find_sets(self.folder, recursive=self.recursive)
        self.sets = sets.train
        self.notice = COPIES if sets.origin == "laid out" else ""
        self.options = tuple(tag_options(one.folder, {}) for one in self.sets)
        self._scores = StoredScores(store, self.options[0])
        records, failed = self._scan(store)
        if not records and not failed:
            raise DatasetError(
                f"{display(self.folder)} holds no images", hint="name the folder that holds them"
            )
        self.failed = tuple(failed)
        self._take(store, [record for record, _ in records])
        self._put([self._image(record, concept, 0) for record, concept in records])

    def rescan(self, store: Store) -> None:
        """Look at the folders again: images came, went or were replaced."""
        records, failed = self._scan(store)
        self._take(store, [record for record, _ in records])
        with self.lock:
            self.failed = tuple(failed)
            before = {image.path: image for image in self._images.values()}
            version = self.version + 1
            now = []
            changed: list[int] = []
            for record, concept in records:
                old = before.pop(record.path, None)
                if (
                    old is not None
                    and old.file == sign(record.path)
                    and old.caption == record.caption
                ):
                    now.append(old)
                    continue
                image = self._image(record, concept, version)
                changed += [image.id] if old is not None else []
                now.append(image)
            added = tuple(image.id for image in now if image.id not in self._images)
            removed = tuple(old.id for old in before.values())
            if added or removed or changed:
                self.version = version
                self._put(now)
                self._note(DatasetChange(version, tuple(changed), added, removed, outside=True))

    def _scan(self, store: Store) -> tuple[list[tuple[ImageRecord, int]], list[Failed]]:
        records: dict[Path, tuple[ImageRecord, int]] = {}
        failed: list[Failed] = []
        with_ids = bool(store.models())
        for place, concept in enumerate(self.sets):
            try:
                found = scan(
                    concept.folder.resolve(), store, recursive=concept.recursive,
                    max_pixels=self.max_pixels, with_ids=with_ids,
                )  # fmt: skip
            except DatasetError:  # the last image of a concept may have gone
                continue
            failed.extend(found.failed)
            for record in found.records:
                records.setdefault(record.path, (record, place))
        return list(records.values()), failed

    def _take(self, store: Store, records: Sequence[ImageRecord]) -> None:
        """Learn what the store knows of images and of their captions."""
        if self._scores is not None:
            self._scores.read(store, [record.id for record in records])
        self.generated |= store.generated(record.caption for record in records)

    def learn(self, store: Store, captions: Iterable[Caption | None]) -> None:
        """Learn which of these captions are dsk's own work."""
        self.generated |= store.generated(captions)

    def _image(self, record: ImageRecord, concept: int, version: int) -> ReviewImage:
        number = self._numbers.setdefault(record.path, len(self._numbers) + 1)
        one = self.sets[concept]
        facts = ImageFacts(
            record, below(record.path, self.folder), one.name, one.repeats or 1, self.known
        )
        seen = sign(record.path)
        if seen is None:
            raise InputError(f"{display(record.path)} is gone")
        return ReviewImage(
            number, facts, record.path.name, concept, seen, changed=version, outside=version
        )

    # ---- reading
    # --------------------------------------------------------------------------------------------

    @property
    def scores(self) -> StoredScores:
        if self._scores is None:
            raise RuntimeError("the dataset is not loaded")
        return self._scores

    def _scores_of(self, image: str) -> Mapping[str, int]:
        return self._scores.by_form(image) if self._scores is not None else {}

    def __len__(self) -> int:
        return len(self._images)

    def get(self, number: int) -> ReviewImage | None:
        return self._images.get(number)

    def at(self, path: Path) -> ReviewImage | None:
        number = self._by_path.get(path)
        return None if number is None else self._images.get(number)

    def all(self) -> list[ReviewImage]:
        return list(self._images.values())

    def ids(self, where: str = "") -> Sequence[int]:
        """Return the numbers of the images that pass a filter, in order. Raises FilterError."""
        with self.lock:
            kept = self._chosen.get(where)
            if kept is not None and kept[0] == self.version:
                return kept[1]
            passes = predicate(parse(where))
            found = [image.id for image in self._images.values() if passes(image.facts)]
            self._chosen.pop(where, None)
            self._chosen[where] = self.version, found
            while len(self._chosen) > _KEPT_FILTERS:
                del self._chosen[next(iter(self._chosen))]
            return found

    def select(self, scope: Scope) -> list[ReviewImage]:
        """Return the images of a scope, in order; numbers of images that are gone count for
        nothing.
        """
        with self.lock:
            if scope.kind == "all":
                return self.all()
            wanted = set(scope.ids) if scope.kind == "ids" else set(self.ids(scope.where))
            return [image for image in self._images.values() if image.id in wanted]

    # ---- changing
    # -------------------------------------------------------------------------------------------

    def recaption(
        self, captions: Iterable[tuple[ReviewImage, Caption | None]], *, outside: bool
    ) -> tuple[int, ...]:
        """Take new captions into memory; return the numbers of the images."""
        with self.lock:
            several = [
                (self._images[p.id], caption) for p, caption in captions if p.id in self._images
            ]
            if not several:
                return ()
            self.version += 1
            for image, caption in several:
                facts = image.facts.with_caption(caption)
                changed = replace(
                    image, facts=facts, text=None, changed=self.version, was=image.caption,
                    outside=self.version if outside else image.outside,
                )  # fmt: skip
                self._images[image.id] = changed
            numbers = tuple(image.id for image, _ in several)
            self._note(DatasetChange(self.version, numbers, outside=outside))
            return numbers

    def seen(self, image: ReviewImage, text: FileStamp | None) -> None:
        """Note the sign of a caption that holds what memory holds."""
        with self.lock:
            if self._images.get(image.id) is image:
                self._images[image.id] = replace(image, text=text)

    def remove(self, images: Iterable[ReviewImage]) -> tuple[int, ...]:
        """Take images out of memory."""
        with self.lock:
            numbers = tuple(p.id for p in images if self._images.pop(p.id, None) is not None)
            self.version += 1
            self._by_path = {p.path: p.id for p in self._images.values()}
            self._note(DatasetChange(self.version, removed=numbers))
            return numbers

    def bring_back(self, images: Iterable[ReviewImage]) -> tuple[int, ...]:
        """Put images that were removed back in their places."""
        with self.lock:
            several = [replace(p, changed=self.version + 1, text=None) for p in images]
            self.version += 1
            self._put([*self._images.values(), *several])
            self._note(DatasetChange(self.version, added=tuple(p.id for p in several)))
            return tuple(p.id for p in several)

    def set_twins(self, paths: Iterable[Path]) -> None:
        """Note which images have near-duplicates."""
        with self.lock:
            twins = frozenset(paths)
            if twins != self.twins:
                self.twins = twins
                self._chosen.clear()

    def _put(self, images: Iterable[ReviewImage]) -> None:
        ordered = sorted(images, key=lambda p: (p.concept, natural_key(str(p.path))))
        with self.lock:
            self._images = {image.id: image for image in ordered}
            self._by_path = {image.path: image.id for image in ordered}
            self._chosen.clear()

    def _note(self, change: DatasetChange) -> None:
        self.log = [*self.log[-_LOG:], change]

    def since(self, version: int) -> list[DatasetChange] | None:
        """Return what changed after a version; None where that is not remembered any more."""
        with self.lock:
            oldest = self.log[0].version if self.log else self.version + 1
            if version > self.version or (version < self.version and version + 1 < oldest):
                return None
            return [change for change in self.log if change.version > version]
