"""What `dsk cutout` and `dsk faces` print for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasetkit.cli.console import counted, images, say, table
from datasetkit.cli.show import from_here, history_hint, names, problems
from datasetkit.cli.show_prepare import renamed_sources, rewritten
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.cutout import CutoutResult
    from datasetkit.verbs.faces_list import FacesListResult
    from datasetkit.verbs.shared.faces import FaceRegion, FacesResult

_UP_TO_DATE = "up to date"


def cutout(result: CutoutResult, dry_run: bool) -> None:
    done, skipped = result.report.done, result.report.skipped
    out = from_here(result.out)
    hint = history_hint(result.entry, result.out, result.captions.entry)
    current = sum(s.reason == _UP_TO_DATE for s in skipped)
    if dry_run:
        say(f"would cut out {images(len(skipped) - current)} into {out}; {current:,} up to date")
    elif not done and skipped:
        say(f"{out}: {images(len(skipped))}, all up to date{hint}")
    else:
        device = f", {done[0].value.device}" if done else ""
        say(
            f"cut out {images(len(done))} ({result.model}{device}) into {out}; {current:,} up to "
            f"date{hint}"
        )
        say(f"  model licence: {result.licence}", "dim")
    renamed_sources(result, dry_run)
    rewritten(result.captions, result.out, dry_run, "match the background")
    _notes(result)
    if result.kept:
        say(f"  no subject found, copied unchanged: {names(result.kept)}")
    problems([*result.report.failed, *result.captions.failed])


def faces(result: FacesResult[Any], dry_run: bool) -> None:
    done, skipped = result.report.done, result.report.skipped
    out = from_here(result.out)
    hint = history_hint(result.entry, result.out, result.captions.entry)
    current = sum(s.reason == _UP_TO_DATE for s in skipped)
    detected = _detected(result)
    if dry_run:
        waiting = sum(s.reason.startswith("would") for s in skipped)
        say(f"{detected}; would write {images(waiting)} to {out}; {current:,} up to date")
    elif not done and current:
        say(f"{detected}; {out}: all up to date{hint}")
    else:
        say(f"{detected}; wrote {images(len(done))} to {out}, {current:,} up to date{hint}")
    renamed_sources(result, dry_run)
    rewritten(result.captions, result.out, dry_run, "match the new images")
    _notes(result)
    faceless = [image.path for image in result.images if not image.faces]
    if faceless and result.only != "text":
        say(f"  no face found in: {names(faceless)}")
    if result.small:
        say(f"  faces too small to crop (below --min-size): {names(result.small)}")
    _sheet(result.sheet)
    problems([*result.report.failed, *result.captions.failed])


def _detected(result: FacesResult[Any]) -> str:
    """Count the faces and lines of text in images."""
    text = sum(len(image.text) for image in result.images)
    faces = sum(len(image.faces) for image in result.images)
    counts = [] if result.only == "text" else [counted(faces, "face")]
    if text or not counts:
        counts.append(f"{counted(text, 'line')} of text")
    return f"{' and '.join(counts)} in {images(len(result.images))}"


def faces_list(result: FacesListResult, dry_run: bool) -> None:
    rows = [
        (
            display(image.path.name),
            f"{image.width}x{image.height}",
            _regions(image.faces),
            _regions(image.text),
        )
        for image in result.images
    ]
    table("", ["image", "size", "faces", "text"], rows, right=["size"])
    number = sum(len(image.faces) for image in result.images)
    faceless = sum(not image.faces for image in result.images)
    say(f"{counted(number, 'face')} in {images(len(result.images))}, {faceless:,} without a face")
    _sheet(result.sheet)
    problems(result.failed)


def _regions(of: tuple[FaceRegion, ...]) -> str:
    lines = [f"{r.score:.2f} at {r.left},{r.top} {r.right - r.left}x{r.bottom - r.top}" for r in of]
    return "\n".join(lines) or "-"


def _notes(result: CutoutResult | FacesResult[Any]) -> None:
    """Print each note once, with the images that it is about."""
    notes: dict[str, list[Path]] = {}
    for item in result.report.done:
        if item.note:
            notes.setdefault(item.note, []).append(item.record.path)
    for note, paths in notes.items():
        say(f"  {note}: {names(paths)}", "dim")


def _sheet(path: Path | None) -> None:
    if path is not None:
        say(f"contact sheet: {from_here(path)}")
