"""Making: files that a stage writes for the images of a folder; which are up to date, and whose
they are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.files import (
    MASKS,
    TEMP_PREFIX,
    display,
    nearest_folder,
    refuse_link,
    refuse_links,
    require_writable,
    sweep,
    writing,
)
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.executors import local
from datasetkit.images.pixels import WRITERS
from datasetkit.images.scan import Scan, require_images, scan
from datasetkit.options.scan import ScanOptions
from datasetkit.project.session import Project, RunContext, finish_interrupted
from datasetkit.project.store import Output, Store
from datasetkit.stages.base import Files, Stage

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Targets = Mapping[Path, Files]
# Begins the recipe of a mask that goes with an output; the verb's name ends it.
BESIDE = "beside"


class OutputLog(Protocol):
    """Where outputs are noted as they are made: in the history, or only in the store for what is
    swapped in later.
    """

    def make_folder(self, path: Path) -> None: ...

    def record(self, output: Output) -> None: ...


@dataclass(frozen=True, slots=True)
class StagedOutputLog:
    """Notes outputs that are about to be swapped in; the swap is what the history shows."""

    project: Project

    def make_folder(self, path: Path) -> None:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)

    def record(self, output: Output) -> None:
        self.project.store.put_finished([output])


@dataclass(frozen=True, slots=True)
class OutputSpec(Generic[T_co]):
    """What is made of a folder's images.

    out: the folder that they lie in. recipe: begins with the verb and names all that changes the
    files: the options, and the version of the code. open_stage: loads what the stage needs, and
    returns it. waiting: what a dry run says of one that is not up to date.
    """

    out: Path
    recipe: str
    targets: Targets
    open_stage: Callable[[], Stage[T_co]]
    waiting: str
    workers: int = 0

    def __post_init__(self) -> None:
        """Raise PlanConflict if two images would be written to one file, or one over an image."""
        owners = {source: source for source in self.targets}
        for source, files in self.targets.items():
            for file in files:
                if (owner := owners.setdefault(file, source)) != source or file == source:
                    raise PlanConflict(
                        f"{display(source)} would be written to {display(file)}, which belongs to "
                        f"{display(owner)}",
                        hint="name another output folder",
                    )

    @property
    def verb(self) -> str:
        return self.recipe.partition("-")[0]

    def outputs(self, record: ImageRecord) -> tuple[Output, ...]:
        """Return the files of one image as the store keeps them: its images bear the recipe,
        masks the verb.
        """
        files = enumerate(self.targets[record.path], 1)
        return tuple(self._output(record, path, n) for n, path in files)

    def images(self, records: Sequence[ImageRecord]) -> tuple[Output, ...]:
        """Return what is made of all images, without the masks."""
        return tuple(o for r in records for o in self.outputs(r) if o.path.parent.name != MASKS)

    def _output(self, record: ImageRecord, path: Path, n: int) -> Output:
        if path.parent.name == MASKS:
            return Output(path, record.id, f"{BESIDE} {self.verb}", record.path)
        return Output(path, record.id if n == 1 else f"{record.id}/{n}", self.recipe, record.path)


def beside(
    folder: Path,
    out: Path | None,
    suffix: str,
    options: ScanOptions,
    context: RunContext,
    *,
    hint: str = "name another folder",
) -> Path:
    """Return where the files go, by default a sibling `<folder>-<suffix>`; finish what was cut
    short in `folder`.

    Raises InputError for `folder` itself and for a link, DatasetError without images,
    StorageError where nothing can be written.
    """
    out = out or folder.absolute().with_name(f"{folder.absolute().name}-{suffix}")
    if out.resolve() == folder.resolve():
        raise InputError(f"{display(out)} is the input folder itself", hint=hint)
    refuse_link(out)
    finish_interrupted(folder, context)
    if not context.dry_run:
        require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
        require_writable(nearest_folder(out))
    return out


def look(folder: Path, project: Project, options: ScanOptions) -> Scan:
    """Return the images that files are made of, by their content, without captions."""
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        captions=False,
        reporter=project.context.reporter,
    )


def kept_suffix(path: Path) -> str:
    """Return the suffix of an image where it can be written; other formats become PNG, which loses
    nothing.
    """
    suffix = path.suffix.lower()
    return suffix if suffix in WRITERS else ".png"


def make(found: Scan, making: OutputSpec[T], project: Project, maker: OutputLog) -> RunReport[T]:
    """Make the files that are not up to date; return the outcomes in input order, failures of the
    scan last.

    Raises PlanConflict before the first write where a file stands that dsk did not make, or that
    was edited since, and InputError where a folder of outputs is a symbolic link.
    """
    store, targets = project.store, making.targets
    _refuse_links(making)
    wanted = [r for r in found.records if targets[r.path]]
    current = {r.path for r in wanted if store.is_current(targets[r.path][0], r.id, making.recipe)}
    todo = [r for r in wanted if r.path not in current]
    unknown = [r for r in todo if _strangers(targets[r.path], store)]
    if unknown:
        _require_same(unknown, making, project)
        if not project.context.dry_run:
            store.put_finished(
                [
                    output
                    for r in unknown
                    for output in making.outputs(r)
                    if os.path.lexists(output.path)
                ]
            )
        current |= {r.path for r in unknown if os.path.lexists(targets[r.path][0])}
        todo = [r for r in todo if r.path not in current]
    done: dict[Path, Outcome[T]] = {}
    if todo and not project.context.dry_run:
        _make_ready(maker, (path for r in todo for path in targets[r.path]))
        store.put_pending(output for r in todo for output in making.outputs(r))
        for outcome in _run(making, targets, todo, project):
            done[outcome.path if isinstance(outcome, Failed) else outcome.record.path] = outcome
            if isinstance(outcome, Done):
                for output in making.outputs(outcome.record):
                    if os.path.lexists(output.path):
                        maker.record(output)
    outcomes: list[Outcome[T]] = [
        Skipped(r, "up to date")
        if r.path in current
        else done.get(r.path, Skipped(r, making.waiting))
        for r in wanted
    ]
    return RunReport(making.verb, (*outcomes, *found.failed))


def _run(
    making: OutputSpec[T], targets: Targets, records: Sequence[ImageRecord], project: Project
) -> Generator[Done[T] | Failed, None, None]:
    stage = making.open_stage()
    return local.each(
        lambda record: stage(record, targets[record.path]),
        records,
        name=making.verb,
        workers=making.workers,
        reporter=project.context.reporter,
    )


def _refuse_links(making: OutputSpec[T]) -> None:
    """Raise InputError where a file, or a mask that goes with one, would be written through a
    linked folder.
    """
    places = {path.parent for files in making.targets.values() for path in files}
    for place in sorted(places | {place / MASKS for place in places if place.name != MASKS}):
        refuse_links(place, making.out)


def _make_ready(maker: OutputLog, files: Iterable[Path]) -> None:
    for place in sorted({path.parent for path in files}):
        maker.make_folder(place)
        require_writable(place)
        sweep(place)


def _strangers(files: Files, store: Store) -> list[Path]:
    return [path for path in files if os.path.lexists(path) and not store.is_ours(path)]


def _require_same(unknown: Sequence[ImageRecord], making: OutputSpec[T], project: Project) -> None:
    """Raise PlanConflict unless every unknown file is, byte for byte, what would be made in its
    place.

    Then dsk made it, and its `.dsk/` was deleted since, which may cost time but nothing else.
    """
    with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX) as folder:
        trial: dict[Path, Files] = {}
        for n, record in enumerate(unknown):
            place = Path(folder) / str(n)
            place.mkdir()
            trial[record.path] = tuple(
                place / f"{i}{p.suffix}" for i, p in enumerate(making.targets[record.path])
            )
        outcomes = _run(making, trial, unknown, project)
        with closing(outcomes):
            for record, _ in zip(unknown, outcomes, strict=True):
                for there, made in zip(
                    making.targets[record.path], trial[record.path], strict=True
                ):
                    if os.path.lexists(there) and not _same(there, made):
                        raise PlanConflict(
                            f"{display(there)} was not made by dsk, or was edited since",
                            hint="move such files away, or name another output folder",
                        )
                    made.unlink(missing_ok=True)


def _same(there: Path, made: Path) -> bool:
    return not there.is_symlink() and made.is_file() and there.read_bytes() == made.read_bytes()
