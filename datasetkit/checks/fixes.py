"""Mending: the findings that can be mended without a doubt, as one plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.captions.caption import dedupe, file_text
from datasetkit.checks.base import CheckFinding, CheckFolder, CheckImage, CheckInput
from datasetkit.checks.caption_files import same_tags
from datasetkit.checks.captions import with_triggers
from datasetkit.checks.images import proper_name
from datasetkit.core.files import caption_path
from datasetkit.core.records import Caption
from datasetkit.project.plans import FileOp, Move, Plan, WriteText

_Tags = tuple[str, ...]


def _as_read(place: CheckFolder, tags: Sequence[str]) -> _Tags:
    return tuple(tags)


def _once(place: CheckFolder, tags: Sequence[str]) -> _Tags:
    return dedupe(tags)


# What each check's fix makes of a caption's tags. Reading them has joined the lines and dropped the
# marks already.
_CAPTIONS: Final[Mapping[str, Callable[[CheckFolder, Sequence[str]], _Tags]]] = {
    "bom": _as_read,
    "lines": _as_read,
    "caption-name": _as_read,
    "tag-twice": _once,
    "trigger-twice": with_triggers,
    "trigger-first": with_triggers,
}
SUFFIX: Final = "suffix"
# What gallery-dl and hydrus add to the whole name of an image.
_SIDE_CARS: Final = (".txt", ".caption", ".json")


@dataclass(frozen=True, slots=True)
class FixPlan:
    """The plan, and the findings (by check and image) that it mends.

    at_source: laid-out images whose captions and names come from elsewhere, where they want to be
    mended.
    """

    plan: Plan
    findings: frozenset[tuple[str, Path]]
    at_source: tuple[Path, ...]


def mend(of: CheckInput, findings: Iterable[CheckFinding], root: Path, trash: Path) -> FixPlan:
    """Plan what mends the findings. root: of the project; trash: a fresh folder for files that are
    replaced by others.

    The next layout would overwrite what is mended in a laid-out folder: images whose source is
    known stay as they are.
    """
    wanted: defaultdict[Path, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.check == SUFFIX or finding.check in _CAPTIONS:
            wanted[finding.path].append(finding.check)
    items = {item.path: item for item in of.items}
    taken = set(items)
    ops: list[FileOp] = []
    mended: set[tuple[str, Path]] = set()
    at_source: list[Path] = []
    for path, checks in wanted.items():
        item = items[path]
        source = of.sources.get(path.resolve())
        if source is not None and source.is_file():
            at_source.append(source)
            continue
        done, new, put_away = _mend_one(item, dict.fromkeys(checks), taken)
        ops += new
        ops += [Move(path, trash / _below(path, root)) for path in put_away]
        mended |= {(check, path) for check in done}
    return FixPlan(Plan(tuple(ops)), frozenset(mended), tuple(at_source))


def _mend_one(
    item: CheckImage, checks: Iterable[str], taken: set[Path]
) -> tuple[list[str], list[FileOp], list[Path]]:
    """Return the checks whose findings are mended for an image, the operations, and the files to
    put away.
    """
    done: list[str] = []
    ops: list[FileOp] = []
    caption, put_away = item.caption, list[Path]()
    tags: Sequence[str] = caption.tags if caption is not None else ()
    name: Path | None = None
    for check in checks:
        if check == SUFFIX and item.looks is not None:
            name = _free_name(item, item.looks.format, taken)
        elif caption is not None and (check != "caption-name" or caption.tags):
            if check == "caption-name":
                same = [path for path in caption.others if same_tags(caption, path)]
                put_away = same if caption.proper else [caption.path, *same]
                if not put_away:
                    continue
            tags = _CAPTIONS[check](item.place, tags)
            done.append(check)
    if done and tags and caption is not None and (caption.proper or "caption-name" in done):
        ops.append(WriteText(caption_path(item.path), file_text(Caption(tuple(tags)))))
    else:
        done, put_away = [], []
    if name is not None:
        taken.add(name)
        done.append(SUFFIX)
        ops.append(Move(item.path, name))
        ops += (
            Move(path, name.with_name(name.name + path.suffix))
            for path in _side_cars(item.path, put_away)
        )
    return done, ops, put_away


def _free_name(item: CheckImage, form: str, taken: set[Path]) -> Path | None:
    """Return the name that an image should have, and its side-cars with it, where nothing has it
    yet.
    """
    name = proper_name(item.path, form)
    if name in taken or (name.exists() and not name.samefile(item.path)):
        return None
    others = (name.with_name(name.name + path.suffix) for path in _side_cars(item.path, ()))
    return None if any(path.exists() for path in others) else name


def _side_cars(image: Path, put_away: Sequence[Path]) -> list[Path]:
    """Return the files beside an image that carry its whole name, and stay."""
    paths = (image.with_name(image.name + suffix) for suffix in _SIDE_CARS)
    return [path for path in paths if path.is_file() and path not in put_away]


def _below(path: Path, root: Path) -> Path:
    """Return a path as seen from the project, for one outside as seen from the disk: two are never
    the same.
    """
    whole = path.parent.resolve() / path.name
    return whole.relative_to(root if whole.is_relative_to(root) else whole.anchor)
