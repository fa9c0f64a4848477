"""Several taggers as one: their labels in one list, and one score from several opinions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from taggers.base import FLOOR, STEPS, Label, Labels
from taggers.selection import KeptScores

How = Literal["union", "intersection", "mean"]
Matrix = NDArray[np.int64]
Mask = NDArray[np.bool_]


def _highest(scores: Matrix, known: Mask) -> Matrix:
    highest: Matrix = np.where(known, scores, 0).max(axis=0)
    return highest


def _lowest(scores: Matrix, known: Mask) -> Matrix:
    lowest: Matrix = np.where(known, scores, STEPS).min(axis=0)
    return lowest


def _average(scores: Matrix, known: Mask) -> Matrix:
    total: NDArray[Any] = np.where(known, scores, 0).sum(axis=0)
    average: Matrix = np.rint(total / known.sum(axis=0)).astype(np.int64)
    return average


# Only taggers that know a label have a say in it: a tag that one alone knows keeps that one's score
# in all three.
WAYS: dict[How, Callable[[Matrix, Mask], Matrix]] = {
    "union": _highest,
    "intersection": _lowest,
    "mean": _average,
}


@dataclass(frozen=True, slots=True)
class Combination:
    """How the rows of several taggers become one.

    labels: the first tagger's in its order, then what each further one adds. places: for each
    tagger, where each of its labels stands among them. A tag is the same where name and category
    are.
    """

    labels: Labels
    places: tuple[NDArray[np.intp], ...]
    how: How

    @classmethod
    def of(cls, several: Sequence[Labels], how: How) -> Combination:
        """Combine the labels of one or more taggers."""
        found: dict[Label, int] = {}
        for labels in several:
            for label in labels.items:
                found.setdefault(label, len(found))
        places = tuple(
            np.array([found[label] for label in labels.items], np.intp) for labels in several
        )
        return cls(several[0] if len(several) == 1 else Labels(tuple(found)), places, how)

    def row(self, opinions: Sequence[KeptScores]) -> KeptScores:
        """Combine what each tagger kept of one image's scores; in the order of `of`."""
        if len(opinions) == 1:
            return opinions[0]
        shape = (len(opinions), len(self.labels))
        scores, known = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        for number, (kept, places) in enumerate(zip(opinions, self.places, strict=True)):
            known[number, places] = True
            scores[number, places[kept.rows]] = kept.counted
        one = WAYS[self.how](scores, known)
        rows = np.flatnonzero(one > FLOOR)
        return KeptScores(rows, one[rows])
