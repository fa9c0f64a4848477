"""What each command prints for people: one function a result."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from datasetkit.captions.diffs import CaptionChange
from datasetkit.cli.console import counted, images, listed, say, table, warn
from datasetkit.core.files import IMAGE_SUFFIXES, PROJECT, display, find_root
from datasetkit.core.records import Failed
from datasetkit.project.plans import Copy, FileOp, Link, Move, Plan, WriteBytes, WriteText

if TYPE_CHECKING:
    from datasetkit.captions.rules import Group, RuleHits
    from datasetkit.dataset.repeats import RepeatsPlan
    from datasetkit.outputs.sidecars import CaptionRewriteResult
    from datasetkit.project.journal import JournalEntry, UndoResult
    from datasetkit.verbs.cutout import CutoutResult
    from datasetkit.verbs.doctor import DoctorResult
    from datasetkit.verbs.export import ExportResult
    from datasetkit.verbs.faces import FacesResult
    from datasetkit.verbs.import_ import ImportResult
    from datasetkit.verbs.init import InitResult
    from datasetkit.verbs.layout import LayoutResult
    from datasetkit.verbs.models_where import ModelFolders
    from datasetkit.verbs.plan_repeats import PlanRepeatsResult
    from datasetkit.verbs.reg import RegResult
    from datasetkit.verbs.reg_generate import RegGenerateResult
    from datasetkit.verbs.rename import RenameResult
    from datasetkit.verbs.report import ReportResult
    from datasetkit.verbs.resize import BucketFit, ResizeResult
    from datasetkit.verbs.rules import RulesResult
    from datasetkit.verbs.run import RunResult, RunStepResult
    from datasetkit.verbs.scores import ScoreRow, ScoresResult
    from datasetkit.verbs.shared.scoring import TaggerUse
    from datasetkit.verbs.tag import TagResult
    from taggers.models import ModelFiles, ModelRow

_MOST = 20


def problems(failed: Sequence[Failed]) -> None:
    """List the items that failed, one line each, on stderr."""
    for item in failed[:_MOST]:
        hint = f" ({item.hint})" if item.hint else ""
        warn(f"{display(item.path.name)}: {_without_path(item.error, item.path)}{hint}")
    if len(failed) > _MOST:
        warn(f"and {len(failed) - _MOST:,} more (--json lists all)")


def _without_path(error: str, path: Path) -> str:
    """Take the path out of an error that is shown behind the image's name."""
    shown = display(path)
    return (
        error.removeprefix(f"cannot read {shown}: ")
        .removeprefix(f"{shown}: ")
        .removeprefix(f"{shown} ")
    )


def operations(plan: Plan, root: Path) -> None:
    """List what a plan would do."""
    listed([_operation(op, root.absolute()) for op in plan.ops])


def _operation(op: FileOp, root: Path) -> str:
    def short(path: Path) -> str:
        absolute = path.absolute()
        return (
            display(absolute.relative_to(root))
            if absolute.is_relative_to(root)
            else place(absolute)
        )

    match op:
        case Move():
            return f"move   {short(op.src)} -> {short(op.dst)}"
        case Copy():
            return f"copy   {short(op.src)} -> {short(op.dst)}"
        case Link():
            return f"link   {short(op.src)} -> {short(op.dst)}"
        case WriteText() | WriteBytes():
            return f"write  {short(op.path)}"


def changes(of: Sequence[CaptionChange]) -> None:
    """Print captions as differences: added green with +, removed red with -."""
    lines = []
    for change in of:
        line = Text(f"{display(change.path.name)}: ")
        if change.before is None:
            line.append(display(change.after.text()), "green")
        else:
            pieces = [(f"-{display(t)}", "red") for t in change.removed] + [
                (f"+{display(t)}", "green") for t in change.added
            ]
            pieces += [("(order)", "yellow")] if change.reordered else []
            for n, (piece, style) in enumerate(pieces):
                line.append(" " * (n > 0)).append(piece, style)
        lines.append(line)
    listed(lines)


def hits(of: Sequence[RuleHits]) -> None:
    """Print in how many captions each rule had something to do."""
    if of:
        table(
            "", ["rule", "captions"], [(hit.rule, hit.captions) for hit in of], right=["captions"]
        )


