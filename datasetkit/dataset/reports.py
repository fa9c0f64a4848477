"""Reports: how often each tag stands in a dataset, what it comes together with, and what that will
teach the model.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.captions.caption import normal_form
from datasetkit.captions.spelling import near_pairs
from datasetkit.core.files import write_atomic
from datasetkit.dataset.charts import IN_ALL, TOTAL, TRIGGER, tag_chart

if TYPE_CHECKING:
    from pandas import DataFrame

    from datasetkit.captions.vocabulary import Vocabulary

__all__ = [
    "IN_ALL", "SINGLETON", "TOTAL", "TRIGGER", "UNKNOWN",
    "CaptionedImage", "columns", "conditional", "cooccurrence", "csv_text", "frequency", "plot",
]  # fmt: skip

SINGLETON: Final = "singleton"
UNKNOWN: Final = "not in vocabulary"
# Spreadsheets run cells that begin like this as formulas; real tags do (`=_=`, `+_+`, `@_@`). The
# wide forms count too in East Asian locales (OWASP, CSV Injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image of a concept as the trainer will see it.

    repeats: samples an epoch. tags: its caption. scores: what the tagger gave (0..1), None for a
    hand-written caption.
    """

    concept: str
    repeats: int
    image: Path
    tags: tuple[str, ...]
    scores: Mapping[str, float] | None = None


