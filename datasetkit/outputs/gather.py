"""Gather what the plan of outputs depends on, from the disk and the store."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasetkit.captions.caption import decode_caption, read_caption_data
from datasetkit.core.errors import InputError
from datasetkit.core.files import MASKS, PROJECT, caption_path, reading
from datasetkit.core.records import CaptionSyntax
from datasetkit.images.scan import Scan
from datasetkit.outputs import sidecars
from datasetkit.outputs.facts import CaptionState, FileState, OutputFacts, absolute
from datasetkit.outputs.spec import CaptionRewrite, OutputSpec
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.session import Project
from datasetkit.project.store import Store


def gather(scan: Scan, spec: OutputSpec, project: Project) -> OutputFacts:
    """Read all that `plan_outputs` needs to know besides the scan. Raises InputError."""
    stored = {row.output.path: row for row in project.store.stored_outputs()}
    out = f"{absolute(spec.out)}{os.sep}"
    outputs = [row.output for row in stored.values() if str(row.output.path).startswith(out)]
    targets = [absolute(path) for files in spec.targets.values() for path in files]
    originals = [absolute(record.path) for record in scan.records]
    paths = (*originals, *targets, *(o.path for o in outputs), *(o.origin for o in outputs))
    files = _files(path.parent.parent if _in_masks(path) else path.parent for path in paths)
    trash = f"{spec.verb}-{project.journal.next_id()}"
    facts = OutputFacts(project.root, project.root / PROJECT / "trash" / trash, files, stored)
    images = {*targets, *(output.path for output in outputs)}
    captioned = [path for path in (*images, *originals) if caption_path(path) in files]
    if any(path in images for path in captioned):
        facts = replace(facts, captions=_captions(captioned, project.store))
    # The captions of images that may fail are pending during the work, as those of a killed run.
    pending = set(map(caption_path, captioned)) if spec.fallback else set()
    return replace(facts, digests=_digests({*_unrecorded(scan, spec, facts), *pending}, facts))


def captions_of(rewrites: Iterable[CaptionRewrite], store: Store) -> dict[Path, CaptionState]:
    """Read the captions of rewrites as they are now, at the outputs and the originals."""
    return _captions([p for r in rewrites for p in (r.image, r.origin)], store)


def _files(folders: Iterable[Path]) -> dict[Path, FileState]:
    """List folders and their `masks/`."""
    files: dict[Path, FileState] = {}
    for folder in set(folders):
        files.update(_entries(folder))
        files.update(_entries(folder / MASKS))
    return files


def _in_masks(path: Path) -> bool:
    return path.parent.name == MASKS


def _entries(folder: Path) -> Iterator[tuple[Path, FileState]]:
    if folder.is_symlink() or not folder.is_dir():
        return
    with reading(folder):
        paths = list(folder.iterdir())
    for path in paths:
        try:
            info = path.lstat()
        except FileNotFoundError:
            continue
        is_link = stat.S_ISLNK(info.st_mode)
        yield (
            path,
            FileState(
                info.st_size,
                info.st_mtime_ns,
                is_file=path.is_file() if is_link else stat.S_ISREG(info.st_mode),
                is_link=is_link,
                exists=path.exists() if is_link else True,
            ),
        )


def _captions(images: Sequence[Path], store: Store) -> dict[Path, CaptionState]:
    """Read the captions of images. One that cannot be read is a state too."""
    states: dict[Path, CaptionState] = {}
    syntaxes: dict[Path, CaptionSyntax] = {}
    for image in images:
        path = absolute(caption_path(image))
        if path in states:
            continue
        folder = path.parent
        if folder not in syntaxes:
            syntaxes[folder] = syntax_of(folder)
        try:
            data = read_caption_data(image)
            states[path] = CaptionState(decode_caption(path, data, syntaxes[folder]), data=data)
        except InputError as error:
            states[path] = CaptionState(None, problem=error)
    generated = store.generated(state.caption for state in states.values())
    return {
        path: replace(state, generated=state.caption in generated) for path, state in states.items()
    }


def _unrecorded(scan: Scan, spec: OutputSpec, facts: OutputFacts) -> Iterator[Path]:
    """Yield the sidecars that a killed run may have copied, and their sources."""
    if not any(stored.is_pending for stored in facts.stored.values()):
        return
    for record in spec.wanted(scan.records):
        for image in spec.images(record):
            for copy in sidecars.sidecar_pairs(record, image, facts):
                if facts.has(copy.target) and facts.is_pending(copy.target):
                    yield from (absolute(copy.target), absolute(copy.source))


def _digests(paths: Iterable[Path], facts: OutputFacts) -> dict[Path, str]:
    """Hash regular files; links are not followed."""
    digests: dict[Path, str] = {}
    for path in paths:
        state = facts.files[path]
        if state.is_file and not state.is_link:
            with reading(path):
                digests[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
