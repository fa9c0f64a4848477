"""Fixes: one plan for the findings that can be fixed without a decision of the user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.captions.caption import (
    file_text,
    laid_out_text,
    parse,
    repeated,
    with_entries,
    with_source,
    with_tags,
)
from datasetkit.captions.grammar import BOM, Entry
from datasetkit.captions.invisible import without_invisible
from datasetkit.captions.separators import at_wide_commas
from datasetkit.captions.side_car_tags import unescape, without_namespace
from datasetkit.captions.typography import with_plain_letters
from datasetkit.captions.vocabulary import load
from datasetkit.checks.base import CaptionFile, CheckFinding, CheckFolder, CheckImage, CheckInput
from datasetkit.checks.caption_files import files_of_same_tags
from datasetkit.checks.captions import with_triggers_first
from datasetkit.checks.images import proper_name
from datasetkit.core.files import caption_path
from datasetkit.core.records import Caption
from datasetkit.project.plans import FileOp, Move, Plan, WriteText


def _unchanged(folder: CheckFolder, caption: Caption) -> Caption:
    return caption


def _without_marks(folder: CheckFolder, caption: Caption) -> Caption:
    return with_source(caption, (caption.source or "").replace(BOM, ""))


def _visible(folder: CheckFolder, caption: Caption) -> Caption:
    return with_source(caption, without_invisible(caption.source or ""))


def _on_one_line(folder: CheckFolder, caption: Caption) -> Caption:
    text = laid_out_text(caption)
    return with_source(parse(text, caption.syntax), text)


def _deduped(folder: CheckFolder, caption: Caption) -> Caption:
    def change(tags: tuple[str, ...]) -> list[Entry]:
        again = repeated(tags, caption.syntax)
        return [(n, tag) for n, tag in enumerate(tags) if n not in again]

    return with_entries(caption, change)


def _triggers_first(folder: CheckFolder, caption: Caption) -> Caption:
    return with_tags(caption, lambda tags: with_triggers_first(folder, tags, caption.syntax))


def _with_commas(folder: CheckFolder, caption: Caption) -> Caption:
    return at_wide_commas(caption, load())


SUFFIX: Final = "suffix"
ENCODING: Final = "caption-unreadable"
NAME: Final = "caption-name"


def _unescaped(folder: CheckFolder, caption: Caption) -> Caption:
    return with_entries(caption, lambda tags: list(enumerate(map(unescape, tags))))


def _bare(folder: CheckFolder, caption: Caption) -> Caption:
    return with_entries(caption, lambda tags: list(enumerate(map(without_namespace, tags))))


def _in_plain_letters(folder: CheckFolder, caption: Caption) -> Caption:
    return with_plain_letters(caption, folder.triggers)


# What each fix does to a caption; the rest of its text is not changed.
_CAPTIONS: Final[Mapping[str, Callable[[CheckFolder, Caption], Caption]]] = {
    "bom": _without_marks,
    "invisible": _visible,
    "lines": _on_one_line,
    NAME: _unchanged,
    "separator": _with_commas,
    "entities": _unescaped,
    "letters": _in_plain_letters,
    "namespace": _bare,
    "tag-twice": _deduped,
    "trigger-twice": _triggers_first,
    "trigger-first": _triggers_first,
}
# What gallery-dl and hydrus append to the full name of an image.
_SIDE_CARS: Final = (".txt", ".caption", ".json")


@dataclass(frozen=True, slots=True)
class FixPlan:
    """The plan, and the findings (by check and image) that it fixes.

    at_source: the source images of laid-out ones, where captions and names have to be fixed.
    """

    plan: Plan
    findings: frozenset[tuple[str, Path]]
    at_source: tuple[Path, ...]


def plan_fixes(
    data: CheckInput,
    findings: Iterable[CheckFinding],
    root: Path,
    trash: Path,
    kept: Collection[Path] = (),
) -> FixPlan:
    """Plan the fixes. root: of the project; trash: a new folder for files that are replaced; kept:
    files that must not be touched.

    The next layout would overwrite fixes in a laid-out folder, so images with a known source are
    left unchanged.
    """
    checks_by_path: defaultdict[Path, list[str]] = defaultdict(list)
    for finding in findings:
        fixable = finding.check in (SUFFIX, ENCODING) or finding.check in _CAPTIONS
        if fixable and not finding.step:
            checks_by_path[finding.path].append(finding.check)
    items = {item.path: item for item in data.items}
    taken_names = set(items)
    ops: list[FileOp] = []
    fixed: set[tuple[str, Path]] = set()
    at_source: list[Path] = []
    for path, checks in checks_by_path.items():
        item = items[path]
        source = data.sources.get(path.resolve())
        if source is not None and source.is_file():
            at_source.append(source)
            continue
        if any(path in kept for path in _caption_files(item)):
            continue
        done, new_ops, discarded = _fix_image(item, dict.fromkeys(checks), taken_names)
        ops += new_ops
        ops += [Move(p, trash / _below(p, root), data) for p, data in discarded.items()]
        fixed |= {(check, path) for check in done}
    return FixPlan(Plan(tuple(ops)), frozenset(fixed), tuple(at_source))


def _fix_image(
    item: CheckImage, checks: Collection[str], taken_names: set[Path]
) -> tuple[list[str], list[FileOp], Mapping[Path, bytes]]:
    """Return the checks whose findings are fixed for an image, the operations, and the files to
    move to the trash, with their content.
    """
    done, ops, discarded = _fix_caption(item, [check for check in checks if check != SUFFIX])
    if SUFFIX in checks and item.measures is not None:
        name = _free_name(item, item.measures.format, taken_names)
        if name is not None:
            taken_names.add(name)
            done.append(SUFFIX)
            ops.append(Move(item.path, name))
            ops += (
                Move(path, name.with_name(name.name + path.suffix))
                for path in _side_cars(item.path, discarded)
            )
    return done, ops, discarded


def _fix_caption(
    item: CheckImage, checks: Sequence[str]
) -> tuple[list[str], list[FileOp], Mapping[Path, bytes]]:
    """Return the same for the caption of an image: at most one operation that rewrites it."""
    caption = item.caption
    if caption is None:
        return [], [], {}
    if caption.fault:
        return _convert(item, caption, checks)
    done: list[str] = []
    discarded: dict[Path, bytes] = {}
    before = after = caption.caption
    for check in checks:
        if check == NAME:
            discarded = {} if caption.proper else {caption.path: caption.data}
            discarded |= files_of_same_tags(caption)
            if not discarded or caption.is_empty:
                continue
        new = _CAPTIONS[check](item.folder, after)
        if check == "separator" and new == after:
            continue  # spaces: they need a decision
        after = new
        done.append(check)
    # A misnamed caption is rewritten under its proper name only if that fix was selected.
    if not done or after.is_empty or not (caption.proper or NAME in done):
        return [], [], {}
    if caption.proper and file_text(after) == file_text(before):
        return done, [], discarded
    return done, [_rewrite(item, caption, file_text(after))], discarded


def _rewrite(item: CheckImage, caption: CaptionFile, text: str) -> WriteText:
    path = caption_path(item.path)
    # `a.TXT` is the same file as `a.txt` on a disk that ignores case.
    over = caption.data if caption.proper or path.exists() else None
    return WriteText(path, text, over)


def _convert(
    item: CheckImage, caption: CaptionFile, checks: Sequence[str]
) -> tuple[list[str], list[FileOp], Mapping[Path, bytes]]:
    """Return the same for a caption in another encoding: the text is written as UTF-8, otherwise
    as it is.
    """
    if ENCODING not in checks or parse(caption.converted).is_empty:
        return [], [], {}
    if caption.proper or NAME not in checks:
        return [ENCODING], [WriteText(caption.path, caption.converted, caption.data)], {}
    write = _rewrite(item, caption, caption.converted)
    return [ENCODING, NAME], [write], {caption.path: caption.data}


def _caption_files(item: CheckImage) -> tuple[Path, ...]:
    caption = item.caption
    others = () if caption is None else (caption.path, *caption.others)
    return (caption_path(item.path), *others)


def _free_name(item: CheckImage, form: str, taken_names: set[Path]) -> Path | None:
    """Return the name that an image should have; None if it, or one of its sidecars', exists."""
    name = proper_name(item.path, form)
    if name in taken_names or (name.exists() and not name.samefile(item.path)):
        return None
    others = (name.with_name(name.name + path.suffix) for path in _side_cars(item.path, ()))
    return None if any(path.exists() for path in others) else name


def _side_cars(image: Path, discarded: Collection[Path]) -> list[Path]:
    """Return the files named after the full name of an image, except discarded ones."""
    paths = (image.with_name(image.name + suffix) for suffix in _SIDE_CARS)
    return [path for path in paths if path.is_file() and path not in discarded]


def _below(path: Path, root: Path) -> Path:
    """Return a path relative to the project, or to the disk if it is outside: always unique."""
    whole = path.parent.resolve() / path.name
    return whole.relative_to(root if whole.is_relative_to(root) else whole.anchor)
