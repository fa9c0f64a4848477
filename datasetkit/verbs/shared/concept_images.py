"""The images of concepts by size, and the settings that a plan of repeats counts with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

from datasetkit.core.errors import DatasetError
from datasetkit.core.files import display
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Caption, Failed, ImageRecord, LeftOut
from datasetkit.dataset.exports import ImageText
from datasetkit.dataset.repeats import BatchSettings, ConceptImages
from datasetkit.images.scan import scan, sizes
from datasetkit.options.dataset import PlanRepeatsOptions
from datasetkit.options.toml import Config
from datasetkit.options.train import TrainOptions
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet


def train_options(config: Config, resolution: int | None) -> TrainOptions:
    """Return the options of `[train]`; a resolution that is given replaces all of theirs."""
    given = {"resolution": resolution, "resolutions": ()} if resolution else {}
    return config.build(TrainOptions, "train", given, only_read=True)


def batch_settings(options: PlanRepeatsOptions, train: TrainOptions) -> BatchSettings:
    """Return epochs and batch: of the command, else of `[train]`."""
    return BatchSettings(
        epochs=options.epochs or train.max_train_epochs,
        batch_size=options.batch_size or train.train_batch_size,
        gradient_accumulation=train.gradient_accumulation_steps,
    )


@dataclass(frozen=True, slots=True)
class MeasuredConcepts:
    """The image sizes of each concept, the images that cannot be read, and what is left out."""

    concepts: tuple[ConceptImages, ...]
    failed: tuple[Failed, ...]
    left_out: tuple[LeftOut, ...]


def measure(
    sets: Sequence[ConceptSet],
    store: Store,
    reporter: Reporter,
    *,
    without: frozenset[str] = frozenset(),
) -> MeasuredConcepts:
    """Measure the images of each concept; one without images is not counted.

    without: contents (image ids) that are not counted.
    """
    measured: list[ConceptImages] = []
    failed: list[Failed] = []
    left_out: list[LeftOut] = []
    for concept in sets:
        scanned = scan(
            concept.folder,
            store,
            recursive=concept.recursive,
            with_ids=bool(without),
            captions=False,
            reporter=reporter,
        )
        failed.extend(scanned.failed)
        left_out.extend(scanned.left_out)
        used = (record for record in scanned.records if record.id not in without)
        if counted := sizes(used):
            measured.append(ConceptImages(concept.name, counted, repeats=concept.repeats))
    return MeasuredConcepts(tuple(measured), tuple(failed), tuple(left_out))


def no_usable_image(folder: Path, failed: Sequence[Failed]) -> DatasetError:
    """Return the error for a folder whose images cannot be used, with the first reason."""
    first = failed[0] if failed else None
    if first is None:
        return DatasetError(f"{display(folder)} has no usable image")
    has_path = display(first.path) in first.error
    reason = first.error if has_path else f"{display(first.path.name)}: {first.error}"
    return DatasetError(f"{display(folder)} has no usable image: {reason}", hint=first.hint)


ConceptRecord = tuple[ConceptSet, ImageRecord]


class ConceptRecords(Sequence[ConceptRecord]):
    """The images of several concepts, in order, each with its concept. The records stay packed:
    there may be a million.
    """

    __slots__ = ("_concepts",)

    def __init__(self, concepts: Sequence[tuple[ConceptSet, Sequence[ImageRecord]]] = ()) -> None:
        self._concepts = tuple(concepts)

    def of(self, concept: ConceptSet) -> Iterator[ImageRecord]:
        """Yield the images of a concept."""
        return (record for each, records in self._concepts if each is concept for record in records)

    def __add__(self, other: ConceptRecords) -> ConceptRecords:
        return ConceptRecords((*self._concepts, *other._concepts))

    def __len__(self) -> int:
        return sum(len(records) for _, records in self._concepts)

    def __iter__(self) -> Iterator[ConceptRecord]:
        return ((concept, record) for concept, records in self._concepts for record in records)

    @overload
    def __getitem__(self, at: int) -> ConceptRecord: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ConceptRecord]: ...
    def __getitem__(self, at: int | slice) -> ConceptRecord | Sequence[ConceptRecord]:
        if isinstance(at, slice):
            return list(self)[at]
        return next(islice(self, range(len(self))[at], None))


def scan_all(
    concepts: Sequence[ConceptSet], store: Store, reporter: Reporter
) -> tuple[ConceptRecords, list[Failed], list[LeftOut]]:
    """Return the images of all concepts, each with its concept, those that cannot be used, and the
    other files that are left out.
    """
    scans = [(c, scan(c.folder, store, recursive=c.recursive, reporter=reporter)) for c in concepts]
    records = ConceptRecords([(concept, scanned.records) for concept, scanned in scans])
    failed = [failed for _, scanned in scans for failed in scanned.failed]
    return records, failed, [item for _, scanned in scans for item in scanned.left_out]


def image_text(image: tuple[ConceptSet, ImageRecord]) -> ImageText:
    """Return an image with its caption, without one with its concept: what trainers read."""
    concept, record = image
    caption = record.caption
    if caption is None or caption.is_empty:
        caption = Caption((concept.name,))
    return ImageText(record.path.absolute(), caption)
