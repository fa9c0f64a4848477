"""How a row of scores becomes tags: thresholds, MCut, and the order of a caption."""

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
# MCut on characters alone would pick one out of pure noise; the models' own app has the same lower
# bound.
CHARACTER_MCUT_FLOOR = 0.15
_GENERAL, _CHARACTER, _RATING = (
    CATEGORIES.index(category) for category in (GENERAL, CHARACTER, RATING)
)


@dataclass(frozen=True, slots=True)
class KeptScores:
    """The scores of one image that are above the floor: rows of the labels, rising, and scores in
    steps of 1e-4.
    """

    rows: NDArray[np.intp]
    counted: NDArray[np.int64]

    @classmethod
    def of(cls, row: ArrayLike, labels: Labels) -> KeptScores:
        """Take a whole row of scores. Raises InputError when it is not as long as the labels."""
        counted = above_floor(row)
        if counted.shape != (len(labels),):
            raise InputError(f"a row of {counted.shape} scores does not fit {len(labels)} labels")
        rows = np.flatnonzero(counted)
        return cls(rows, counted[rows])

    @classmethod
    def stored(cls, blob: bytes, labels: Labels) -> KeptScores:
        """Take what the store kept of a row. Raises InputError when it does not fit the labels."""
        return cls(*unpack_kept(blob, len(labels)))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where tags are cut off. threshold, character_threshold: least scores; mcut: found from the
    scores instead.

    rating: where the best rating stands.
    """

    threshold: float
    character_threshold: float
    mcut: bool = False
    rating: RatingPlace = "none"

    def of(self, kept: KeptScores, labels: Labels) -> dict[str, float]:
        """Return the least score that a general and a character tag of this image needs."""
        if not self.mcut:
            return {GENERAL: self.threshold, CHARACTER: self.character_threshold}
        categories = labels.categories[kept.rows]
        general, character = (
            _mcut_kept(kept, categories, labels, place) for place in (_GENERAL, _CHARACTER)
        )
        return {GENERAL: general, CHARACTER: max(character, CHARACTER_MCUT_FLOOR)}


def mcut(scores: ArrayLike) -> float:
    """Return the middle of the largest gap between neighbouring scores, the highest of equal gaps.

    A single score is parted from 0. Source: Largeron, Moulin and Géry, "MCut: a thresholding
    strategy for multi-label classification", IDA 2012.
    """
    falling = -np.sort(-steps(scores))
    if len(falling) < 2:
        falling = np.append(falling, [0] * (2 - len(falling)))
    at = int(np.argmax(falling[:-1] - falling[1:]))
    return float(falling[at] + falling[at + 1]) / (2 * STEPS)


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

    Order: the rating if asked for first; characters; counts of persons (`1girl`, `2boys`); all
    other general tags; the rating if asked for last. Within each by falling score, ties by row of
    the label file. A score that equals its threshold is in. What a model scores besides (artists,
    copyrights, ...) is never chosen.
    """
    least = cut.of(kept, labels)
    categories = labels.categories[kept.rows]
    general = (categories == _GENERAL) & (kept.counted >= threshold_steps(least[GENERAL]))
    persons = general & labels.persons[kept.rows]
    characters = _falling(
        kept,
        labels,
        (categories == _CHARACTER) & (kept.counted >= threshold_steps(least[CHARACTER])),
    )
    best = _falling(kept, labels, categories == _RATING)[:1] if cut.rating != "none" else ()
    first, last = (best if cut.rating == place else () for place in ("first", "last"))
    return (
        *first,
        *characters,
        *_falling(kept, labels, persons),
        *_falling(kept, labels, general & ~persons),
        *last,
    )


def threshold_steps(threshold: float) -> int:
    """Return the least whole number of steps that reaches a threshold; the inner rounding takes
    float noise away.
    """
    return math.ceil(round(threshold * STEPS, 6))


def _mcut_kept(
    kept: KeptScores, categories: NDArray[np.uint8], labels: Labels, category: int
) -> float:
    """Find MCut over one category; all scores that were not kept are one gap above 0."""
    counted = kept.counted[categories == category]
    if len(counted) < np.count_nonzero(labels.categories == category):
        counted = np.append(counted, 0)
    return mcut(counted / STEPS)


def _falling(kept: KeptScores, labels: Labels, chosen: NDArray[np.bool_]) -> tuple[ScoredTag, ...]:
    at = np.flatnonzero(chosen)
    at = at[np.argsort(-kept.counted[at], kind="stable")]
    items = labels.items
    return tuple(
        ScoredTag(items[row].name, items[row].category, counted / STEPS)
        for row, counted in zip(kept.rows[at].tolist(), kept.counted[at].tolist(), strict=True)
    )