def frequency(
    items: Sequence[CaptionedImage], triggers: Sequence[str], vocabulary: Vocabulary
) -> DataFrame:
    """Count the tags of each concept and of the whole set (`(total)`), the most frequent first,
    ties by tag.

    One row for a concept and a tag as it is spelled, with the columns: concept; tag; category
    (`trigger`, the vocabulary's, or blank); images that hold it; of_images, the concept's images;
    percent = images / of_images * 100; weighted, the samples an epoch of those images; mean_score
    (blank where no score is known); for each trigger T `P(tag | T)`, the share of T's images that
    hold the tag (blank where T stands in none); flags, joined by `; `. A tag in all images is
    learnt as part of the trigger. Of two near spellings the less trusted one is flagged.
    """
    from pandas import DataFrame

    spelled_badly = _near_flags(items, triggers, vocabulary)
    known = {normal_form(trigger) for trigger in triggers}
    rows: list[dict[str, object]] = []
    for concept, members in _concepts(items):
        holders = _holders(members)
        means = _mean_scores(members)
        carrying = {trigger: _carrying(holders, trigger) for trigger in triggers}
        for tag, images in sorted(holders.items(), key=lambda pair: (-len(pair[1]), pair[0])):
            is_trigger = normal_form(tag) in known
            flags = _flags(len(images), len(members), is_trigger=is_trigger)
            flags += [f"near {other}" for other in spelled_badly.get(tag, ())]
            flags += [UNKNOWN] if not is_trigger and tag not in vocabulary else []
            rows.append(
                {
                    "concept": concept,
                    "tag": tag,
                    "category": TRIGGER if is_trigger else vocabulary.category(tag) or "",
                    "images": len(images),
                    "of_images": len(members),
                    "percent": round(100 * len(images) / len(members), 2),
                    "weighted": sum(members[i].repeats for i in images),
                    "mean_score": means.get(normal_form(tag), math.nan),
                    **{conditional(t): _share(images, carrying[t]) for t in triggers},
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
    """Return the name of the column that says how many of a trigger's images hold a tag."""
    return f"P(tag | {trigger})"


def cooccurrence(items: Sequence[CaptionedImage]) -> DataFrame:
    """List the pairs of tags that stand together in two or more images, per concept and `(total)`.

    Columns: concept; tag_a < tag_b; images that hold both; jaccard = both / either (1 = never
    apart); lift = how many times more often together than if they were independent. Most images
    first, then jaccard, then by tag.
    """
    from pandas import DataFrame

    names = ["concept", "tag_a", "tag_b", "images", "jaccard", "lift"]
    rows: list[tuple[str, str, str, int, float, float]] = []
    for concept, members in _concepts(items):
        single = Counter(tag for member in members for tag in set(member.tags))
        both = Counter(
            pair for member in members for pair in combinations(sorted(set(member.tags)), 2)
        )
        found: list[tuple[str, str, str, int, float, float]] = []
        for (a, b), n in both.items():
            if n > 1:
                jaccard = round(n / (single[a] + single[b] - n), 4)
                found.append(
                    (
                        concept,
                        a,
                        b,
                        n,
                        jaccard,
                        round(n * len(members) / (single[a] * single[b]), 4),
                    )
                )
        rows.extend(sorted(found, key=lambda row: (-row[3], -row[4], row[1], row[2])))
    return DataFrame(rows, columns=names)


def csv_text(frame: DataFrame, *, excel: bool = False) -> str:
    """Write a table as CSV by RFC 4180 (commas, CRLF, doubled quotes); encode it as UTF-8.

    excel: begin with a byte-order mark, and with an apostrophe each text that a spreadsheet would
    run as a formula.
    """
    if excel:
        frame = frame.rename(columns=_guarded).map(_guarded)
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
    """Return the items of each concept by name, then all of them; the order of the items does not
    matter.
    """
    by_name: defaultdict[str, list[CaptionedImage]] = defaultdict(list)
    for item in items:
        by_name[item.concept].append(item)
    return [*sorted(by_name.items()), (TOTAL, items)] if items else []


def _holders(members: Sequence[CaptionedImage]) -> dict[str, set[int]]:
    """Return, for each tag, which of the members hold it."""
    holders: defaultdict[str, set[int]] = defaultdict(set)
    for i, member in enumerate(members):
        for tag in member.tags:
            holders[tag].add(i)
    return dict(holders)


def _carrying(holders: Mapping[str, set[int]], trigger: str) -> set[int]:
    """Return which members carry a trigger, in whatever spelling."""
    wanted = normal_form(trigger)
    return {i for tag, images in holders.items() if normal_form(tag) == wanted for i in images}


def _share(images: set[int], carrying: set[int]) -> float:
    return round(len(images & carrying) / len(carrying), 4) if carrying else math.nan


def _mean_scores(members: Sequence[CaptionedImage]) -> dict[str, float]:
    """Return the mean score of each tag (by normal form) over the images that hold it and have a
    score for it.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for member in members:
        if member.scores is not None:
            scores = {normal_form(name): score for name, score in member.scores.items()}
            for tag in {normal_form(tag) for tag in member.tags} & scores.keys():
                found[tag].append(scores[tag])
    # fsum is exact, so that the order of the images does not show.
    return {tag: round(math.fsum(values) / len(values), 4) for tag, values in found.items()}


def _flags(images: int, of_images: int, *, is_trigger: bool) -> list[str]:
    """Return what an image count says by itself; of a single image it says nothing."""
    if of_images < 2:
        return []
    if images == of_images:
        return [] if is_trigger else [IN_ALL]
    return [SINGLETON] if images == 1 else []


def _near_flags(
    items: Sequence[CaptionedImage], triggers: Sequence[str], vocabulary: Vocabulary
) -> dict[str, tuple[str, ...]]:
    """Return, for the less trusted tag of each pair of near spellings in the set, the tags that it
    is near to.

    Trusted most is a trigger, then a tag of the vocabulary, then the more frequent one. Two tags
    that are both of the vocabulary are no misspellings, unless they are one tag written in two
    ways.
    """
    known = {normal_form(trigger) for trigger in triggers}
    images = Counter(tag for item in items for tag in set(item.tags))
    doubtful = [tag for tag in images if tag not in vocabulary and normal_form(tag) not in known]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for pair in near_pairs(images, doubtful):
        exempt = all(tag in vocabulary or normal_form(tag) in known for tag in pair)
        if exempt and normal_form(pair[0]) != normal_form(pair[1]):
            continue
        trust = {
            tag: (tag in triggers, normal_form(tag) in known, tag in vocabulary, images[tag])
            for tag in pair
        }
        # Equal trust: the plainer spelling (no underscore, lower case) is taken for the right one.
        worse, better = sorted(
            pair, key=lambda tag: (trust[tag], "_" not in tag, tag == tag.lower(), tag)
        )
        found[worse].append(better)
    return {
        tag: tuple(sorted(others, key=lambda other: (-images[other], other))[:1])
        for tag, others in found.items()
    }


def _guarded(cell: object) -> object:
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
