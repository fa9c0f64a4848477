"""Reports: the frequency of tags in a dataset, and the pairs of tags that occur together."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.spelling import near_pairs
from datasetkit.core.files import display, write_atomic
from datasetkit.core.packed import PackedList
from datasetkit.dataset.charts import IN_ALL, TOTAL, TRIGGER, tag_chart
from datasetkit.dataset.pair_counts import PairCounts

if TYPE_CHECKING:
    from pandas import DataFrame

    from datasetkit.captions.vocabulary import Vocabulary

__all__ = [
    "IN_ALL", "SINGLETON", "TOTAL", "TRIGGER", "UNKNOWN",
    "CaptionedImage", "columns", "conditional", "cooccurrence", "csv_text", "frequency", "plot",
]  # fmt: skip

SINGLETON: Final = "singleton"
UNKNOWN: Final = "not in vocabulary"
# Spreadsheets run cells that begin with these as formulas, and tags do (`=_=`, `+_+`, `@_@`); also
# the wide forms, in East Asian locales (OWASP, CSV Injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image of a concept with its caption.

    repeats: samples per epoch. tags, sentences: its caption. scores: of the tagger (0..1), None
    for a hand-written caption.
    """

    concept: str
    repeats: int
    image: Path
    tags: tuple[str, ...]
    scores: Mapping[str, float] | None = None
    sentences: tuple[str, ...] = ()


def frequency(
    items: Sequence[CaptionedImage], triggers: Sequence[str], vocabulary: Vocabulary
) -> DataFrame:
    """Count the tags of each concept and of the whole set (`(total)`), the most frequent first,
    ties by tag.

    One row per concept and spelling of a tag, with the columns: concept; tag; category (`trigger`,
    that of the vocabulary, or blank); images with the tag; of_images, the images of the concept;
    percent = images / of_images * 100; weighted, the samples per epoch of those images; mean_score
    (blank if there is none); for each trigger T `P(tag | T)`, the share of the images with T that
    have the tag (blank if none has T); flags, joined by `; `. A tag in all images is learned as
    part of the trigger. Of two near spellings the less trusted one is flagged.
    """
    from pandas import DataFrame

    near_spellings = _near_flags(items, triggers, vocabulary)
    trigger_forms = {normal_form(trigger) for trigger in triggers}
    rows: list[dict[str, object]] = []
    counted: Sequence[CaptionedImage] | None = None
    for concept, members in _concepts(items):
        if members is not counted:  # one concept may be the whole set
            counts, means = _TagCounts.of(members, triggers), _mean_scores(members)
            counted = members
        for tag, images in sorted(counts.images.items(), key=lambda pair: (-pair[1], pair[0])):
            is_trigger = normal_form(tag) in trigger_forms
            flags = _flags(images, len(members), is_trigger=is_trigger)
            flags += [f"near {other}" for other in near_spellings.get(tag, ())]
            flags += [UNKNOWN] if not is_trigger and tag not in vocabulary else []
            rows.append(
                {
                    "concept": concept,
                    "tag": tag,
                    "category": TRIGGER if is_trigger else vocabulary.category(tag) or "",
                    "images": images,
                    "of_images": len(members),
                    "percent": round(100 * images / len(members), 2),
                    "weighted": counts.samples[tag],
                    "mean_score": means.get(normal_form(tag), math.nan),
                    **{conditional(t): counts.share(tag, t) for t in triggers},
                    "flags": "; ".join(flags),
                }
            )
    return DataFrame(rows, columns=columns(triggers))


def columns(triggers: Sequence[str]) -> list[str]:
    """Return the column names of the frequency table."""
    fixed = [
        "concept",
        "tag",
        "category",
        "images",
        "of_images",
        "percent",
        "weighted",
        "mean_score",
    ]
    return [*fixed, *(conditional(trigger) for trigger in triggers), "flags"]


def conditional(trigger: str) -> str:
    """Return the name of the column with the share of a trigger's images that have the tag."""
    return f"P(tag | {trigger})"


