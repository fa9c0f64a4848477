"""Choosing: which images of a folder or a dataset pass the filter of `--where`, as the review
page finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.filters import And, Compare, Flag, Node, Not, Or, parse
from datasetkit.captions.predicates import predicate
from datasetkit.core.errors import DatasetError
from datasetkit.core.file_stamp import stamp_of
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed, ImageRecord
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
    """Return the fields that a filter asks for."""
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
    """Tell whether a filter can only be answered for images whose bytes were hashed. Raises
    FilterError.
    """
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
    """Return the paths of the images of one folder that pass a filter; warn of none. Raises
    FilterError.
    """
    if parse(where) is None:
        return {record.path for record in records}
    several = placed(records, folder, recursive=recursive)
    chosen = passing(several, where, folder, store, max_pixels=max_pixels, reporter=reporter)
    if not chosen:
        reporter.warn(f"no image passes the filter {where}")
    return chosen


def placed(
    records: Iterable[ImageRecord], folder: Path, *, recursive: bool
) -> list[ImageInConcept]:
    """Find the concept of each image of a folder: that of the nearest concept folder above it,
    else the folder's.
    """
    homes = _homes(folder, recursive=recursive)
    alone = ConceptSet(folder.resolve().name, folder)
    known: dict[Path, ConceptSet] = {}
    several = []
    for record in records:
        parent = record.path.parent
        if parent not in known:
            here = parent.resolve()
            known[parent] = next(
                (homes[one] for one in (here, *here.parents) if one in homes), alone
            )
        concept = known[parent]
        several.append(ImageInConcept(record, concept.name, concept.repeats or 1))
    return several


def _homes(folder: Path, *, recursive: bool) -> Mapping[Path, ConceptSet]:
    """Return the concepts of a dataset by their folders; none where all its images are links."""
    try:
        return {one.folder.resolve(): one for one in find_sets(folder, recursive=recursive).train}
    except DatasetError:
        return {}


def passing(
    several: Sequence[ImageInConcept],
    where: str,
    folder: Path,
    store: Store,
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    reporter: Reporter = SILENT,
) -> set[Path]:
    """Return the paths of the images that pass a filter. Raises FilterError.

    folder: as the paths of `path:` are seen. Images need their ids where `needs_ids` says so.
    Warns where the filter asks for scores and there are none.
    """
    node = parse(where)
    if node is None:
        return {one.record.path for one in several}
    asked = asks(node)
    scores = _scores(several, folder, store) if "score" in asked else None
    known = DatasetFacts(
        scores.by_form if scores is not None else lambda _: {},
        (
            store.generated(one.record.caption for one in several) if "edited" in asked else set()
        ).__contains__,
        (_twins(several, store, max_pixels, reporter) if "dup" in asked else set()).__contains__,
    )
    home = folder.resolve()
    parents = {parent: parent.resolve() for parent in {one.record.path.parent for one in several}}
    passes = predicate(node)
    chosen = set()
    for one in several:
        path = one.record.path
        shown = below(parents[path.parent] / path.name, home)
        if passes(ImageFacts(one.record, shown, one.concept, one.repeats, known)):
            chosen.add(path)
    if scores is not None and not any(scores.of(one.record.id) for one in several):
        reporter.warn("no image here has scores, so `score:` finds nothing; dsk tag makes them")
    return chosen


def _scores(several: Sequence[ImageInConcept], folder: Path, store: Store) -> StoredScores:
    """Read the scores of the tagger that the dataset's first concept asks for, as the review page
    does.
    """
    sets = list(_homes(folder, recursive=False).values())
    scores = StoredScores(store, tag_options(sets[0].folder if sets else folder, {}))
    scores.read(store, [one.record.id for one in several])
    return scores


def _twins(
    several: Sequence[ImageInConcept], store: Store, max_pixels: int, reporter: Reporter
) -> set[Path]:
    """Return the images that have a near-duplicate among them; what cannot be read has none.

    How an image looks is remembered, and shared with the review page.
    """
    paths = [one.record.path for one in several]
    stored = store.fingerprints()

    def look(path: Path) -> tuple[str, bytes] | None:
        stamp = stamp_of(path)
        if stamp is None:
            return None
        kept = stored.get(stamp.key())
        if kept is not None and len(kept) == near_duplicates.FINGERPRINT_BYTES:
            return stamp.key(), kept
        small = near_duplicates.small(path, near_duplicates.SEEN_AT, max_pixels=max_pixels)
        return stamp.key(), near_duplicates.fingerprint(small)

    results = local.each(look, paths, name="comparing", reporter=reporter)
    looks = [
        (path, *result)
        for path, result in zip(paths, results, strict=True)
        if result is not None and not isinstance(result, Failed)
    ]
    new = {key: row for _, key, row in looks if key not in stored}
    if new:
        store.put_fingerprints(new.items())
    groups = near_duplicates.groups([row for *_, row in looks])
    return {looks[index][0] for group in groups for index in group}
