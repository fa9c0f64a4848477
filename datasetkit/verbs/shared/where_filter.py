"""Select the images of a folder or a dataset that pass a `--where` filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.filters import And, Compare, Flag, Node, Not, Or, parse
from datasetkit.captions.predicates import predicate
from datasetkit.core.errors import DatasetError
from datasetkit.core.file_stamp import stamp_of
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.executors import local
from datasetkit.images import near_duplicates, pixels
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet, find_sets, tag_options
from datasetkit.verbs.shared.image_facts import DatasetFacts, ImageFacts, below
from datasetkit.verbs.shared.stored_scores import StoredScores


@dataclass(frozen=True, slots=True)
class ImageInConcept:
    """An image, and the concept that it belongs to."""

    record: ImageRecord
    concept: str
    repeats: int


def asks(node: Node | None) -> set[str]:
    """Return the fields that a filter uses."""
    match node:
        case None:
            return set()
        case Not(part):
            return asks(part)
        case And(parts) | Or(parts):
            return set().union(*map(asks, parts))
        case Compare(field) | Flag(field):
            return {field}
        case _:
            return {node.field}


def needs_ids(where: str) -> bool:
    """Tell whether a filter needs image ids, which are hashes of the files. Raises FilterError."""
    return "score" in asks(parse(where))


def passing_in(
    folder: Path,
    records: Sequence[ImageRecord],
    where: str,
    store: Store,
    *,
    recursive: bool,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    reporter: Reporter = SILENT,
) -> set[Path]:
    """Return the paths of the images of one folder that pass a filter; warn if none does.

    Raises FilterError.
    """
    if parse(where) is None:
        return {record.path for record in records}
    images = with_concepts(records, folder, recursive=recursive)
    paths = passing(images, where, folder, store, max_pixels=max_pixels, reporter=reporter)
    if not paths:
        reporter.warn(f"no image passes the filter {where}")
    return paths


def with_concepts(
    records: Iterable[ImageRecord], folder: Path, *, recursive: bool
) -> list[ImageInConcept]:
    """Find the concept of each image: that of the nearest concept folder above it, else the folder
    itself.
    """
    concepts = _concepts_by_folder(folder, recursive=recursive)
    default = ConceptSet(folder.resolve().name, folder)
    by_parent: dict[Path, ConceptSet] = {}
    images = []
    for record in records:
        parent = record.path.parent
        if parent not in by_parent:
            resolved = parent.resolve()
            above = (resolved, *resolved.parents)
            by_parent[parent] = next((concepts[p] for p in above if p in concepts), default)
        concept = by_parent[parent]
        images.append(ImageInConcept(record, concept.name, concept.repeats or 1))
    return images


def _concepts_by_folder(folder: Path, *, recursive: bool) -> Mapping[Path, ConceptSet]:
    """Return the concepts of a dataset by folder; none if all its images are links."""
    try:
        return {c.folder.resolve(): c for c in find_sets(folder, recursive=recursive).train}
    except DatasetError:
        return {}


def passing(
    images: Sequence[ImageInConcept],
    where: str,
    folder: Path,
    store: Store,
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    reporter: Reporter = SILENT,
) -> set[Path]:
    """Return the paths of the images that pass a filter. Raises FilterError.

    folder: that the paths of `path:` are relative to. Images need ids if `needs_ids` says so. Warns
    if the filter uses scores and there are none.
    """
    node = parse(where)
    if node is None:
        return {image.record.path for image in images}
    fields = asks(node)
    scores = _scores(images, folder, store) if "score" in fields else None
    generated, duplicates = set[Caption](), set[Path]()
    if "edited" in fields:
        generated = store.generated(image.record.caption for image in images)
    if "dup" in fields:
        duplicates = _near_duplicates(images, store, max_pixels, reporter)
    facts = DatasetFacts(
        scores.by_form if scores is not None else lambda _: {},
        generated.__contains__,
        duplicates.__contains__,
    )
    root = folder.resolve()
    parents = {parent: parent.resolve() for parent in {i.record.path.parent for i in images}}
    passes = predicate(node)
    paths = set()
    for image in images:
        path = image.record.path
        relative = below(parents[path.parent] / path.name, root)
        if passes(ImageFacts(image.record, relative, image.concept, image.repeats, facts)):
            paths.add(path)
    if scores is not None and not any(scores.of(image.record.id) for image in images):
        reporter.warn("no image has scores, so `score:` matches nothing; run dsk tag first")
    return paths


def _scores(images: Sequence[ImageInConcept], folder: Path, store: Store) -> StoredScores:
    """Read the scores of the tagger of the dataset's first concept, as the review page does."""
    concepts = list(_concepts_by_folder(folder, recursive=False).values())
    scores = StoredScores(
        store, tag_options(concepts[0].folder if concepts else folder, {}, only_read=True)
    )
    scores.read(store, [image.record.id for image in images])
    return scores


def _near_duplicates(
    images: Sequence[ImageInConcept], store: Store, max_pixels: int, reporter: Reporter
) -> set[Path]:
    """Return the images with a near-duplicate among them, except unreadable ones.

    The fingerprints are stored, and shared with the review page.
    """
    paths = [image.record.path for image in images]
    stored = store.fingerprints()

    def fingerprint(path: Path) -> tuple[str, bytes] | None:
        stamp = stamp_of(path)
        if stamp is None:
            return None
        kept = stored.get(stamp.key())
        if kept is not None and len(kept) == near_duplicates.FINGERPRINT_BYTES:
            return stamp.key(), kept
        small = near_duplicates.small(path, near_duplicates.SEEN_AT, max_pixels=max_pixels)
        return stamp.key(), near_duplicates.fingerprint(small)

    results = local.each(fingerprint, paths, name="comparing", reporter=reporter)
    fingerprints = [
        (path, *result)
        for path, result in zip(paths, results, strict=True)
        if result is not None and not isinstance(result, Failed)
    ]
    new = {key: row for _, key, row in fingerprints if key not in stored}
    if new:
        store.put_fingerprints(new.items())
    groups = near_duplicates.groups([row for *_, row in fingerprints])
    return {fingerprints[index][0] for group in groups for index in group}
