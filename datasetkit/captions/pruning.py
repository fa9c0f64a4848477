"""Pruning: which tags of captions to remove, add or keep, and why, from what is known of them.

What a caption does not say is learned by the trigger; what it says stays with the prompt. So tags
of what is fixed about the subject are removed, and tags of what should stay changeable are kept.
Only suggestions: what needs a look at the image is not recommended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from datasetkit.captions.caption import normal_form, with_entries
from datasetkit.captions.contradictions import contradictions, load_contradictions
from datasetkit.captions.grammar import Entry
from datasetkit.captions.implications import close_chains, load_implications
from datasetkit.captions.selectors import glob_pattern, load_groups
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.records import Caption

PruneKind = Literal["character", "face", "garment", "style"]
PRUNE_KINDS: Final[tuple[PruneKind, ...]] = get_args(PruneKind)
Action = Literal["remove", "add", "keep"]
Why = Literal[
    "redundant", "contradiction", "fixed", "in all", "threshold", "missing", "singleton", "varies"
]

# A tag in this share of the images is about the subject; in this share, about all of them.
MOST: Final = 0.8
NEARLY_ALL: Final = 0.95
# Fewer images say nothing about shares, and nothing about tags in one image alone.
LEAST_IMAGES: Final = 5
LEAST_FOR_SINGLETONS: Final = 10
# A score so close above the threshold could as well be below it.
CLOSE: Final = 0.05
# Of two tags that exclude each other the one with a score lower by so much is recommended.
CLEARLY: Final = 0.2
_STEPS: Final = 10_000

# The shape and the skin of a body.
_BODY: Final = glob_pattern(
    (
        "flat chest", "* breasts", "abs", "muscular*", "toned*", "curvy", "plump", "petite", "tall",
        "tall female", "tan", "dark skin", "very dark skin", "pale skin", "*colored skin",
        "white skin", "black skin", "blue skin", "green skin", "grey skin", "red skin",
        "purple skin", "pink skin", "yellow skin", "orange skin",
    )
)  # fmt: skip
_NOT_BODY: Final = glob_pattern(
    (
        "* on breasts", "* between breasts", "* over breasts", "* under breasts", "bouncing *",
        "covering *", "hanging *", "looking *", "bursting *", "framed *", "grabbing *",
    )
)  # fmt: skip
# What is fixed about the subject, always or where most images have it, for each kind.
_ALWAYS: Final[Mapping[PruneKind, tuple[str, ...]]] = {
    "character": ("face",),
    "face": ("face", "eyes"),
    "garment": (),
    "style": (),
}
_WHERE_MOST: Final[Mapping[PruneKind, tuple[str, ...]]] = {
    "character": ("eyes", "hair", "body"),
    "face": ("hair",),
    "garment": ("clothes",),
    "style": (),
}
_PARTS: Final = {
    "face": "a part of the face",
    "eyes": "eyes of the subject",
    "hair": "hair of the subject",
    "body": "body of the subject",
    "clothes": "the garment itself",
}
_KEPT: Final = {
    "background": "background",
    "clothes": "clothes",
    "hair": "hair that changes",
    "eyes": "eyes that change",
    "count": "number of people",
    "meta": "what was added to the image",
}


@dataclass(frozen=True, slots=True)
class TaggedImage:
    """The tags of an image in normal form. folder: of its concept. scores: of a tagger, in units of
    1e-4, by normal form; threshold: in the same unit.
    """

    path: Path
    folder: Path
    forms: tuple[str, ...]
    scores: Mapping[str, int] = field(default_factory=dict)
    threshold: int = 3500


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One row of the table. images: those that it changes, or for `keep` those with the tag; of: of
    so many images of the folder. recommended: it needs no look at the images. folder: its name.
    """

    action: Action
    tag: str
    why: Why
    reason: str
    images: tuple[Path, ...]
    of: int
    recommended: bool = False
    folder: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what names the row in its table."""
        return self.folder, self.action, self.tag, self.why


def suggest(
    images: Sequence[TaggedImage],
    kind: PruneKind,
    triggers: Collection[str],
    vocabulary: Vocabulary,
) -> tuple[Suggestion, ...]:
    """Return the rows for the tags of some images: what to remove or add, then what to keep.

    triggers: in normal form; no row is about them. A tag of an image is in one row at most.
    """
    table = _Table(images, kind, frozenset(triggers), vocabulary)
    for find in (_redundant, _contradictory, _fixed, _in_all, _close, _singletons):
        for suggestion in find(table):
            table.add(suggestion)
    rows = [*table.rows, *_missing(table)]
    order = {"remove": 0, "add": 1, "keep": 2}
    rows += _kept(table)
    return tuple(
        sorted(rows, key=lambda r: (order[r.action], not r.recommended, -len(r.images), r.tag))
    )


def taken(caption: Caption, image: Path, rows: Sequence[Suggestion]) -> Caption:
    """Return the caption of an image after these rows."""
    mine = [row for row in rows if image in row.images]
    removed = {row.tag for row in mine if row.action == "remove"}
    added = [row.tag for row in mine if row.action == "add"]
    if not removed and not added:
        return caption

    def change(tags: tuple[str, ...]) -> list[Entry]:
        kept: list[Entry] = [
            (n, tag) for n, tag in enumerate(tags) if normal_form(tag) not in removed
        ]
        forms = {normal_form(tag) for tag in tags}
        return kept + [(None, tag) for tag in added if tag not in forms]

    return with_entries(caption, change)


class _Table:
    """The rows so far. free: image -> its tags that no row is about yet."""

    def __init__(
        self,
        images: Sequence[TaggedImage],
        kind: PruneKind,
        triggers: frozenset[str],
        vocabulary: Vocabulary,
    ) -> None:
        self.images, self.kind, self.vocabulary = images, kind, vocabulary
        self.triggers = triggers
        self.free = {image.path: set(image.forms) - triggers for image in images}
        self.rows: list[Suggestion] = []
        self._groups: dict[str, frozenset[str]] = {}

    def add(self, row: Suggestion) -> None:
        images = tuple(path for path in row.images if row.tag in self.free[path])
        if images:
            for path in images:
                self.free[path].discard(row.tag)
            self.rows.append(replace(row, images=images))

    def holders(self) -> dict[str, list[Path]]:
        """Return tag -> the images where no row is about it yet, in order."""
        having: defaultdict[str, list[Path]] = defaultdict(list)
        for image in self.images:
            for form in dict.fromkeys(image.forms):
                if form in self.free[image.path]:
                    having[form].append(image.path)
        return dict(having)

    def groups_of(self, form: str) -> frozenset[str]:
        if form not in self._groups:
            category = self.vocabulary.category(form)
            names = {n for n, group in load_groups().items() if group.matches(form, category)}
            if _BODY.match(form) and not _NOT_BODY.match(form):
                names.add("body")
            self._groups[form] = frozenset(names)
        return self._groups[form]

    def share(self, number: int) -> float:
        return number / len(self.images)


@cache
def _generals() -> Mapping[str, tuple[str, ...]]:
    """Return general tag -> the specific ones that imply it."""
    specific: defaultdict[str, list[str]] = defaultdict(list)
    for tag, general in close_chains(load_implications("common")):
        specific[normal_form(general)].append(normal_form(tag))
    return {general: tuple(tags) for general, tags in specific.items()}


def _redundant(table: _Table) -> Iterator[Suggestion]:
    beside: defaultdict[str, Counter[str]] = defaultdict(Counter)
    having: defaultdict[str, list[Path]] = defaultdict(list)
    for image in table.images:
        forms = frozenset(image.forms)
        for general in forms & _generals().keys():
            specific = [tag for tag in _generals()[general] if tag in forms]
            if specific:
                beside[general].update(specific)
                having[general].append(image.path)
    for general, counts in beside.items():
        names = ", ".join(tag for tag, _ in counts.most_common(3))
        reason = f"says nothing new beside {names}"
        yield _row(table, "remove", general, "redundant", reason, having[general], True)


def _contradictory(table: _Table) -> Iterator[Suggestion]:
    rows: defaultdict[tuple[str, str, bool], list[Path]] = defaultdict(list)
    for image in table.images:
        for pair in contradictions(frozenset(image.forms), load_contradictions()):
            if not table.triggers.isdisjoint(pair):
                continue
            high, low = sorted(pair, key=lambda tag: (-image.scores.get(tag, 0), tag))
            gap = image.scores.get(high, 0) - image.scores.get(low, 0)
            is_clear = low in image.scores and gap >= CLEARLY * _STEPS
            rows[low, high, is_clear].append(image.path)
    for (low, high, is_clear), paths in rows.items():
        reason = f"{high} is in the same caption" + (
            ", with a clearly higher score" if is_clear else ": look which of them is right"
        )
        yield _row(table, "remove", low, "contradiction", reason, paths, is_clear)


def _fixed(table: _Table) -> Iterator[Suggestion]:
    always, where_most = _ALWAYS[table.kind], _WHERE_MOST[table.kind]
    for form, paths in table.holders().items():
        groups = table.groups_of(form)
        # @face has the eye colours, too; they are fixed only where most images have them.
        part = next((name for name in always if name in groups), "")
        if part == "face" and "eyes" in groups and "eyes" not in always:
            part = ""
        if part:
            reason = f"{_PARTS[part]}: the trigger learns it"
            yield _row(table, "remove", form, "fixed", reason, paths, True)
            continue
        part = next((name for name in where_most if name in groups), "")
        if part and len(table.images) >= LEAST_IMAGES and table.share(len(paths)) >= MOST:
            reason = f"{_PARTS[part]}, in most images: the trigger learns it"
            yield _row(table, "remove", form, "fixed", reason, paths, True)


def _in_all(table: _Table) -> Iterator[Suggestion]:
    if len(table.images) < LEAST_IMAGES:
        return
    for form, paths in table.holders().items():
        if table.share(len(paths)) >= NEARLY_ALL and "count" not in table.groups_of(form):
            reason = "in nearly all images: remove it if the trigger should mean it"
            yield _row(table, "remove", form, "in all", reason, paths, False)


def _close(table: _Table) -> Iterator[Suggestion]:
    limits = {
        image.path: (image.threshold, image.threshold + CLOSE * _STEPS) for image in table.images
    }
    scores = {image.path: image.scores for image in table.images}
    for form, paths in table.holders().items():
        scored = [path for path in paths if form in scores[path]]
        close = [p for p in scored if limits[p][0] <= scores[p][form] < limits[p][1]]
        if close and 2 * len(close) > len(scored):
            least = min(scores[path][form] for path in close) / _STEPS
            reason = f"scores just above the threshold, from {least:.2f}: look if it is there"
            yield _row(table, "remove", form, "threshold", reason, close, False)


def _singletons(table: _Table) -> Iterator[Suggestion]:
    if len(table.images) < LEAST_FOR_SINGLETONS:
        return
    for form, paths in table.holders().items():
        if len(paths) == 1:
            reason = "in one caption only: nothing can be learned from it"
            yield _row(table, "remove", form, "singleton", reason, paths, False)


def _missing(table: _Table) -> Iterator[Suggestion]:
    """Yield what most images of a folder show and some captions do not say."""
    if len(table.images) < LEAST_IMAGES:
        return
    suggested = {row.tag for row in table.rows if row.why in ("fixed", "in all", "redundant")}
    for form, paths in table.holders().items():
        if form in suggested or not MOST <= table.share(len(paths)) < 1:
            continue
        having = set(paths)
        lacking = [
            image
            for image in table.images
            if image.path not in having
            and form not in image.forms
            and not any(tag in image.forms for tag in _generals().get(form, ()))
        ]
        if lacking:
            best = max(image.scores.get(form, 0) for image in lacking) / _STEPS
            reason = f"{len(paths)} of {len(table.images)} captions have it"
            reason += f"; best score here {best:.2f}" if best else ""
            yield _row(table, "add", form, "missing", reason, [i.path for i in lacking], False)


def _kept(table: _Table) -> Iterator[Suggestion]:
    for form, paths in table.holders().items():
        groups = table.groups_of(form)
        what = next((_KEPT[name] for name in _KEPT if name in groups), "it can change")
        reason = f"{what}: the prompt keeps control of it"
        yield _row(table, "keep", form, "varies", reason, paths, False)


def _row(
    table: _Table,
    action: Action,
    tag: str,
    why: Why,
    reason: str,
    images: Sequence[Path],
    recommended: bool,
) -> Suggestion:
    return Suggestion(action, tag, why, reason, tuple(images), len(table.images), recommended)


def chosen(rows: Sequence[Suggestion], wanted: Collection[str]) -> list[Suggestion]:
    """Return the rows of a table that are wanted: `recommended`, `all`, their numbers from 1, or
    their tags. Rows that keep a tag have nothing to do.

    Raises KeyError with a word that names no row.
    """
    usable = [row for row in rows if row.action != "keep"]
    picked: dict[tuple[str, ...], Suggestion] = {}
    for word in wanted:
        form = normal_form(word)
        if form == "recommended":
            matches = [row for row in usable if row.recommended]
        elif form == "all":
            matches = usable
        else:
            matches = [row for n, row in enumerate(usable, 1) if form in (str(n), row.tag)]
            if not matches:
                raise KeyError(word)
        picked |= {row.key: row for row in matches}
    return list(picked.values())
