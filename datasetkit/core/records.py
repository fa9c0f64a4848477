"""The records that pass between modules: an image, its caption, and the outcome of work on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)
# How many images that were skipped for one reason are named.
_NAMED = 4

# What a caption is: tags; a sentence; or lines of tags and lines that are sentences.
CaptionKind = Literal["tags", "sentence", "mixed"]


@dataclass(frozen=True, slots=True)
class CaptionSyntax:
    """What dsk.toml says about the text of captions: the options of `[train]` under their own
    names, the kind, and leading: the words that may stand before a sentence as tags of their own
    (triggers and additional tags).
    """

    keep_tokens_separator: str = ""
    secondary_separator: str = ""
    enable_wildcard: bool = False
    weighted_captions: bool = False
    kind: CaptionKind = "tags"
    leading: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caption:
    """The tags of one image, in order, and its sentences.

    A sentence is one piece: it is never among the tags, so that nothing that changes tags can
    change it. marks: the boundaries that are not commas, as (number of tags before it, its text):
    `|||`, line breaks where lines are separate captions, and sentences. syntax: how the text was
    parsed. source: the text that was read, None for a caption that was made from tags. Neither
    counts in a comparison; marks has the sentences, too.
    """

    tags: tuple[str, ...]
    marks: tuple[tuple[int, str], ...] = field(default=(), repr=False)
    syntax: CaptionSyntax = field(default=CaptionSyntax(), compare=False, repr=False)
    source: str | None = field(default=None, compare=False, repr=False)
    sentences: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_empty(self) -> bool:
        """Tell whether the caption has no tag and no sentence."""
        return not self.tags and not self.sentences

    @property
    def pieces(self) -> tuple[str, ...]:
        """Return the tags, then the sentences."""
        return self.tags + self.sentences

    def text(self) -> str:
        """Return the caption without the newline at its end: tags joined by a comma and a space,
        or by their marks. It is one line, unless it has lines of tags and sentences, or lines that
        are separate captions.
        """
        if not self.marks:
            return ", ".join(self.tags)
        marks = dict(self.marks)
        parts = [marks.get(0, "")]
        for n, tag in enumerate(self.tags):
            if n:
                parts.append(marks.get(n, ", "))
            parts.append(tag)
        return "".join((*parts, marks.get(len(self.tags), "") if self.tags else ""))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a dataset.

    id: the first 16 hex digits of the sha256 of its bytes, "" if the caller needs none. width,
    height: in pixels, after the EXIF turn. caption: from the `.txt` of the same stem, None if there
    is no such file. caption_data: the bytes that it was read from, over which a new one is written.
    caption_fault: why these bytes are not text; None if they are, or without a file.
    """

    path: Path
    id: str
    width: int
    height: int
    caption: Caption | None = None
    caption_data: bytes | None = field(default=None, repr=False)
    caption_fault: Failed | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """The work on one image succeeded. value: its result."""

    record: ImageRecord
    value: T_co
    note: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing had to be done for this image. reason: why, in one line."""

    record: ImageRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The work on one image failed; the others go on. error: the reason, in one line."""

    path: Path
    error: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is in the way of a listing and not used.

    kind: HEIC, video, ...; group: image, name (an image by its content, not by its name), video,
    archive, hidden, link, folder (a subfolder with images) or system. advice: what to do about it,
    in one line.
    """

    path: Path
    kind: str
    group: str
    advice: str = ""


Outcome = Done[T_co] | Skipped | Failed


@dataclass(frozen=True, slots=True)
class SkippedImages:
    """How many images were skipped for one reason. captioned: whether they have a caption; first:
    the paths of some.
    """

    reason: str
    captioned: bool
    images: int
    first: tuple[Path, ...]


class LazyItems(Sequence[T_co]):
    """Items that are made when somebody reads one. number: how many there are, as it is known
    before.
    """

    def __init__(self, make: Callable[[], Sequence[T_co]], number: int) -> None:
        self._make, self._number = make, number
        self._items: Sequence[T_co] | None = None

    def _all(self) -> Sequence[T_co]:
        if self._items is None:
            self._items = tuple(self._make())
        return self._items

    def __len__(self) -> int:
        return self._number if self._items is None else len(self._items)

    @overload
    def __getitem__(self, at: int) -> T_co: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T_co]: ...
    def __getitem__(self, at: int | slice) -> T_co | Sequence[T_co]:
        return self._all()[at]

    def __iter__(self) -> Iterator[T_co]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self._all()) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self._all()))


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """How the work on images ended. failed: all of them."""

    done: int
    skipped: tuple[SkippedImages, ...]
    failed: tuple[Failed, ...]

    @property
    def images(self) -> int:
        """Return the number of images."""
        return self.done + sum(each.images for each in self.skipped) + len(self.failed)


@dataclass(frozen=True, slots=True)
class RunReport(Generic[T_co]):
    """The outcomes of a stage, one for each image, in input order. unused_files: what the folder
    has besides, and is left out. known_counts: where the outcomes are lazy.
    """

    stage: str
    outcomes: Sequence[Outcome[T_co]]
    unused_files: tuple[LeftOut, ...] = ()
    known_counts: OutcomeCounts | None = field(default=None, compare=False, repr=False)

    @property
    def done(self) -> Sequence[Done[T_co]]:
        return [o for o in self.outcomes if isinstance(o, Done)]

    @property
    def skipped(self) -> Sequence[Skipped]:
        return [o for o in self.outcomes if isinstance(o, Skipped)]

    @property
    def failed(self) -> Sequence[Failed]:
        if self.known_counts is not None:
            return self.known_counts.failed
        return [o for o in self.outcomes if isinstance(o, Failed)]

    @property
    def counts(self) -> OutcomeCounts:
        """Return how many images were done, and how many skipped for which reason."""
        return self.known_counts or _counted(self.outcomes)


def _counted(outcomes: Iterable[Outcome[object]]) -> OutcomeCounts:
    done = 0
    failed: list[Failed] = []
    skipped: Counter[tuple[str, bool]] = Counter()
    first: defaultdict[tuple[str, bool], list[Path]] = defaultdict(list)
    for outcome in outcomes:
        if isinstance(outcome, Done):
            done += 1
        elif isinstance(outcome, Failed):
            failed.append(outcome)
        else:
            caption = outcome.record.caption
            captioned = caption is not None and not caption.is_empty
            group = (outcome.reason, captioned)
            skipped[group] += 1
            if skipped[group] <= _NAMED:
                first[group].append(outcome.record.path)
    groups = tuple(
        SkippedImages(*group, number, tuple(first[group])) for group, number in skipped.items()
    )
    return OutcomeCounts(done, groups, tuple(failed))


def unused_files(result: object) -> tuple[LeftOut, ...]:
    """Return the files that any verb's result says were left out."""
    report = getattr(result, "report", None)
    holder = report if isinstance(report, RunReport) else result
    return tuple(getattr(holder, "unused_files", ()))
