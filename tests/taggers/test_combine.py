"""Combining taggers: the highest, the lowest or the mean score of those that have a label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taggers.base import CHARACTER, GENERAL, RATING, Label, Labels
from taggers.combine import METHODS, Combination
from taggers.selection import KeptScores

ONE = Labels(
    (
        Label("general", RATING),
        Label("1girl", GENERAL),
        Label("hat", GENERAL),
        Label("miku", CHARACTER),
    )
)
OTHER = Labels(
    (
        Label("hat", GENERAL),
        Label("smile", GENERAL),
        Label("miku", GENERAL),
        Label("1girl", GENERAL),
    )
)
MERGED = ("general", "1girl", "hat", "miku", "smile", "miku")
rows = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def combined(combine, one, other):
    combination = Combination.of([ONE, OTHER], combine)
    kept = combination.row([KeptScores.of(one, ONE), KeptScores.of(other, OTHER)])
    full = np.zeros(len(combination.labels))
    full[kept.rows] = kept.counted / 10_000
    return full.tolist()


def test_labels_are_those_of_the_first_tagger_and_then_the_new_ones_of_the_second():
    assert Combination.of([ONE, OTHER], "mean").labels.names == MERGED


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("union", [0.5, 0.8, 0.6, 0.9, 0.7, 0.3]),
        ("intersection", [0.5, 0.4, 0.2, 0.9, 0.7, 0.3]),
        ("mean", [0.5, 0.6, 0.4, 0.9, 0.7, 0.3]),
    ],
)
def test_only_taggers_that_have_a_label_count_for_it(combine, expected):
    assert combined(combine, [0.5, 0.4, 0.6, 0.9], [0.2, 0.7, 0.3, 0.8]) == pytest.approx(expected)


def test_tag_that_one_tagger_rejects_is_not_in_the_intersection():
    assert combined("intersection", [0, 0.9, 0, 0], [0, 0, 0, 0.005])[1] == 0


@settings(max_examples=60)
@given(rows, rows, st.sampled_from(sorted(METHODS)))
def test_a_tagger_combined_with_itself_gives_its_own_scores(one, other, combine):
    kept = KeptScores.of(one, ONE)
    twice = Combination.of([ONE, ONE], combine).row([kept, kept])
    assert np.array_equal(twice.rows, kept.rows)
    assert np.array_equal(twice.counted, kept.counted)


@settings(max_examples=60)
@given(rows, rows)
def test_the_mean_lies_between_the_lowest_and_the_highest(one, other):
    low, mean, high = (
        combined(combine, one, other) for combine in ("intersection", "mean", "union")
    )
    # Scores up to the floor of 0.01 count as 0.
    assert all(a <= b <= c or b == 0 for a, b, c in zip(low, mean, high, strict=True))
