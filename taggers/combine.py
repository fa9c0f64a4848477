"""Combine several taggers: one list of labels, and one score for each label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from taggers.base import FLOOR, STEPS, Label, Labels
from taggers.selection import KeptScores

Method = Literal["union", "intersection", "mean"]
Matrix = NDArray[np.int64]
Mask = NDArray[np.bool_]


def _highest(scores: Matrix, has_label: Mask) -> Matrix:
    highest: Matrix = np.where(has_label, scores, 0).max(axis=0)
    return highest


def _lowest(scores: Matrix, has_label: Mask) -> Matrix:
    lowest: Matrix = np.where(has_label, scores, STEPS).min(axis=0)
    return lowest


def _average(scores: Matrix, has_label: Mask) -> Matrix:
    total: NDArray[Any] = np.where(has_label, scores, 0).sum(axis=0)
    average: Matrix = np.rint(total / has_label.sum(axis=0)).astype(np.int64)
    return average


# Only the taggers that have a label count for it: a label of one tagger alone keeps its score in
# all three.
METHODS: dict[Method, Callable[[Matrix, Mask], Matrix]] = {
    "union": _highest,
    "intersection": _lowest,
    "mean": _average,
}


@dataclass(frozen=True, slots=True)
class Combination:
    """How the rows of several taggers are combined into one.

    labels: the first tagger's in its order, then the new ones of each further tagger. Labels are
    the same if name and category are. columns: for each tagger, the index of each of its labels in
    `labels`.
    """

    labels: Labels
    columns: tuple[NDArray[np.intp], ...]
    method: Method

    @classmethod
    def of(cls, taggers: Sequence[Labels], method: Method) -> Combination:
        """Combine the labels of one or more taggers."""
        index: dict[Label, int] = {}
        for labels in taggers:
            for label in labels.items:
                index.setdefault(label, len(index))
        columns = tuple(
            np.array([index[label] for label in labels.items], np.intp) for labels in taggers
        )
        return cls(taggers[0] if len(taggers) == 1 else Labels(tuple(index)), columns, method)

    def row(self, each: Sequence[KeptScores]) -> KeptScores:
        """Combine the scores that each tagger gave one image. each: in the order of `of`."""
        if len(each) == 1:
            return each[0]
        shape = (len(each), len(self.labels))
        scores, has_label = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        for number, (kept, columns) in enumerate(zip(each, self.columns, strict=True)):
            has_label[number, columns] = True
            scores[number, columns[kept.rows]] = kept.counted
        combined = METHODS[self.method](scores, has_label)
        rows = np.flatnonzero(combined > FLOOR)
        return KeptScores(rows, combined[rows])