def cooccurrence(items: Sequence[CaptionedImage]) -> DataFrame:
    """List the pairs of tags that occur together in two or more images, per concept and `(total)`.

    Columns: concept; tag_a < tag_b; images with both; jaccard = both / either (1 = always
    together); lift = how many times more often together than if they were independent. Sorted by
    images, then jaccard, then tags.
    """
    from pandas import DataFrame

    names = ["concept", "tag_a", "tag_b", "images", "jaccard", "lift"]
    rows: list[tuple[str, str, str, int, float, float]] = []
    of_concept: list[tuple[str, str, str, int, float, float]] = []
    counted: Sequence[CaptionedImage] = ()
    for concept, members in _concepts(items):
        if len(members) == len(counted):  # one concept is the whole set
            rows.extend((concept, *row[1:]) for row in of_concept)
            continue
        single = Counter(tag for member in members for tag in set(member.tags))
        of_concept = []
        for a, b, n in _pairs(members, sorted(single)):
            jaccard = round(n / (single[a] + single[b] - n), 4)
            lift = round(n * len(members) / (single[a] * single[b]), 4)
            of_concept.append((concept, a, b, n, jaccard, lift))
        of_concept.sort(key=lambda row: (-row[3], -row[4], row[1], row[2]))
        rows.extend(of_concept)
        counted = members
    return DataFrame(rows, columns=names)


