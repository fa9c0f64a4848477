"""`dsk export --format webdataset`: tar shards of the training and of the regularisation images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.captions.caption import file_text
from datasetkit.core.errors import PlanConflict
from datasetkit.core.files import display, existing_mask, nearest_folder, writing
from datasetkit.core.progress import Reporter
from datasetkit.core.records import ImageRecord
from datasetkit.dataset.shards import KeyedSamples, SampleSource, holds, shard_bytes
from datasetkit.project.disk_space import require_free
from datasetkit.project.plans import FileOp, Link, Move, Plan
from datasetkit.project.session import Project
from datasetkit.project.staging import staging_folder, trash_folder
from datasetkit.verbs.shared.concept_folders import ConceptSet, ConceptSets
from datasetkit.verbs.shared.concept_images import image_text

_NAME: Final = re.compile(r"(?:train|reg)-[0-9]{6}\.tar")
Images = Sequence[tuple[ConceptSet, ImageRecord]]
Shards = dict[Path, Sequence[SampleSource]]


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """The files of an export. changed: those whose content is new; entry: in the history."""

    files: tuple[Path, ...]
    changed: tuple[Path, ...]
    entry: int | None


def shards_of(sets: ConceptSets, train: Images, reg: Images, out: Path, size: int) -> Shards:
    """Return the shards of a dataset: each with at most `size` samples, in the order of the scan.

    Raises InputError for two images with one key.
    """
    several = sets.origin == "laid out" or len(sets.train) > 1
    shards: Shards = {}
    for name, images in (("train", train), ("reg", reg)):
        keyed = KeyedSamples()
        for concept, record in images:
            below = record.path.parent.relative_to(concept.folder).parts
            folder = "/".join((concept.folder.name, *below) if several else below)
            caption = file_text(image_text((concept, record)).caption).encode()
            keyed.add(folder, record.path, caption, existing_mask(record.path))
        for number, start in enumerate(range(0, len(keyed.samples), size)):
            shards[out / f"{name}-{number:06d}.tar"] = keyed.samples[start : start + size]
    return shards


# A shard holds gigabytes, so the journal cannot keep its bytes: it is written below `.dsk/` and
# linked into place. An export that fails, or is stopped, has changed nothing.
def write_shards(project: Project, shards: Shards, out: Path, title: str) -> WrittenFiles:
    """Write the shards whose content is new, and move those of an earlier export that are too many
    to the trash; in a dry run only find them. Raises PlanConflict for a file that dsk did not
    write.
    """
    reporter = project.context.reporter
    changed = _changed(shards, reporter)
    present = [path for path in changed if os.path.lexists(path)]
    foreign = [path for path in present if not project.journal.placed(path)]
    if foreign:
        raise PlanConflict(
            f"dsk did not write {', '.join(map(display, foreign))}, and does not replace it",
            hint="name another place, or move that file away",
        )
    more = sorted(p for p in _shards_in(out) if p not in shards)
    stale = [path for path in more if project.journal.placed(path)]
    for path in more:
        if path not in stale:
            reporter.warn(f"{display(path)} is not of this dataset: programs read it with the rest")
    trash = trash_folder(project, "export")
    moves: list[FileOp] = [Move(path, trash / path.name) for path in (*present, *stale)]
    if project.context.dry_run:
        project.apply(Plan.of(moves), "export", title)
        return WrittenFiles(tuple(shards), tuple(changed), None)
    with staging_folder(project) as staging:
        _require_space(staging, [shards[path] for path in changed])
        reporter.start("writing shards", sum(len(shards[path]) for path in changed))
        for path in changed:
            _write(staging / path.name, shards[path])
            reporter.advance(len(shards[path]))
        reporter.finish()
        links = [Link(staging / path.name, path) for path in changed]
        entry = project.apply(Plan.of([*moves, *links]), "export", title)
    return WrittenFiles(tuple(shards), tuple(changed), entry)


def _changed(shards: Shards, reporter: Reporter) -> list[Path]:
    """Return the shards whose files are missing, or hold something else."""
    changed = []
    reporter.start("reading shards", sum(map(len, shards.values())))
    for path, samples in shards.items():
        if not (path.is_file() and holds(path, shard_bytes(samples))):
            changed.append(path)
        reporter.advance(len(samples))
    reporter.finish()
    return changed


def _shards_in(out: Path) -> list[Path]:
    files = out.iterdir() if out.is_dir() else ()
    return [path for path in files if _NAME.fullmatch(path.name)]


def _require_space(folder: Path, shards: Sequence[Sequence[SampleSource]]) -> None:
    size = sum(sample.image.stat().st_size for samples in shards for sample in samples)
    require_free(nearest_folder(folder), size, "shards")


def _write(path: Path, samples: Sequence[SampleSource]) -> None:
    with writing(path), path.open("xb") as file:
        for chunk in shard_bytes(samples):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
