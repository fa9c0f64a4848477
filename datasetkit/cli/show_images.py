"""What `dsk cutout` and `dsk faces` print for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasetkit.cli import show
from datasetkit.cli.console import counted, images, say, table
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.cutout import CutoutResult
    from datasetkit.verbs.faces import FacesListResult, FacesResult
    from datasetkit.verbs.shared.face_report import FaceRegion, ImageFaces

_MOST = 20
_UP_TO_DATE = "up to date"


def cut(result: CutoutResult, dry_run: bool) -> None:
    done, skipped = result.report.done, result.report.skipped
    place, current = show.place(result.out), sum(s.reason == _UP_TO_DATE for s in skipped)
    if dry_run:
        say(
            f"would cut out {images(len(skipped) - current)} into {place}; {current:,} are "
            "up to date"
        )
    elif not done and skipped:
        hint = show.history_hint(result.entry, result.out)
        say(f"{place}: {images(len(skipped))}, all up to date{hint}")
    else:
        hint = show.history_hint(result.entry, result.out)
        where = f" on {done[0].value.device}" if done else ""
        say(
            f"{images(len(done))} cut out by {result.model}{where} into {place}, {current:,} "
            f"up to date{hint}"
        )
        say(f"  the model's licence: {result.licence}", "dim")
    show.followed(result, dry_run)
    show.reworded(result.captions, result.out, dry_run, "follow the background")
    _notes(result)
    if result.kept:
        say(f"  not cut out, there as they were: {_names(result.kept)}")
    show.problems([*result.report.failed, *result.captions.failed])


def faces(result: FacesResult[Any], dry_run: bool) -> None:
    done, skipped = result.report.done, result.report.skipped
    place, current = show.place(result.out), sum(s.reason == _UP_TO_DATE for s in skipped)
    without = [one.path for one in result.images if not one.faces]
    waiting = sum(s.reason.startswith("would") for s in skipped)
    numbers = counted(sum(len(one.faces) for one in result.images), "face")
    text = sum(len(one.text) for one in result.images)
    numbers += f" and {counted(text, 'line')} of text" if text else ""
    found = f"{numbers} in {images(len(result.images))}"
    if dry_run:
        say(f"{found}; would write {images(waiting)} to {place}; {current:,} are up to date")
    elif not done and current:
        say(f"{found}; {place}: all up to date{show.history_hint(result.entry, result.out)}")
    else:
        hint = show.history_hint(result.entry, result.out)
        say(f"{found}; {images(len(done))} worked on into {place}, {current:,} up to date{hint}")
    show.followed(result, dry_run)
    show.reworded(result.captions, result.out, dry_run, "lose what is gone")
    _notes(result)
    if without:
        say(f"  no face was found in: {_names(without)}")
    if result.small:
        say(
            f"  too small to crop, a face of: {_names(result.small)} (--min-size takes smaller "
            "ones)"
        )
    _sheet(result.sheet)
    show.problems([*result.report.failed, *result.captions.failed])


def listed_faces(result: FacesListResult, dry_run: bool) -> None:
    rows = [_row(one) for one in result.images]
    table("", ["image", "size", "faces", "text"], rows, right=["size"])
    number = sum(len(one.faces) for one in result.images)
    without = sum(not one.faces for one in result.images)
    say(f"{counted(number, 'face')} in {images(len(result.images))}, {without:,} without")
    _sheet(result.sheet)
    show.problems(result.failed)


def _row(one: ImageFaces) -> tuple[object, ...]:
    return (
        display(one.path.name),
        f"{one.width}x{one.height}",
        _regions(one.faces),
        _regions(one.text),
    )


def _regions(of: tuple[FaceRegion, ...]) -> str:
    return (
        "\n".join(
            f"{r.score:.2f} at {r.left},{r.top} {r.right - r.left}x{r.bottom - r.top}" for r in of
        )
        or "-"
    )


def _notes(result: CutoutResult | FacesResult[Any]) -> None:
    for note in dict.fromkeys(item.note for item in result.report.done if item.note):
        say(
            f"  {note}: "
            f"{_names([item.record.path for item in result.report.done if item.note == note])}",
            "dim",
        )


def _names(paths: list[Path] | tuple[Path, ...]) -> str:
    shown = ", ".join(display(path.name) for path in paths[:_MOST])
    return shown + (f" and {len(paths) - _MOST:,} more" if len(paths) > _MOST else "")


def _sheet(path: Path | None) -> None:
    if path is not None:
        say(f"look at {show.place(path)}")
