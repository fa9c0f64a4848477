"""Select tags from a row of scores: thresholds, MCut, and the order of a caption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datasetkit.core.errors import InputError
from taggers.base import (
    CATEGORIES,
    CHARACTER,
    GENERAL,
    RATING,
    STEPS,
    Labels,
    ScoredTag,
    above_floor,
    steps,
    unpack_kept,
)

RatingPlace = Literal["none", "first", "last"]
# MCut on characters alone would select one from noise; the models' own app has the same lower
# bound.
CHARACTER_MCUT_FLOOR = 0.15
_GENERAL, _CHARACTER, _RATING = (
    CATEGORIES.index(category) for category in (GENERAL, CHARACTER, RATING)
)


@dataclass(frozen=True, slots=True)
class KeptScores:
    """The scores of one image above FLOOR. rows: indices of the labels, ascending. counted: scores
    in steps of 1e-4.
    """

    rows: NDArray[np.intp]
    counted: NDArray[np.int64]

    @classmethod
    def of(cls, row: ArrayLike, labels: Labels) -> KeptScores:
        """Convert a whole row of scores. Raises InputError unless it has one for each label."""
        counted = above_floor(row)
        if counted.shape != (len(labels),):
            raise InputError(f"a row of {counted.shape} scores does not fit {len(labels)} labels")
        rows = np.flatnonzero(counted)
        return cls(rows, counted[rows])

    @classmethod
    def stored(cls, blob: bytes, labels: Labels) -> KeptScores:
        """Unpack a stored row. Raises InputError if it does not fit the labels."""
        return cls(*unpack_kept(blob, len(labels)))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The minimum scores of general and character tags, or `mcut` to compute them from the scores.

    rating: where in the caption the best rating is.
    """

    threshold: float
    character_threshold: float
    mcut: bool = False
    rating: RatingPlace = "none"

    def of(self, kept: KeptScores, labels: Labels) -> dict[str, float]:
        """Return the minimum scores of general and character tags of this image."""
        if not self.mcut:
            return {GENERAL: self.threshold, CHARACTER: self.character_threshold}
        categories = labels.categories[kept.rows]
        general, character = (
            _mcut_kept(kept, categories, labels, category) for category in (_GENERAL, _CHARACTER)
        )
        return {GENERAL: general, CHARACTER: max(character, CHARACTER_MCUT_FLOOR)}


def mcut(scores: ArrayLike) -> float:
    """Return the middle of the largest gap between neighbouring scores, the highest of equal gaps.

    The gap of a single score is to 0. Source: Largeron, Moulin and Géry, "MCut: a thresholding
    strategy for multi-label classification", IDA 2012.
    """
    descending = -np.sort(-steps(scores))
    if len(descending) < 2:
        descending = np.append(descending, [0] * (2 - len(descending)))
    at = int(np.argmax(descending[:-1] - descending[1:]))
    return float(descending[at] + descending[at + 1]) / (2 * STEPS)


def select(
    row: ArrayLike,
    labels: Labels,
    *,
    threshold: float,
    character_threshold: float,
    mcut: bool = False,
    rating: RatingPlace = "none",
) -> tuple[ScoredTag, ...]:
    """Choose the tags of one image from its row of scores, in caption order; see `choose`."""
    return choose(
        KeptScores.of(row, labels), labels, Thresholds(threshold, character_threshold, mcut, rating)
    )


def choose(kept: KeptScores, labels: Labels, cut: Thresholds) -> tuple[ScoredTag, ...]:
    """Choose the tags of one image, in caption order.

    Order: the rating (if `first`), characters, counts of persons (`1girl`, `2boys`), other general
    tags, the rating (if `last`); each by descending score, ties by row of the label file. A score
    equal to its threshold is chosen. Other categories (artists, copyrights, ...) are never chosen.
    """
    least = cut.of(kept, labels)
    categories = labels.categories[kept.rows]
    general = (categories == _GENERAL) & (kept.counted >= threshold_steps(least[GENERAL]))
    persons = general & labels.persons[kept.rows]
    characters = _descending(
        kept,
        labels,
        (categories == _CHARACTER) & (kept.counted >= threshold_steps(least[CHARACTER])),
    )
    best = _descending(kept, labels, categories == _RATING)[:1] if cut.rating != "none" else ()
    first, last = (best if cut.rating == end else () for end in ("first", "last"))
    return (
        *first,
        *characters,
        *_descending(kept, labels, persons),
        *_descending(kept, labels, general & ~persons),
        *last,
    )


def threshold_steps(threshold: float) -> int:
    """Return the least number of steps that reaches a threshold; rounding first removes float
    noise.
    """
    return math.ceil(round(threshold * STEPS, 6))


def _mcut_kept(
    kept: KeptScores, categories: NDArray[np.uint8], labels: Labels, category: int
) -> float:
    """Return MCut over one category; the scores that were not kept count as one score of 0."""
    counted = kept.counted[categories == category]
    if len(counted) < np.count_nonzero(labels.categories == category):
        counted = np.append(counted, 0)
    return mcut(counted / STEPS)


def _descending(
    kept: KeptScores, labels: Labels, chosen: NDArray[np.bool_]
) -> tuple[ScoredTag, ...]:
    at = np.flatnonzero(chosen)
    at = at[np.argsort(-kept.counted[at], kind="stable")]
    items = labels.items
    return tuple(
        ScoredTag(items[row].name, items[row].category, counted / STEPS)
        for row, counted in zip(kept.rows[at].tolist(), kept.counted[at].tolist(), strict=True)
    )