def _pairs(
    members: Sequence[CaptionedImage], tags: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """Yield the pairs of tags that two or more members have, with the number of these. tags: all of
    them, sorted.
    """
    import numpy as np

    # A pair is one number, so that numpy counts them: some ten times as fast as a dict of tuples.
    codes = {tag: code for code, tag in enumerate(tags)}
    counts = PairCounts(len(tags))
    for member in members:
        counts.add(np.array(sorted({codes[tag] for tag in member.tags}), np.int64))
    for pair, n in counts.repeated():
        yield tags[pair // len(tags)], tags[pair % len(tags)], n


def csv_text(frame: DataFrame, *, excel: bool = False) -> str:
    """Return a table as CSV by RFC 4180 (commas, CRLF, doubled quotes), to be encoded as UTF-8.

    Text that a spreadsheet could run gets an apostrophe in front of it. excel: so does text that it
    would only show as an error (`=_=`), and the file starts with a byte-order mark.
    """
    from pandas.api.types import is_numeric_dtype

    guard = cache(_guarded if excel else _disarmed)  # a tag is in many rows
    frame = frame.rename(columns=guard)
    for column in frame.columns:
        if not is_numeric_dtype(frame[column]):
            frame[column] = frame[column].map(guard)
    text: str = frame.to_csv(index=False, lineterminator="\r\n")
    return "\ufeff" + text if excel else text


def plot(frame: DataFrame, path: Path | None = None) -> bytes:
    """Draw the 30 most frequent tags of each concept of a frequency table; return the PNG, and
    write it to `path`.
    """
    png = tag_chart(frame)
    if path is not None:
        write_atomic(path, png)
    return png


def _concepts(items: Sequence[CaptionedImage]) -> list[tuple[str, Sequence[CaptionedImage]]]:
    """Return the items of each concept by name, then all items as `(total)`."""
    by_name: defaultdict[str, PackedList[CaptionedImage]] = defaultdict(PackedList)
    for item in items:
        by_name[item.concept].append(item)
    if len(by_name) == 1:  # the whole set: it need not be kept twice
        return [(name, items) for name in (*by_name, TOTAL)]
    return [*sorted(by_name.items()), (TOTAL, items)] if items else []


@dataclass(frozen=True, slots=True)
class _TagCounts:
    """How many members of a concept have each tag, and how many samples per epoch these are.

    with_trigger: how many have a trigger, in any spelling; beside: how many have it and the tag.
    """

    images: Counter[str]
    samples: Counter[str]
    with_trigger: Counter[str]
    beside: Mapping[str, Counter[str]]

    @classmethod
    def of(cls, members: Sequence[CaptionedImage], triggers: Sequence[str]) -> _TagCounts:
        by_repeats: defaultdict[int, Counter[str]] = defaultdict(Counter)
        with_trigger: Counter[str] = Counter()
        beside: dict[str, Counter[str]] = {trigger: Counter() for trigger in triggers}
        forms = {trigger: normal_form(trigger) for trigger in triggers}
        for member in members:
            tags = set(member.tags)
            by_repeats[member.repeats].update(tags)
            tag_forms = set(map(normal_form, tags)) if triggers else set[str]()
            for trigger in triggers:
                if forms[trigger] in tag_forms:
                    with_trigger[trigger] += 1
                    beside[trigger].update(tags)
        images: Counter[str] = Counter()
        samples: Counter[str] = Counter()
        for repeats, counts in by_repeats.items():
            images.update(counts)
            samples.update({tag: repeats * n for tag, n in counts.items()})
        return cls(images, samples, with_trigger, beside)

    def share(self, tag: str, trigger: str) -> float:
        """Return the share of the images with a trigger that have the tag; NaN if none has it."""
        images = self.with_trigger[trigger]
        return round(self.beside[trigger][tag] / images, 4) if images else math.nan


def _mean_scores(members: Sequence[CaptionedImage]) -> dict[str, float]:
    """Return the mean score of each tag (by normal form) over the images that have the tag and a
    score for it.
    """
    values_by_tag: defaultdict[str, list[float]] = defaultdict(list)
    for member in members:
        if member.scores is not None:
            scores = {normal_form(name): score for name, score in member.scores.items()}
            for tag in {normal_form(tag) for tag in member.tags} & scores.keys():
                values_by_tag[tag].append(scores[tag])
    # fsum is exact, so the order of the images does not matter.
    return {tag: round(math.fsum(vs) / len(vs), 4) for tag, vs in values_by_tag.items()}


def _flags(images: int, of_images: int, *, is_trigger: bool) -> list[str]:
    """Return the flags of an image count; none for a concept of one image."""
    if of_images < 2:
        return []
    if images == of_images:
        return [] if is_trigger else [IN_ALL]
    return [SINGLETON] if images == 1 else []


def _near_flags(
    items: Sequence[CaptionedImage], triggers: Sequence[str], vocabulary: Vocabulary
) -> dict[str, tuple[str, ...]]:
    """Return, for the less trusted tag of each pair of near spellings, the tag that it is near to.

    A trigger is trusted most, then a tag of the vocabulary, then the more frequent one. Two tags
    that are both in the vocabulary are not misspellings, unless they are two spellings of one tag.
    """
    trigger_forms = {normal_form(trigger) for trigger in triggers}
    images = Counter(tag for item in items for tag in set(item.tags))

    def is_known(tag: str) -> bool:
        return tag in vocabulary or normal_form(tag) in trigger_forms

    def trust(tag: str) -> tuple[bool, bool, bool, int]:
        is_trigger = normal_form(tag) in trigger_forms
        return tag in triggers, is_trigger, tag in vocabulary, images[tag]

    near: defaultdict[str, list[str]] = defaultdict(list)
    for pair in near_pairs(images, [tag for tag in images if not is_known(tag)]):
        if all(map(is_known, pair)) and normal_form(pair[0]) != normal_form(pair[1]):
            continue
        # With equal trust the plainer spelling (no underscore, lower case) is taken as correct.
        worse, better = sorted(
            pair, key=lambda tag: (trust(tag), "_" not in tag, tag == tag.lower(), tag)
        )
        near[worse].append(better)
    return {
        tag: tuple(sorted(others, key=lambda other: (-images[other], other))[:1])
        for tag, others in near.items()
    }


def _guarded(cell: object) -> object:
    """Prefix text that a spreadsheet would read as a formula, also one without a meaning."""
    cell = _printable(cell)
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _disarmed(cell: object) -> object:
    """Prefix text that a spreadsheet could run. Without a letter or digit it names no function and
    no cell: emoticons such as `=_=` stay as they are.
    """
    cell = _printable(cell)
    return _guarded(cell) if isinstance(cell, str) and any(map(str.isalnum, cell)) else cell


def _printable(cell: object) -> object:
    """Escape control characters, which a terminal would obey; line ends and tabs are plain text."""
    if not isinstance(cell, str) or cell.isprintable():
        return cell
    return "".join(
        display(c) if unicodedata.category(c) == "Cc" and c not in "\t\r\n" else c for c in cell
    )
