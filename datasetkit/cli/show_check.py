"""What `dsk check` prints for people."""

from __future__ import annotations

import re
import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.cli.show import from_here, history_hint, operations, problems
from datasetkit.core.files import display, find_root

if TYPE_CHECKING:
    from datasetkit.verbs.check import CheckResult
    from datasetkit.verbs.check_as_sd_scripts import SdScriptsImage, SdScriptsView
    from datasetkit.verbs.shared.result_types import CheckFolder, CheckSummary

_HEADINGS = {"image": "Images", "caption": "Captions", "folder": "Folders"}
_TRIGGERS_SHOWN = 3


def check(result: CheckResult, dry_run: bool) -> None:
    """Print a table for each group of checks, what was fixed, and the sum."""
    for group, several in groupby(result.summaries, key=lambda s: s.group):
        rows = [_row(summary, result, dry_run) for summary in several]
        table(_HEADINGS[group], ["check", "n", "worst", "next step"], rows, right=["n"])
        say()
    if dry_run and result.plan:
        operations(result.plan, find_root(result.folder))
    for folder in result.places:
        _guessed_trigger(folder)
    _fix_at_source(result)
    problems(result.failed)
    _sum(result, dry_run)


def _row(summary: CheckSummary, result: CheckResult, dry_run: bool) -> tuple[object, ...]:
    step = _step(summary, result)
    if summary.fixed:
        remaining = summary.findings - summary.fixed
        more = f"; {step}" if remaining and "--fix" not in step else ""
        step = f"{summary.fixed} {'would be fixed' if dry_run else 'fixed'}{more}"
    return summary.check, f"{summary.findings:,}", display(summary.examples[0]), step


def _step(summary: CheckSummary, result: CheckResult) -> str:
    """Fill the folder and the trigger into the next step of a check."""
    triggers = next(
        (p.triggers for p in result.places if p.folder == summary.folder and p.triggers), ("NAME",)
    )
    is_among_images = any(p.folder.resolve() == Path.cwd() for p in result.places)
    values = {
        "folder": _quoted(summary.folder),
        "dataset": _quoted(result.folder),
        "out": f" {_quoted(summary.out)}" if summary.out is not None else "",
        "contact_sheet": "../check.png" if is_among_images else "check.png",
        "trigger": shlex.quote(",".join(triggers)),
    }
    step = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], summary.step)
    return f"{step}; then lay that folder out" if summary.out is not None else step


def _quoted(folder: Path) -> str:
    return shlex.quote(from_here(folder))


def _guessed_trigger(folder: CheckFolder) -> None:
    """Print which triggers were assumed where none are given: half of the captions' checks depend
    on them.
    """
    if folder.guessed and folder.triggers:
        triggers = ", ".join(map(display, folder.triggers[:_TRIGGERS_SHOWN]))
        say(
            f"{display(folder.name)}: `{triggers}` comes first in most captions and is taken as "
            "the trigger (--trigger sets another)"
        )


def _fix_at_source(result: CheckResult) -> None:
    if result.at_source:
        folders = sorted({source.parent for source in result.at_source})
        commands = " and ".join(f"dsk check {_quoted(folder)} --fix" for folder in folders[:2])
        number = counted(len(result.at_source), "laid-out image")
        warn(f"{number} not fixed: fix the source ({commands}), then run dsk layout again")


def _sum(result: CheckResult, dry_run: bool) -> None:
    fixed = len(result.findings) - result.unfixed
    counts = f"{images(result.images)}: {counted(len(result.findings), 'finding')}"
    if fixed:
        counts += f", {fixed:,} {'would be ' if dry_run else ''}fixed"
    quiet = f"{counted(result.quiet, 'check')} found nothing"
    hint = history_hint(result.entry, result.folder)
    say(f"{counts}; {quiet}{_files(result.files)}{hint}", "" if result.unfixed else "green")


def _files(paths: tuple[Path, ...]) -> str:
    return f"; wrote {', '.join(display(path) for path in paths)}" if paths else ""


def sd_scripts(result: SdScriptsView, dry_run: bool) -> None:
    """Print each image with its bucket and its caption, folder by folder."""
    for (concept, repeats, is_reg), several in groupby(
        result.images, key=lambda p: (p.concept, p.repeats, p.is_reg)
    ):
        kind = "regularisation" if is_reg else "training"
        title = f"{display(concept)}: {kind}, {counted(repeats, 'sample')} an epoch"
        columns = ["image", "size", "bucket", "scale", "caption"]
        table(title, columns, [_image(image) for image in several], right=columns[1:4])
        say()
    for line in result.ignored:
        warn(line)
    troubled = sum(bool(image.trouble) for image in result.images)
    with_problems = f", {troubled:,} with problems" if troubled else ""
    hint = history_hint(result.entry, result.folder)
    say(
        f"{images(len(result.images))} as {result.trainer} reads them{with_problems}"
        f"{_files(result.files)}{hint}"
    )


def _image(image: SdScriptsImage) -> tuple[object, ...]:
    if image.caption:
        caption = Text(display(image.caption))
    else:
        caption = Text("" if image.trouble else "(no caption)", "dim")
    if image.trouble:
        caption.append(("  " if image.caption else "") + display(image.trouble), "red")
    size = "x".join(map(str, image.size or ()))
    buckets = ", ".join("x".join(map(str, b.bucket)) for b in image.buckets)
    scales = ", ".join(f"{b.scale:.2f}" for b in image.buckets)
    return display(image.path.name), size, buckets, scales, caption
