"""What `dsk check` prints for people."""

from __future__ import annotations

import shlex
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.cli.show import history_hint, operations
from datasetkit.core.files import display, find_root

if TYPE_CHECKING:
    from datasetkit.checks.base import CheckFolder
    from datasetkit.checks.summary import CheckSummary
    from datasetkit.verbs.check import CheckResult
    from datasetkit.verbs.check_as_sd_scripts import SdScriptsImage, SdScriptsView

_HEADINGS = {"image": "Images", "caption": "Captions", "folder": "Folders"}
_TRIGGERS_SHOWN = 3


def checked(result: CheckResult, dry_run: bool) -> None:
    """Print a table for each group, what was mended, and the sum."""
    for group, several in groupby(result.summaries, key=lambda s: s.group):
        rows = [_row(summary, result, dry_run) for summary in several]
        table(_HEADINGS[group], ["check", "n", "the worst", "next step"], rows, right=["n"])
        say()
    if dry_run and result.plan:
        operations(result.plan, find_root(result.folder))
    for place in result.places:
        _say_guess(place)
    _say_source(result)
    _say_sum(result, dry_run)


def _row(summary: CheckSummary, result: CheckResult, dry_run: bool) -> tuple[object, ...]:
    step = _step(summary, result)
    if summary.fixed:
        done = "would be mended" if dry_run else "mended"
        left = summary.findings - summary.fixed
        step = f"{summary.fixed} {done}" + (f"; {step}" if left and "--fix" not in step else "")
    return summary.check, f"{summary.findings:,}", display(summary.examples[0]), step


def _step(summary: CheckSummary, result: CheckResult) -> str:
    """Fill a next step with the folder and the trigger that it is about."""
    folder = result.folder if "dsk check" in summary.step else summary.folder
    triggers = next(
        (p.triggers for p in result.places if p.folder == summary.folder and p.triggers), ("NAME",)
    )
    return summary.step.replace("{folder}", _quoted(folder)).replace(
        "{trigger}", shlex.quote(",".join(triggers))
    )


def _quoted(folder: Path) -> str:
    absolute, here = folder.absolute(), Path.cwd()
    return shlex.quote(
        display(absolute.relative_to(here) if absolute.is_relative_to(here) else folder)
    )


def _say_guess(place: CheckFolder) -> None:
    """Say which triggers were taken where nobody named them: half of the captions' checks depend on
    it.
    """
    if place.guessed and place.triggers:
        named = ", ".join(map(display, place.triggers[:_TRIGGERS_SHOWN]))
        said = (
            f"`{named}` leads most captions and is taken for the trigger (--trigger names another)"
        )
        say(f"{display(place.name)}: {said}")


def _say_source(result: CheckResult) -> None:
    if result.at_source:
        folders = sorted({source.parent for source in result.at_source})
        named = " and ".join(f"dsk check {_quoted(folder)} --fix" for folder in folders[:2])
        left = counted(len(result.at_source), "laid-out image")
        warn(f"{left} left as they are: mend the source ({named}), then dsk layout again")


def _say_sum(result: CheckResult, dry_run: bool) -> None:
    mended = len(result.findings) - result.left
    counts = f"{images(result.images)}: {counted(len(result.findings), 'finding')}"
    if mended:
        counts += f", {mended:,} {'would be ' if dry_run else ''}mended"
    quiet = f"{counted(result.quiet, 'check')} found nothing"
    files = f"; wrote {', '.join(display(path) for path in result.files)}" if result.files else ""
    say(
        f"{counts}; {quiet}{files}{history_hint(result.entry, result.folder)}",
        "" if result.left else "green",
    )


def view(result: SdScriptsView, dry_run: bool) -> None:
    """Print each image with its bucket and its caption, folder by folder."""
    for (concept, repeats, is_reg), several in groupby(
        result.images, key=lambda p: (p.concept, p.repeats, p.is_reg)
    ):
        kind = "regularisation" if is_reg else "training"
        title = f"{display(concept)}: {kind}, {counted(repeats, 'sample')} an epoch"
        rows = [_image(seen) for seen in several]
        table(
            title,
            ["image", "size", "bucket", "scale", "caption"],
            rows,
            right=["size", "bucket", "scale"],
        )
        say()
    for line in result.ignored:
        warn(line)
    troubled = sum(bool(seen.trouble) for seen in result.images)
    trouble = f", {troubled:,} in trouble" if troubled else ""
    files = f"; wrote {', '.join(display(path) for path in result.files)}" if result.files else ""
    hint = history_hint(result.entry, result.folder)
    say(f"{images(len(result.images))} as {result.trainer} takes them{trouble}{files}{hint}")


def _image(seen: SdScriptsImage) -> tuple[object, ...]:
    caption = (
        Text(display(seen.caption))
        if seen.caption
        else Text("(no caption)" if not seen.trouble else "", "dim")
    )
    if seen.trouble:
        caption.append(("  " if seen.caption else "") + display(seen.trouble), "red")
    sizes = [f"{size[0]}x{size[1]}" if size else "" for size in (seen.size, seen.bucket)]
    return display(seen.path.name), *sizes, f"{seen.scale:.2f}" if seen.bucket else "", caption
