"""What plan-repeats, layout, reg, report, export and import print for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.cli.show import (
    changes,
    excluded,
    first,
    from_here,
    history_hint,
    names,
    operations,
    problems,
    size_of,
    wrote,
)
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.export import ExportResult
    from datasetkit.verbs.import_ import ImportResult
    from datasetkit.verbs.import_dataset import ImportDatasetResult
    from datasetkit.verbs.import_shards import ImportShardsResult
    from datasetkit.verbs.layout import LayoutResult
    from datasetkit.verbs.plan_repeats import PlanRepeatsResult
    from datasetkit.verbs.reg import RegResult
    from datasetkit.verbs.reg_generate import RegGenerateResult
    from datasetkit.verbs.report import ReportResult
    from datasetkit.verbs.shared.result_types import ImageStorage, Plan, RepeatsPlan


def _plan_table(plan: RepeatsPlan, current: Mapping[str, int | None] | None = None) -> None:
    """Print the repeats and steps of each concept, and the exact steps of all together.

    current: concept -> its repeats now, where they may differ from the plan.
    """
    rows = []
    for concept in plan.concepts:
        before = (current or {}).get(concept.name)
        was = f" (now {before})" if before is not None and before != concept.repeats else ""
        buckets = " ".join(f"{w}x{h}:{n}" for (w, h), n in concept.buckets.items())
        rows.append((
            concept.name, concept.images, f"{concept.repeats}{was}", concept.samples,
            f"{concept.alone.steps:,}", buckets,
        ))  # fmt: skip
    columns = ["concept", "images", "repeats", "samples/epoch", "steps", "buckets (images)"]
    table("", columns, rows, right=columns[1:5])
    batch = plan.batch_settings
    accumulation = (
        f", accumulation {batch.gradient_accumulation}" if batch.gradient_accumulation > 1 else ""
    )
    sizes = [f"{width}x{height}" for width, height in (b.resolution for b in plan.train.blocks)]
    at = f", at {' and '.join(sizes)}" if len(sizes) > 1 else ""
    with_reg = (
        f"with the reg set {plan.total.steps:,}"
        if plan.reg
        else f"with a reg set about {2 * plan.train.steps:,}"
    )
    say(
        f"{counted(batch.epochs, 'epoch')}, batch {batch.batch_size}{accumulation}{at}: "
        f"{counted(plan.train.steps_per_epoch, 'step')} an epoch, "
        f"{counted(plan.train.steps, 'optimizer step')} in "
        f"total; {with_reg}",
        "bold",
    )


def plan_repeats(result: PlanRepeatsResult, dry_run: bool) -> None:
    _plan_table(result.plan, dict(result.now))
    for line in result.advice:
        say(f"- {line}")
    if result.entry is not None:
        say(f"renamed the folders{history_hint(result.entry, result.folder or Path())}")
    problems(result.failed)


def layout(result: LayoutResult, dry_run: bool) -> None:
    if dry_run:
        operations(result.changes, result.out)
    _plan_table(result.plan)
    out = from_here(result.out)
    folders = ", ".join(f"train/{repeats}_{name}" for name, repeats in result.concepts)
    if not result.changes:
        say(f"{out}: {folders} unchanged")
    else:
        verb = "would update" if dry_run else "updated"
        number = counted(len(result.changes.ops), "file operation")
        say(f"{verb} {out}: {folders}, {number}{history_hint(result.entry, result.out)}")
        _storage(result.storage)
        _removed(result.changes)
    for line in result.advice:
        say(f"- {line}")
    if result.without_caption:
        files = first([display(p.name) for p in result.without_caption])
        warn(
            f"{images(len(result.without_caption))} without a caption ({files}): trainers "
            "will use the folder's name"
        )
    for text in result.warnings:
        warn(text)
    if result.joined_lines:
        files = first([display(p.name) for p in result.joined_lines])
        warn(
            f"{counted(len(result.joined_lines), 'caption')} had several lines ({files}), now one: "
            "trainers read only the first; with enable_wildcard = true in [train] lines stay lines"
        )
    problems(result.failed)


def _storage(storage: ImageStorage) -> None:
    """Print how images came into a layout: what copies take, and what hard links mean."""
    if storage.copied:
        say(f"- {images(storage.copied)} copied: {size_of(storage.copied_bytes)}")
    if storage.originals:
        warn(
            f"{images(storage.originals)} hard-linked: a program that edits one in place "
            "changes the original too"
        )
    elif storage.linked:
        say(f"- {images(storage.linked)} hard-linked (no extra space)")


def _removed(plan: Plan) -> None:
    """Name the images that a plan removes from the dataset."""
    removed = [path for path in plan.removed() if path.suffix.lower() in IMAGE_SUFFIXES]
    if removed:
        say(f"  moved to .dsk/trash: {names(removed)}")


def reg(result: RegResult, dry_run: bool) -> None:
    if dry_run:
        operations(result.changes, result.folder.parent)
    folder = from_here(result.folder)
    samples = _reg_samples(result.images, result.repeats, result.train_samples)
    if not result.changes:
        say(f"{folder} unchanged: {samples}")
    else:
        verb = "would lay out" if dry_run else "laid out"
        hint = history_hint(result.entry, result.folder)
        say(f"{verb} {images(result.images)} as {folder}: {samples}{hint}")
        _storage(result.storage)
    _removed(result.changes)
    for line in result.advice or ("balanced: every regularisation image is used",):
        say(f"- {line}")
    problems(result.failed)


def _reg_samples(number: int, repeats: int, train_samples: int) -> str:
    """Return the samples of a regularisation set beside those of training, 0 for unknown."""
    training = f" for {train_samples:,} of training" if train_samples else ""
    return f"{number} x {repeats} = {number * repeats:,} samples{training}"


def reg_generate(result: RegGenerateResult, dry_run: bool) -> None:
    folder = from_here(result.folder)
    samples = _reg_samples(result.count, result.repeats, result.train_samples)
    if not result.generated:
        say(f"{folder} unchanged: {samples}")
    else:
        verb = "would generate" if dry_run else "generated"
        existing = f" ({result.kept:,} existing kept)" if result.kept else ""
        hint = history_hint(result.entry, result.folder)
        say(f"{verb} {images(len(result.generated))}{existing} in {folder}: {samples}{hint}")
    sizes = ", ".join(
        f"{n} of {width}x{height}" for (width, height), n in sorted(result.sizes.items())
    )
    say(f"- base model {result.base}; sizes: {sizes}; prompts: {' | '.join(result.prompts)}")
    if result.used < result.count:
        say(
            f"- {result.count - result.used} of {images(result.count)} are never used: an "
            f"epoch takes {result.used}"
        )
    problems(result.failed)


def report(result: ReportResult, dry_run: bool) -> None:
    has_meanings = any("translation" in row for row in result.top)
    meaning = ["translation"] if has_meanings else []
    rows = [
        (r["tag"], *(r[name] for name in meaning), r["category"], r["images"],
         f"{r['percent']:.0f} %", r["flags"])
        for r in result.top
    ]  # fmt: skip
    columns = ["tag", *meaning, "category", "images", "share", "flags"]
    table("Most frequent tags", columns, rows, right=["images", "share"])
    folder = from_here(result.folder)
    files = ", ".join(display(path.name) for path in result.changed)
    verb = "would write" if dry_run else "wrote"
    tables = f"{verb} {files} to {folder}" if result.changed else f"tables in {folder} unchanged"
    hint = history_hint(result.entry, result.folder)
    say(
        f"{counted(result.tags, 'tag')} on {images(result.images)}{excluded(result.left_out)}; "
        f"{tables}{hint}"
    )
    if result.without_caption:
        warn(f"{images(result.without_caption)} without a caption")
    problems(result.failed)


def export(result: ExportResult, dry_run: bool) -> None:
    verb = "would write" if dry_run else "wrote"
    for path in result.files:
        file = from_here(path)
        say(f"{verb} {file}" if path in result.changed else f"{file} unchanged")
    hint = history_hint(result.entry, result.files[0])
    say(f"{images(result.images)}; keep_tokens = {result.keep_tokens}{hint}")
    problems(result.failed)


def import_(result: ImportResult | ImportDatasetResult | ImportShardsResult, dry_run: bool) -> None:
    from datasetkit.verbs.import_dataset import ImportDatasetResult
    from datasetkit.verbs.import_shards import ImportShardsResult

    if isinstance(result, ImportDatasetResult):
        _import_dataset(result, dry_run)
        return
    if isinstance(result, ImportShardsResult):
        _import_shards(result, dry_run)
        return
    if dry_run:
        changes(result.changes)
    near = result.changes[0].path if result.changes else Path()
    say(
        f"{wrote(dry_run, len(result.changes), 'caption')}; {result.kept:,} existing kept, "
        f"{images(result.without)} without a sidecar{history_hint(result.entry, near)}"
    )
    problems(result.failed)


def _import_shards(result: ImportShardsResult, dry_run: bool) -> None:
    counts = (
        (result.unchanged, "image", "unchanged"),
        (result.kept, "existing caption", "kept"),
        (result.without_caption, "image", "without a caption"),
        (result.without_image, "sample", "without an image"),
    )
    rest = "".join(f"; {counted(n, what)} {how}" for n, what, how in counts if n)
    written = f"{wrote(dry_run, result.images, 'image')} and {counted(result.captions, 'caption')}"
    say(f"{written} to {from_here(result.out)}{rest}{history_hint(result.entry, result.out)}")
    problems(result.failed)


def _import_dataset(result: ImportDatasetResult, dry_run: bool) -> None:
    for note in result.notes:
        warn(note)
    rows = [
        (f.name, "reg" if f.is_reg else "train", str(f.images), str(f.repeats), from_here(f.folder))
        for f in result.folders
    ]
    table("", ["concept", "set", "images", "repeats", "folder"], rows)
    made = "would write" if dry_run else "wrote"
    say(f"{made} {from_here(result.path)}{history_hint(result.entry, result.path.parent)}")
    say("next: dsk run dsk.toml")
