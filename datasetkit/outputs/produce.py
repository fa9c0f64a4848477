"""Carry out a plan of outputs: files are moved, made, copied and reworded in one order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from datasetkit.captions.caption import read_caption
from datasetkit.core.cluster import Cluster
from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.files import (
    MASKS,
    TEMP_PREFIX,
    display,
    reading,
    refuse_links,
    require_writable,
    sweep,
    write_atomic,
    writing,
)
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.dataset.trigger import carried, carried_earlier
from datasetkit.executors import place
from datasetkit.images import pixels
from datasetkit.images.pixels import WRITERS
from datasetkit.outputs.facts import CaptionState, absolute
from datasetkit.outputs.gather import captions_of
from datasetkit.outputs.plan import Adoption, OutputPlan
from datasetkit.outputs.renamed_sources import RenamedSource
from datasetkit.outputs.sidecars import (
    CaptionPlan,
    CaptionRewriteResult,
    SidecarCopy,
    plan_captions,
    taken_over,
)
from datasetkit.outputs.spec import CaptionRewrite, OutputSpec, Targets
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.kept_edits import keep_edits, kept_edit
from datasetkit.project.plans import Plan
from datasetkit.project.session import Project
from datasetkit.project.store import Output
from datasetkit.stages.base import Files, Stage

T = TypeVar("T")


class OutputLog(Protocol):
    """Where outputs are recorded as they are made: in the journal, or only in the store for what is
    swapped in later.
    """

    entry: int | None

    def make_folder(self, path: Path) -> None: ...

    def record(self, output: Output) -> None: ...


@dataclass(slots=True)
class StagedOutputLog:
    """Records outputs that are about to be swapped in; the swap is what the journal shows."""

    project: Project
    entry: int | None = None

    def make_folder(self, path: Path) -> None:
        refuse_links(path, self.project.root)
        with writing(path):
            make_folders(path)

    def record(self, output: Output) -> None:
        self.project.store.put_finished([output])


@dataclass(frozen=True, slots=True)
class ProduceResult(Generic[T]):
    """What became of a plan of outputs.

    entry: the images' number in the history; captions and moves have their own. carried: how many
    captions and masks went along as they are. fallbacks: the images that were copied as they are,
    since the stage failed for them.
    """

    report: RunReport[T]
    entry: int | None = None
    followed: tuple[RenamedSource, ...] = ()
    carried: int = 0
    captions: CaptionRewriteResult = field(default_factory=CaptionRewriteResult)
    fallbacks: tuple[Path, ...] = ()

    @property
    def failed(self) -> set[Path]:
        return {failure.path for failure in self.report.failed}


def produce(
    plan: OutputPlan,
    open_stage: Callable[[], Stage[T]],
    project: Project,
    *,
    workers: int = 0,
    log: OutputLog | None = None,
    details: Mapping[Path, object] = MappingProxyType({}),
) -> ProduceResult[T]:
    """Carry out a plan of outputs; in a dry run only check it, and say what would be done.

    open_stage: loads what the stage needs; called only where an image is made or compared, and on
    each worker of a cluster, so that it must be importable. log: where outputs are recorded, by
    default an entry of the journal. details: what the stage is given besides, by image.

    Raises PlanConflict with nothing changed if an output would replace a file that dsk did not
    make, or that was edited since, and InputError where a folder of outputs is a symbolic link.
    """
    dry_run, spec = project.context.dry_run, plan.spec
    run = _Run(plan, open_stage, project, workers, details)
    refuse_linked_folders(spec)
    run.require_same(plan.adopt)
    _move(plan, project)
    if not dry_run and plan.pending:
        project.store.put_pending(plan.pending)
    journal = project.journal.recording(spec.verb, display(plan.title))
    with journal if log is None else nullcontext(log) as recording:
        _settle_adopted(plan, project)
        report = run.make(recording)
        failed = {failure.path for failure in report.failed}
        copies = _distinct(copy for copy in plan.copies if copy.image not in failed)
        fallbacks: tuple[Path, ...] = ()
        if not dry_run:
            fallbacks, more = _fall_back(plan, failed, project, recording)
            _copy((*copies, *more), project, recording)
    captions = _reword(plan, report, failed, project)
    if not dry_run and not spec.staged:
        project.store.put_triggers(carried(spec.targets))
        project.store.put_earlier_triggers(carried_earlier(spec.targets))
    followed = tuple(RenamedSource(m.old, m.new) for m in plan.moves if not m.superseded)
    return ProduceResult(report, recording.entry, followed, len(copies), captions, fallbacks)


def refuse_linked_folders(spec: OutputSpec) -> None:
    """Raise InputError if an output, or a mask beside it, would be written through a link."""
    folders = {path.parent for files in spec.targets.values() for path in files}
    masks = {folder / MASKS for folder in folders if folder.name != MASKS}
    for folder in sorted(folders | masks):
        refuse_links(folder, spec.out)


def _move(plan: OutputPlan, project: Project) -> None:
    """Let outputs follow their sources, as one plan of the journal."""
    if not plan.moves:
        return
    outputs = [output for move in plan.moves for output in move.outputs]
    ops = tuple(op for move in plan.moves for op in move.moves)
    title = f"follows {display(plan.title)}: {len(plan.moves)} renamed or removed"
    project.apply(Plan(ops), plan.spec.verb, title, outputs=outputs)
    if not project.context.dry_run:
        project.store.put_finished(outputs)


def _settle_adopted(plan: OutputPlan, project: Project) -> None:
    if plan.adopt and not project.context.dry_run:
        project.store.put_finished(
            output
            for adoption in plan.adopt
            for output in plan.spec.outputs(adoption.record)
            if os.path.lexists(output.path)
        )


@dataclass(frozen=True, slots=True)
class OutputJob:
    """An image to work on, and the files to write. detail: what the stage is given besides."""

    record: ImageRecord
    files: Files
    detail: object = None

    @property
    def path(self) -> Path:
        return self.record.path


def _maker(open_stage: Callable[[], Stage[T]]) -> Callable[[OutputJob], Done[T]]:
    """Open a stage; return a function of an image and its files."""
    return partial(_make, open_stage())


def _make(stage: Stage[T], job: OutputJob) -> Done[T]:
    if job.detail is None:
        return stage(job.record, job.files)
    return stage(job.record, job.files, job.detail)


@dataclass(frozen=True, slots=True)
class _Run(Generic[T]):
    """The stage, and the images of the plan that it makes."""

    plan: OutputPlan
    open_stage: Callable[[], Stage[T]]
    project: Project
    workers: int
    details: Mapping[Path, object]

    def _each(
        self, records: Sequence[ImageRecord], targets: Targets, cluster: Cluster | None = None
    ) -> Generator[Done[T] | Failed, None, None]:
        return place.each(
            partial(_maker, self.open_stage),
            [OutputJob(r, targets[r.path], self.details.get(r.path)) for r in records],
            name=self.plan.spec.verb,
            cluster=cluster,
            workers=self.workers,
            reporter=self.project.context.reporter,
        )

    def make(self, log: OutputLog) -> RunReport[T]:
        """Make the files that are not up to date; return the outcomes in input order, failures of
        the scan last.
        """
        plan, spec = self.plan, self.plan.spec
        made: dict[Path, Outcome[T]] = {}
        if plan.make and not self.project.context.dry_run:
            _make_ready(log, (path for r in plan.make for path in spec.targets[r.path]))
            self.project.store.put_pending(o for r in plan.make for o in spec.outputs(r))
            cluster = self.project.context.cluster
            with closing(self._each(plan.make, spec.targets, cluster)) as outcomes:
                for record, outcome in zip(plan.make, outcomes, strict=True):
                    made[record.path] = outcome
                    for output in spec.outputs(record) if isinstance(outcome, Done) else ():
                        if os.path.lexists(output.path):
                            log.record(output)
        kept = {record.path for record in plan.keep}
        outcomes_in_order: list[Outcome[T]] = [
            Skipped(record, "up to date")
            if record.path in kept
            else made.get(record.path, Skipped(record, spec.waiting))
            for record in plan.wanted
        ]
        return RunReport(spec.verb, (*outcomes_in_order, *plan.failed), plan.left_out)

    def require_same(self, adopt: Sequence[Adoption]) -> None:
        """Raise PlanConflict unless every unknown file is, byte for byte, what the stage makes.

        Then dsk made it, and `.dsk/` was deleted since, which may cost time but nothing else. This
        is the one decision that needs the stage, so it cannot be part of the pure plan: it comes
        before the first change instead, and either passes or ends the command. It runs in this
        process: the trial files are in a temporary folder of this machine.
        """
        if not adopt:
            return
        with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX) as folder:
            trial: dict[Path, Files] = {}
            for n, adoption in enumerate(adopt):
                trial_folder = Path(folder) / str(n)
                trial_folder.mkdir()
                trial[adoption.record.path] = tuple(
                    trial_folder / f"{i}{path.suffix}"
                    for i, path in enumerate(self.plan.spec.targets[adoption.record.path])
                )
            with closing(self._each([a.record for a in adopt], trial)) as outcomes:
                for adoption, _ in zip(adopt, outcomes, strict=True):
                    path = adoption.record.path
                    files = zip(
                        self.plan.spec.targets[path], adoption.existing, trial[path], strict=True
                    )
                    for target, existing, made in files:
                        if existing is not None and not _is_same(existing, made):
                            raise PlanConflict(
                                f"{display(target)} was not made by dsk, or was edited since",
                                hint="move such files away, or name another output folder",
                            )
                        made.unlink(missing_ok=True)


def _is_same(existing: Path, made: Path) -> bool:
    return (
        not existing.is_symlink() and made.is_file() and existing.read_bytes() == made.read_bytes()
    )


def _make_ready(log: OutputLog, files: Iterable[Path]) -> None:
    for folder in sorted({path.parent for path in files}):
        log.make_folder(folder)
        require_writable(folder)
        sweep(folder)


# ---- captions, masks, and copies of what failed
# ----------------------------------------------------------------------------------------------


def _distinct(copies: Iterable[SidecarCopy]) -> list[SidecarCopy]:
    """Drop a second copy to the same place: two images of one stem share a caption."""
    first: dict[Path, SidecarCopy] = {}
    for copy in copies:
        first.setdefault(copy.target, copy)
    return list(first.values())


def _fall_back(
    plan: OutputPlan, failed: set[Path], project: Project, log: OutputLog
) -> tuple[tuple[Path, ...], list[SidecarCopy]]:
    """Copy the images that failed to where their outputs would be; return the copies, and the
    sidecars that go along. An image that cannot be read, or whose name is too long, is left out.
    """
    copied: list[Path] = []
    sidecars: list[SidecarCopy] = []
    for path, fallback in plan.fallbacks.items():
        if path not in failed:
            continue
        target, *others = plan.spec.targets[path]
        try:
            data = pixels.encode(
                pixels.load(path, max_pixels=plan.spec.max_pixels), WRITERS[target.suffix]
            )
            if fallback.is_kept:
                project.store.put_finished((fallback.output, *fallback.settled))
            else:
                for other in filter(os.path.lexists, others):
                    other.unlink()  # the plan has made sure that it is dsk's
                write_atomic(target, data)
                log.record(fallback.output)
        except InputError:
            continue
        copied.append(target)
        sidecars += fallback.copies
    return tuple(copied), _distinct(sidecars)


def _copy(copies: Sequence[SidecarCopy], project: Project, log: OutputLog) -> None:
    """Copy captions and masks to their images. They are pending first, so that undo also knows the
    one that a kill cut short.
    """
    if not copies:
        return
    outputs = [Output(c.target, _taken_as_it_is(c.source), "carried", c.source) for c in copies]
    project.store.put_pending(outputs)
    for folder in {output.path.parent for output in outputs}:
        log.make_folder(folder)
        sweep(folder)
    for output in outputs:
        if not os.path.lexists(output.path):
            with reading(output.origin):
                data = output.origin.read_bytes()
            write_atomic(output.path, data)
        log.record(output)


def _taken_as_it_is(path: Path) -> str:
    if path.parent.name == MASKS:
        return ""
    try:
        caption = read_caption(path, syntax_of(path.parent))
    except InputError:
        return ""  # it is copied byte for byte; whoever reads it says that it is not a caption
    return "" if caption is None else taken_over(caption, caption)


def _due(plan: OutputPlan, report: RunReport[T], failed: set[Path]) -> list[CaptionRewrite]:
    """Return the captions of the images that were made now (in a dry run: would be), and of those
    that a killed run made before it came to the caption.
    """
    waiting = plan.spec.waiting
    made = {done.record.path for done in report.done}
    made |= {skipped.record.path for skipped in report.skipped if skipped.reason == waiting}
    return [
        planned.rewrite
        for planned in plan.rewrites
        if planned.image in made or (planned.is_pending and planned.image not in failed)
    ]


def _edited(plan: OutputPlan, failed: set[Path]) -> list[CaptionRewrite]:
    """Return the captions that are taken over from the originals; of two images that share one, the
    first that did not fail. A copy of an image that failed shows all that the original does.
    """
    first: dict[Path, CaptionRewrite] = {}
    for rewrite in plan.edited:
        if rewrite.caption not in first or first[rewrite.caption].origin in failed:
            first[rewrite.caption] = rewrite
    return [
        CaptionRewrite(rewrite.image, rewrite.origin)
        if plan.spec.fallback and rewrite.origin in failed
        else rewrite
        for rewrite in first.values()
    ]


def _reword(
    plan: OutputPlan, report: RunReport[T], failed: set[Path], project: Project
) -> CaptionRewriteResult:
    """Let captions follow their images, as one plan of the journal.

    They are read again here, since the images may have taken minutes: an edit of that time counts.
    One that is to be replaced by the caption of the original is kept if it was edited meanwhile.
    """
    spec = plan.spec
    due = _due(plan, report, failed)
    edited = _edited(plan, failed)
    if not due and not edited:
        return CaptionRewriteResult()
    overtaken: set[Path] = set()

    def attempt(kept: Collection[Path], _: Collection[Path]) -> tuple[CaptionPlan, int | None]:
        captions = captions_of((*due, *edited), project.store)
        overtaken.update(
            rewrite.caption
            for rewrite in edited
            if _state(rewrite, captions).data != _state(rewrite, plan.facts.captions).data
        )
        left_out = {*kept, *overtaken}
        wording = plan_captions(
            [rewrite for rewrite in due if rewrite.caption not in left_out],
            [rewrite for rewrite in edited if rewrite.caption not in left_out],
            spec.verb,
            captions,
            plan.facts,
        )
        written = {op.path for op in wording.writes}
        return wording, project.apply(
            Plan(wording.writes),
            spec.verb,
            f"captions of {display(plan.title)}{spec.captions_note}",
            generated=wording.generated,
            outputs=[output for output in wording.outputs if output.path in written],
        )

    (wording, entry), kept = keep_edits(project, attempt, again=True)
    if not project.context.dry_run:
        project.store.put_finished(o for o in wording.outputs if os.path.lexists(o.path))
    failed_captions = (*wording.failed, *map(kept_edit, sorted({*kept, *overtaken})))
    return CaptionRewriteResult(wording.changes, failed_captions, entry)


def _state(rewrite: CaptionRewrite, captions: Mapping[Path, CaptionState]) -> CaptionState:
    return captions.get(absolute(rewrite.caption), CaptionState(None))