def place(path: Path) -> str:
    """Name a file or folder as seen from here where it lies below here, else whole."""
    absolute, here = path.absolute(), Path.cwd()
    return display(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def history_hint(entry: int | None, near: Path) -> str:
    """Name a command's number in the history, and the command that takes it back as it must be
    typed from here.

    near: a file or folder that it changed, which tells the project.
    """
    if entry is None:
        return ""
    root = find_root(near)
    inside = find_root(Path()) == root
    undo = "dsk undo" if inside else f"dsk undo {shlex.quote(place(root))}"
    return f"  (history {entry}; {undo} takes it back)"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _first(names: Sequence[str], most: int = 3) -> str:
    """Name the first ones of many."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


# ---- prepare
# --------------------------------------------------------------------------------------------------


def renamed(result: RenameResult, dry_run: bool) -> None:
    moves = sum(isinstance(op, Move) for op in result.plan.ops)
    if dry_run:
        operations(result.plan, result.folder)
    if not moves:
        say(f"{images(result.images)}: all names are as wanted")
    else:
        verb = "would rename" if dry_run else "renamed"
        say(
            f"{verb} {counted(moves, 'file')} of "
            f"{images(result.images)}{history_hint(result.entry, result.folder)}"
        )
    problems(result.failed)


def resized(result: ResizeResult, dry_run: bool) -> None:
    done, skipped = result.report.done, result.report.skipped
    shrunk = [d for d in done if d.value.size != d.value.source]
    if dry_run:
        waiting = sum(s.reason != "up to date" for s in skipped)
        say(
            f"would resize {images(waiting)} into {place(result.out)}; "
            f"{len(skipped) - waiting:,} are up to date"
        )
    elif not done and skipped:
        say(
            f"{place(result.out)}: {images(len(skipped))}, all up to "
            f"date{history_hint(result.entry, result.out)}"
        )
    else:
        same = len(done) - len(shrunk)
        say(
            f"{images(len(done))} written to {place(result.out)} ({len(shrunk):,} shrunk, "
            f"{same:,} of the same "
            f"size), {len(skipped):,} up to date{history_hint(result.entry, result.out)}"
        )
    followed(result, dry_run)
    reworded(result.captions, result.out, dry_run, "follow what was edited beside the originals")
    for item in done:
        if item.note:
            warn(f"{display(item.record.path.name)}: {item.note}")
    _enlarged(result.uses)
    problems([*result.report.failed, *result.captions.failed])


def followed(result: ResizeResult | CutoutResult | FacesResult[Any], dry_run: bool) -> None:
    """Name the outputs that followed images which were renamed or removed since the last run."""
    renamed = [
        f"{display(one.old.name)} -> {display(one.new.name)}"
        for one in result.followed
        if one.new is not None
    ]
    removed = [display(one.old.name) for one in result.followed if one.new is None]
    would = "would be " if dry_run else ""
    if renamed:
        say(f"  {would}renamed like the originals: {_first(renamed, _MOST)}")
    if removed:
        say(f"  {would}taken out, into .dsk/trash: {_first(removed, _MOST)}")


def reworded(result: CaptionRewriteResult, out: Path, dry_run: bool, what: str) -> None:
    """Say how many captions were reworded, and how to undo that; a dry run shows them. what: a verb
    and the rest.
    """
    if dry_run:
        changes(result.changes)
    if result.changes:
        verb, _, rest = what.partition(" ")
        does = f"would {verb}" if dry_run else f"{verb}s" if len(result.changes) == 1 else verb
        say(
            f"{counted(len(result.changes), 'caption')} {does} "
            f"{rest}{history_hint(result.entry, out)}"
        )


def _enlarged(uses: Sequence[BucketFit]) -> None:
    """Say, for each resolution, how many images a trainer would enlarge, and which one most."""
    if not uses:
        return
    rows = []
    for resolution in uses[0].scale:
        larger = [use for use in uses if use.scale[resolution] > 1]
        worst = max(uses, key=lambda use: use.scale[resolution])
        w, h = worst.bucket[resolution]
        most = f"{display(worst.path.name)} x {worst.scale[resolution]:.2f} to {w}x{h}"
        rows.append((resolution, f"{len(larger)} of {len(uses)}", most))
    table("", ["trained at", "enlarged", "most"], rows)


def tagged(result: TagResult, dry_run: bool) -> None:
    if dry_run:
        changes(result.changes)
    hits(result.hits)
    wrote = f"{'would write' if dry_run else 'wrote'} {counted(len(result.changes), 'caption')}"
    skipped = result.report.skipped
    kept = [s for s in skipped if s.record.caption is not None and s.record.caption.tags]
    bare = [s for s in skipped if s not in kept]
    left = f", {len(bare):,} left without" if bare else ""
    near = result.changes[0].path if result.changes else Path()
    taggers = " and ".join(map(_used, result.taggers))
    say(
        f"{wrote} with {taggers}; {len(result.report.done) - len(result.changes):,} were as "
        f"wanted, {len(kept):,} kept{left}; {result.inferred:,} of "
        f"{len(result.report.outcomes):,} images needed "
        f"inference{history_hint(result.entry, near)}"
    )
    for drift in result.drift:
        say(
            f"  {drift.tagger.split('@')[0]}: of the {drift.tags:,} tags that float32 and full "
            "decoding give "
            f"{images(drift.images)}, {drift.lost:,} are lost and {drift.gained:,} others "
            "come in"
        )
    for what, those in (("kept", kept), ("no caption for", bare)):
        for reason in dict.fromkeys(s.reason for s in those):
            names = [display(s.record.path.name) for s in those if s.reason == reason]
            say(f"  {what} {_first(names)}: {reason}", "dim")
    for text in result.warnings:
        warn(text)
    problems(result.report.failed)


def _used(used: TaggerUse) -> str:
    """Name a tagger and what it ran on."""
    return used.name.split("@")[0] + (f" on {used.device}" if used.device else "")


def scores(result: ScoresResult) -> None:
    def needs(row: ScoreRow) -> str:
        return "-" if row.threshold is None else f"{row.threshold:.4f}"

    rows = [
        (r.tag, r.category, f"{r.score:.4f}", needs(r), "in" if r.chosen else "out")
        for r in result.rows
    ]
    title = (
        f"{display(result.path.name)}: {' and '.join(key.split('@')[0] for key in result.taggers)}"
    )
    table(title, ["tag", "category", "score", "needs", ""], rows, right=["score", "needs"])
    inside = sum(row.chosen for row in result.rows)
    say(
        f"{inside:,} in, {len(result.rows) - inside:,} near their threshold; {result.hidden:,} "
        "lower scores are kept"
    )


def ruled(result: RulesResult, dry_run: bool) -> None:
    changes(result.changes) if dry_run else None
    hits(result.hits)
    verb = "would change" if dry_run else "changed"
    near = result.changes[0].path if result.changes else Path()
    changed = f"{verb} {counted(len(result.changes), 'caption')}{_left_out(result.left_out)}"
    say(f"{changed}{history_hint(result.entry, near)}")
    without = sum(s.reason == "it has no caption" for s in result.report.skipped)
    if without:
        warn(f"{images(without)} without a caption: dsk tag writes one")
    for text in result.warnings:
        warn(text)
    problems(result.report.failed)


def _left_out(number: int) -> str:
    """Say how many images do not pass the filter, if there are any."""
    return f" ({images(number)} left out by the filter)" if number else ""


def groups(result: Sequence[Group]) -> None:
    for group in result:
        say(f"@{group.name}: {group.description}", "bold")
        members = [*group.tags, *group.globs, *(f"@{name}" for name in group.includes)]
        say("  " + ", ".join(members))
        if group.words:
            say("  tags that hold one of the words: " + ", ".join(group.words))
        if group.exceptions:
            say("  but not: " + ", ".join(group.exceptions), "dim")


# ---- the dataset
# -----------------------------------------------------------------------------------------------


def _buckets(counts: Any) -> str:
    return " ".join(f"{w}x{h}:{n}" for (w, h), n in counts.items())


def plan_table(plan: RepeatsPlan, now: dict[str, int | None] | None = None) -> None:
    """Print a plan of repeats: the numbers of each concept, and the exact steps of all together."""
    rows = []
    for concept in plan.concepts:
        before = (now or {}).get(concept.name)
        was = f" (now {before})" if before is not None and before != concept.repeats else ""
        rows.append((
            concept.name, concept.images, f"{concept.repeats}{was}", concept.samples,
            f"{concept.alone.steps:,}", _buckets(concept.buckets),
        ))  # fmt: skip
    columns = ["concept", "images", "repeats", "samples/epoch", "steps", "buckets (images)"]
    table("", columns, rows, right=columns[1:5])
    batch_settings = plan.batch_settings
    say(
        f"{batch_settings.epochs} epochs, batch {batch_settings.batch_size}"
        + (
            f", accumulation {batch_settings.gradient_accumulation}"
            if batch_settings.gradient_accumulation > 1
            else ""
        )
        + (
            f": {plan.train.steps_per_epoch:,} steps an epoch, {plan.train.steps:,} optimizer "
            "steps in all"
        )
        + (
            f"; with the reg set {plan.total.steps:,}"
            if plan.reg
            else f"; with a reg set about {2 * plan.train.steps:,}"
        ),
        "bold",
    )


def planned(result: PlanRepeatsResult, dry_run: bool) -> None:
    plan_table(result.plan, dict(result.now))
    for line in result.advice:
        say(f"- {line}")
    if result.entry is not None:
        say(f"renamed the folders{history_hint(result.entry, result.folder or Path())}")
    problems(result.failed)


def laid_out(result: LayoutResult, dry_run: bool) -> None:
    if dry_run:
        operations(result.changes, result.out)
    plan_table(result.plan)
    folders = ", ".join(f"train/{repeats}_{name}" for name, repeats in result.concepts)
    if not result.changes:
        say(f"{place(result.out)}: {folders} {_are(len(result.concepts))} as wanted")
    else:
        verb = "would bring" if dry_run else "brought"
        say(
            f"{verb} {place(result.out)} up to date: {folders}, "
            f"{counted(len(result.changes.ops), 'change')}"
            f"{history_hint(result.entry, result.out)}"
        )
        _gone(result.changes)
    for line in result.advice:
        say(f"- {line}")
    if result.without_caption:
        names = _first([display(p.name) for p in result.without_caption])
        warn(
            f"{images(len(result.without_caption))} without a caption ({names}): trainers "
            "will use the folder's name"
        )
    problems(result.failed)


def _gone(plan: Plan) -> None:
    """Name the images that a plan takes out of the dataset."""
    new = {
        op.dst for op in plan.ops if isinstance(op, Link | Copy)
    }  # these come back with other bytes
    gone = [
        op.src
        for op in plan.ops
        if isinstance(op, Move) and PROJECT in op.dst.parts and op.src not in new
    ]
    names = [display(path.name) for path in gone if path.suffix.lower() in IMAGE_SUFFIXES]
    if names:
        more = f" and {len(names) - _MOST:,} more" if len(names) > _MOST else ""
        say(f"  taken out, into .dsk/trash: {', '.join(names[:_MOST])}{more}")


def reg(result: RegResult, dry_run: bool) -> None:
    if dry_run:
        operations(result.changes, result.folder.parent)
    numbers = (
        f"{result.images} x {result.repeats} = {result.images * result.repeats:,} samples beside "
        f"{result.train_samples:,} of the training set"
    )
    if not result.changes:
        say(f"{place(result.folder)} is as wanted: {numbers}")
    else:
        verb = "would lay out" if dry_run else "laid out"
        hint = history_hint(result.entry, result.folder)
        say(f"{verb} {images(result.images)} as {place(result.folder)}: {numbers}{hint}")
    _gone(result.changes)
    for line in result.advice or ("balanced: every regularisation image is used",):
        say(f"- {line}")
    problems(result.failed)


def reg_generated(result: RegGenerateResult, dry_run: bool) -> None:
    beside = f" beside {result.train_samples:,} of the training set" if result.train_samples else ""
    numbers = (
        f"{result.count} x {result.repeats} = {result.count * result.repeats:,} samples{beside}"
    )
    there = f", {result.kept:,} were there" if result.kept else ""
    if not result.drawn:
        say(f"{place(result.folder)} is as wanted: {numbers}")
    else:
        verb = "would draw" if dry_run else "drew"
        hint = history_hint(result.entry, result.folder)
        say(
            f"{verb} {images(len(result.drawn))}{there}, in {place(result.folder)}: {numbers}{hint}"
        )
    sizes = ", ".join(
        f"{n} of {width}x{height}" for (width, height), n in sorted(result.sizes.items())
    )
    say(f"- with {result.base}, {sizes}, of such prompts: {' | '.join(result.prompts)}")
    if result.used < result.count:
        say(
            f"- {result.count - result.used} of {images(result.count)} are never used: an "
            f"epoch takes {result.used}"
        )


def reported(result: ReportResult, dry_run: bool) -> None:
    rows = [
        (r["tag"], r["category"], r["images"], f"{r['percent']:.0f} %", r["flags"])
        for r in result.top
    ]
    table(
        "The most frequent tags",
        ["tag", "category", "images", "of all", "flags"],
        rows,
        right=["images", "of all"],
    )
    names = ", ".join(display(p.name) for p in result.changed)
    wrote = f"{'would write' if dry_run else 'wrote'} {names} to {place(result.folder)}"
    done = wrote if result.changed else f"the tables in {place(result.folder)} are as wanted"
    hint = history_hint(result.entry, result.folder)
    say(
        f"{counted(result.tags, 'tag')} on "
        f"{images(result.images)}{_left_out(result.left_out)}; {done}{hint}"
    )
    if result.without_caption:
        warn(f"{images(result.without_caption)} without a caption")
    problems(result.failed)


def exported(result: ExportResult, dry_run: bool) -> None:
    verb = "would write" if dry_run else "wrote"
    for path in result.files:
        say(f"{verb} {place(path)}" if path in result.changed else f"{place(path)} is as wanted")
    hint = history_hint(result.entry, result.files[0])
    say(f"{images(result.images)}; keep_tokens = {result.keep_tokens}{hint}")
    problems(result.failed)


def imported(result: ImportResult, dry_run: bool) -> None:
    if dry_run:
        changes(result.changes)
    verb = "would write" if dry_run else "wrote"
    near = result.changes[0].path if result.changes else Path()
    say(
        f"{verb} {counted(len(result.changes), 'caption')}; {result.kept:,} kept that exist, "
        f"{images(result.without)} without a side-car{history_hint(result.entry, near)}"
    )
    problems(result.failed)


# ---- the project
# ------------------------------------------------------------------------------------------------


def started(result: InitResult, dry_run: bool) -> None:
    say(
        f"{'would write' if dry_run else 'wrote'} {place(result.path)}: edit it, then dsk run "
        "dsk.toml"
    )


def step_begins(step: str, concept: str) -> None:
    """Print the heading of a step of a run, before what the step has to warn of."""
    say(f"== {step} {concept}".strip(), "bold cyan")


def step(dry_run: bool) -> Callable[[RunStepResult], None]:
    """Return what prints one step of a run as it ends."""

    def shown(result: RunStepResult) -> None:
        from datasetkit.cli import show_images  # which stands on this module

        shown_by = {**_SHOWN, "faces": show_images.faces, "cutout": show_images.cut}
        shown_by[result.step](result.result, dry_run)

    return shown


def ran(result: RunResult, dry_run: bool) -> None:
    failed = len(result.failed)
    say("")
    outcome = (
        f"; {counted(failed, 'item')} failed"
        if failed
        else ": all looked at"
        if dry_run
        else ": all done"
    )
    say(f"{counted(len(result.steps), 'step')} in {display(result.root)}{outcome}", "bold")
    for path in result.strays:
        say(
            f"{place(path)} is of no concept of dsk.toml: captions that you edited there are "
            "not used"
        )
    if result.unforeseen:
        say(f"not to be foreseen before the steps above were taken: {', '.join(result.unforeseen)}")


def undone(result: UndoResult, dry_run: bool) -> None:
    for entry in result.entries:
        verb = "would take back" if dry_run else "took back"
        say(
            f"{verb} {entry.verb} {entry.title} (history {entry.id}, "
            f"{counted(entry.operations, 'operation')})"
        )
    if not result.entries:
        say("nothing is left to take back")
    for line in result.refused:
        warn(f"left as it is: {line}")


def history(result: Sequence[JournalEntry]) -> None:
    rows = [
        (
            e.id,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(e.started)),
            e.verb,
            e.title.removeprefix("undo "),
            f"{e.operations:,}",
            e.state,
        )
        for e in result
    ]
    columns = ["#", "when", "command", "what", "operations", "state"]
    table("", columns, rows, right=["#", "operations"]) if rows else say(
        "nothing was done here yet"
    )


def models(result: Sequence[ModelRow]) -> None:
    rows = [("basic", "shipped with the package", "", "here")]
    rows += [(m.name, m.repo, m.revision[:12], "here" if m.cached else "-") for m in result]
    table("", ["name", "repository", "revision", "files"], rows)


def downloaded(result: ModelFiles, dry_run: bool) -> None:
    say(f"{display(result.weights)}: here and checked")


def where(result: ModelFolders) -> None:
    say(f"hub cache: {display(result.hub_cache)}")
    say(f"shipped:   {display(result.shipped)}")


def examined(result: DoctorResult) -> None:
    styles = {"ok": "green", "note": "yellow", "problem": "bold red"}
    rows = [
        (f.what, Text(f.state, styles[f.state]), f.detail + (f"  ->  {f.fix}" if f.fix else ""))
        for f in result.findings
    ]
    table("", ["what", "state", "detail"], rows)
    say(
        "all that the main job needs is here"
        if result.healthy
        else "something is missing: see the problems above",
        "bold",
    )


_SHOWN: dict[str, Any] = {
    "rename": renamed,
    "resize": resized,
    "tag": tagged,
    "layout": laid_out,
    "reg": reg,
    "report": reported,
    "export": exported,
}
