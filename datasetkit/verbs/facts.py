"""Facts: what filters ask of pictures, found out when it is first asked, and which pictures of a folder pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from datasetkit import looks, tokens
from datasetkit.core.captions import Caption, normal_form
from datasetkit.core.config import TagOptions
from datasetkit.core.errors import DskError
from datasetkit.core.filters import And, Compare, Flag, Node, Not, Or, parse
from datasetkit.core.predicates import folded, predicate
from datasetkit.core.records import ImageRecord
from datasetkit.core.store import Store
from datasetkit.verbs.stored import StoredScores


@dataclass(frozen=True, slots=True)
class Known:
    """What a data set knows of its pictures beyond their own files."""

    scores: Callable[[str], Mapping[str, int]]
    is_generated: Callable[[Caption], bool]
    has_twin: Callable[[Path], bool]


class PictureFacts:
    """The facts of one picture (see `core.predicates.Facts`); those that cost time are found when first asked."""

    def __init__(self, record: ImageRecord, below: str, concept: str, repeats: int, known: Known) -> None:
        """below: the path as people see it, from the data set's folder."""
        self.record, self._below, self._concept, self.repeats, self._known = record, below, concept, repeats, known

    def with_caption(self, caption: Caption | None) -> PictureFacts:
        """Return the facts of the same picture under another caption."""
        record = replace(self.record, caption=caption)
        return PictureFacts(record, self._below, self._concept, self.repeats, self._known)

    @property
    def _tags(self) -> tuple[str, ...]:
        return () if self.record.caption is None else self.record.caption.tags

    @cached_property
    def in_order(self) -> tuple[str, ...]:
        """The normal forms of the tags, in the caption's order."""
        return tuple(map(normal_form, self._tags))

    @cached_property
    def forms(self) -> Collection[str]:
        return frozenset(self.in_order)

    @cached_property
    def text(self) -> str:
        return ", ".join(self.in_order)

    @cached_property
    def name(self) -> str:
        return folded(self.record.path.name)

    @cached_property
    def path(self) -> str:
        return folded(self._below)

    @cached_property
    def concept(self) -> str:
        return folded(self._concept)

    @property
    def tags(self) -> int:
        return len(self._tags)

    @property
    def chars(self) -> int:
        return len(", ".join(self._tags))

    @cached_property
    def tokens(self) -> int:
        return tokens.count(", ".join(self._tags)) if self._tags else 0

    @property
    def scores(self) -> Mapping[str, int]:
        return self._known.scores(self.record.id)

    @property
    def dup(self) -> bool:
        return self._known.has_twin(self.record.path)

    @property
    def edited(self) -> bool:
        """Whether a person wrote the caption, or changed what dsk wrote."""
        caption = self.record.caption
        return caption is not None and bool(caption.tags) and not self._known.is_generated(caption)


def asks(node: Node | None) -> set[str]:
    """Return the fields that a filter asks for."""
    match node:
        case None:
            return set()
        case Not(part):
            return asks(part)
        case And(parts) | Or(parts):
            return set().union(*map(asks, parts))
        case Compare(field) | Flag(field):
            return {field}
        case _:
            return {node.field}


def needs_ids(where: str) -> bool:
    """Tell whether a filter can only be answered for pictures whose bytes were hashed. Raises FilterError."""
    return "score" in asks(parse(where))


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture and the concept that it belongs to."""

    record: ImageRecord
    concept: str
    repeats: int


def passing(placed: Iterable[Placed], where: str, folder: Path, store: Store, options: TagOptions) -> set[Path]:
    """Return the paths of the pictures that pass a filter. Raises FilterError."""
    node = parse(where)
    several = list(placed)
    asked = asks(node)
    scores = StoredScores(store, options)
    if "score" in asked:
        scores.read(store, [one.record.id for one in several])
    ours = store.generated(one.record.caption for one in several) if "edited" in asked else set()
    twins = _twins([one.record.path for one in several]) if "dup" in asked else set()
    known = Known(scores.by_form, ours.__contains__, twins.__contains__)
    passes = predicate(node)
    return {
        one.record.path
        for one in several
        if passes(PictureFacts(one.record, below(one.record.path, folder), one.concept, one.repeats, known))
    }


def below(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder, with `/`."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _twins(paths: list[Path]) -> set[Path]:
    """Return the pictures that have a near-duplicate among them; what cannot be read has none."""
    seen: list[tuple[Path, bytes]] = []
    for path in paths:
        try:
            seen.append((path, looks.look(looks.small(path, looks.SEEN_AT))))
        except DskError:
            continue
    return {seen[place][0] for group in looks.groups([one for _, one in seen]) for place in group}
