"""What rename, resize, tag, scores and rules print for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.cli.show import (
    MOST,
    changes,
    excluded,
    first,
    from_here,
    history_hint,
    hits,
    operations,
    problems,
    wrote,
)
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.core.records import SkippedImages
    from datasetkit.verbs.caption import CaptionResult
    from datasetkit.verbs.cutout import CutoutResult
    from datasetkit.verbs.rename import RenameResult
    from datasetkit.verbs.resize import EnlargedImages, ResizeResult
    from datasetkit.verbs.rules import RulesResult
    from datasetkit.verbs.scores import ScoreRow, ScoresResult
    from datasetkit.verbs.shared.faces import FacesResult
    from datasetkit.verbs.shared.result_types import CaptionRewriteResult, Group, Suggestion
    from datasetkit.verbs.shared.scoring import TaggerUse
    from datasetkit.verbs.tag import TagResult

# How many images a row of suggestions names, and how many tags to keep are listed.
_EXAMPLES, _MOST_KEPT = 2, 20
# Why a dry run of `dsk caption` skips an image; `datasetkit.verbs.caption` has the same text.
WAITING = "a model has not described it yet"
# The last line of a command that tagged with `basic` because `auto` found nothing better.
FALLBACK = "tagged with the fallback basic, not WD14; `--tagger wd14` stops instead"


def rename(result: RenameResult, dry_run: bool) -> None:
    moves = result.plan.moves
    if dry_run:
        operations(result.plan, result.folder)
    if not moves:
        say(f"{images(result.images)}: all names unchanged")
    else:
        verb = "would rename" if dry_run else "renamed"
        hint = history_hint(result.entry, result.folder)
        say(f"{verb} {counted(moves, 'file')} of {images(result.images)}{hint}")
    problems(result.failed)


def resize(result: ResizeResult, dry_run: bool) -> None:
    counts = result.report.counts
    done = result.report.done if counts.done else []
    skipped = sum(each.images for each in counts.skipped)
    out = from_here(result.out)
    hint = history_hint(result.entry, result.out, result.captions.entry)
    if dry_run:
        waiting = sum(each.images for each in counts.skipped if each.reason != "up to date")
        say(f"would resize {images(waiting)} into {out}; {skipped - waiting:,} up to date")
    elif not done and skipped:
        say(f"{out}: {images(skipped)}, all up to date{hint}")
    else:
        shrunk = sum(d.value.size != d.value.source for d in done)
        sizes = f"{shrunk:,} shrunk, {len(done) - shrunk:,} same size"
        say(f"wrote {images(len(done))} to {out} ({sizes}); {skipped:,} up to date{hint}")
    renamed_sources(result, dry_run)
    rewritten(result.captions, result.out, dry_run, "match those edited beside the originals")
    for item in done:
        if item.note:
            warn(f"{display(item.record.path.name)}: {item.note}")
    _enlarged(result.enlarged)
    problems([*result.report.failed, *result.captions.failed])


def renamed_sources(result: ResizeResult | CutoutResult | FacesResult[Any], dry_run: bool) -> None:
    """Name the outputs of images that were renamed or removed since the last run."""
    renamed = [
        f"{display(source.old.name)} -> {display(source.new.name)}"
        for source in result.followed
        if source.new is not None
    ]
    removed = [display(source.old.name) for source in result.followed if source.new is None]
    would = "would be " if dry_run else ""
    if renamed:
        say(f"  {would}renamed with the originals: {first(renamed, MOST)}")
    if removed:
        say(f"  {would}moved to .dsk/trash: {first(removed, MOST)}")


def rewritten(result: CaptionRewriteResult, out: Path, dry_run: bool, purpose: str) -> None:
    """Print how many captions were rewritten and to what purpose; a dry run lists the changes."""
    if dry_run:
        changes(result.changes)
    if result.changes:
        verb = "would rewrite" if dry_run else "rewrote"
        captions = counted(len(result.changes), "caption")
        say(f"{verb} {captions} to {purpose}{history_hint(result.entry, out)}")


def _enlarged(resolutions: Sequence[EnlargedImages]) -> None:
    """Print for each resolution how many images a trainer would enlarge, and the largest factor."""
    rows = [
        (
            at.resolution,
            f"{at.enlarged} of {at.images}",
            f"{display(at.most.name)} x {at.scale:.2f} to {at.bucket[0]}x{at.bucket[1]}",
        )
        for at in resolutions
    ]
    if rows:
        table("", ["trained at", "enlarged", "most"], rows)


def tag(result: TagResult, dry_run: bool) -> None:
    if dry_run:
        changes(result.changes)
    hits(result.hits)
    outcomes = result.report.counts
    kept = [each for each in outcomes.skipped if each.captioned]
    uncaptioned = [each for each in outcomes.skipped if not each.captioned]
    near = result.changes[0].path if result.changes else Path()
    taggers = "; ".join(map(_used, result.taggers))
    unchanged = outcomes.done - len(result.changes)
    counts = f"{unchanged:,} unchanged, {_number(kept):,} hand-edited kept"
    if uncaptioned:
        counts += f", {_number(uncaptioned):,} without a caption"
    say(
        f"{wrote(dry_run, len(result.changes), 'caption')} ({taggers}); {counts}; "
        f"{result.inferred:,} of {outcomes.images:,} images needed "
        f"inference{history_hint(result.entry, near)}"
    )
    for drift in result.drift:
        say(
            f"  {drift.tagger.split('@')[0]}, compared with float32 and full decoding on "
            f"{images(drift.images)}: {drift.lost:,} of {drift.tags:,} tags missing, "
            f"{drift.gained:,} added"
        )
    _reasons("kept", kept)
    _reasons("no caption for", uncaptioned)
    for text in result.warnings:
        warn(text)
    problems(result.report.failed)
    if result.fallback:
        say(FALLBACK, "yellow")


def caption(result: CaptionResult, dry_run: bool) -> None:
    if dry_run:
        changes(result.changes)
        if result.waiting and result.prompt:
            say("prompt of the first image:", "dim")
            for line in result.prompt.splitlines():
                say(f"  {display(line)}", "dim")
    outcomes = result.report.counts
    kept = [each for each in outcomes.skipped if each.reason != WAITING]
    near = result.changes[0].path if result.changes else Path()
    where = f", {result.device}" if result.device else ""
    unchanged = outcomes.done - len(result.changes)
    counts = f"{unchanged:,} unchanged, {_number(kept):,} hand-edited kept"
    total = outcomes.images
    asked = (
        f"{result.waiting:,} of {total:,} images would be described first"
        if dry_run
        else f"{result.described:,} of {total:,} images were described"
    )
    what = "sentence file" if result.join == "sidecar" else "caption"
    say(
        f"{wrote(dry_run, len(result.changes), what)} ({display(result.engine)}{where}); {counts}; "
        f"{asked}{history_hint(result.entry, near)}"
    )
    _reasons("kept", kept)
    for mention in result.mentions[:MOST]:
        words = ", ".join(map(display, mention.words))
        warn(f"{display(mention.path.name)} mentions what is excluded: {words}")
    if len(result.mentions) > MOST:
        warn(f"{len(result.mentions) - MOST:,} more mention what is excluded")
    for text in result.warnings:
        warn(text)
    problems(result.report.failed)


def _number(skipped: Sequence[SkippedImages]) -> int:
    return sum(each.images for each in skipped)


def _reasons(what: str, skipped: Sequence[SkippedImages]) -> None:
    """Print the images that were skipped, a line for each reason."""
    by_reason: dict[str, list[Path]] = {}
    for each in skipped:
        by_reason.setdefault(each.reason, []).extend(each.first)
    for reason, paths in by_reason.items():
        say(f"  {what} {first([display(path.name) for path in paths])}: {reason}", "dim")


def _used(used: TaggerUse) -> str:
    """Return the name of a tagger and its device."""
    return used.name.split("@")[0] + (f", {used.device}" if used.device else "")


def scores(result: ScoresResult) -> None:
    def threshold(row: ScoreRow) -> str:
        return "-" if row.threshold is None else f"{row.threshold:.4f}"

    rows = [
        (r.tag, r.category, f"{r.score:.4f}", threshold(r), "in" if r.chosen else "out")
        for r in result.rows
    ]
    taggers = " and ".join(key.split("@")[0] for key in result.taggers)
    table(
        f"{display(result.path.name)}: {taggers}",
        ["tag", "category", "score", "threshold", ""],
        rows,
        right=["score", "threshold"],
    )
    chosen = sum(row.chosen for row in result.rows)
    say(
        f"{chosen:,} in, {len(result.rows) - chosen:,} just below their threshold; "
        f"{result.hidden:,} lower scores not shown"
    )


def _suggestions(rows: Sequence[Suggestion]) -> None:
    """Print the table of suggestions: numbered rows to take or leave, then what to keep."""
    usable = [row for row in rows if row.action != "keep"]
    shown = [
        (
            str(n),
            row.action,
            display(row.tag),
            f"{len(row.images):,}/{row.of:,}",
            "yes" if row.recommended else "look",
            display(row.reason),
            ", ".join(display(path.name) for path in row.images[:_EXAMPLES]),
        )
        for n, row in enumerate(usable, 1)
    ]
    table("", ["", "do", "tag", "images", "take", "why", "e.g."], shown)
    kept = [row for row in rows if row.action == "keep"]
    if kept:
        names = ", ".join(display(row.tag) for row in kept[:_MOST_KEPT])
        more = f", and {len(kept) - _MOST_KEPT:,} more" if len(kept) > _MOST_KEPT else ""
        say(f"keep {counted(len(kept), 'tag')}: {names}{more}")
    ready = sum(row.recommended for row in usable)
    say(
        f"{counted(len(usable), 'suggestion')}, {ready:,} of them recommended: "
        "--apply recommended takes those, --apply 1,3,5 these rows"
    )


def rules(result: RulesResult, dry_run: bool) -> None:
    if result.suggestions and not result.report.outcomes:
        _suggestions(result.suggestions)
        return
    if dry_run:
        changes(result.changes)
    hits(result.hits)
    verb = "would change" if dry_run else "changed"
    near = result.changes[0].path if result.changes else Path()
    changed = f"{verb} {counted(len(result.changes), 'caption')}{excluded(result.left_out)}"
    say(f"{changed}{history_hint(result.entry, near)}")
    uncaptioned = sum(
        each.images for each in result.report.counts.skipped if each.reason == "it has no caption"
    )
    if uncaptioned:
        warn(f"{images(uncaptioned)} without a caption: dsk tag writes one")
    for text in result.warnings:
        warn(text)
    problems(result.report.failed)


def groups(result: Sequence[Group]) -> None:
    for group in result:
        say(f"@{group.name}: {group.description}", "bold")
        members = [*group.tags, *group.globs, *(f"@{name}" for name in group.includes)]
        say("  " + ", ".join(members))
        if group.words:
            say("  tags with one of the words: " + ", ".join(group.words))
        if group.exceptions:
            say("  except: " + ", ".join(group.exceptions), "dim")
