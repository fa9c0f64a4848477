"""From scores to tags: thresholds, order, rounding, MCut, and that stored rows select the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import InputError
from taggers.base import (
    CHARACTER,
    GENERAL,
    RATING,
    Identity,
    Label,
    Labels,
    pack,
    round_scores,
    steps,
    unpack,
)
from taggers.selection import mcut, select

LABELS = Labels(
    (
        Label("general", RATING),
        Label("explicit", RATING),
        Label("1girl", GENERAL),
        Label("solo", GENERAL),
        Label("2boys", GENERAL),
        Label("long hair", GENERAL),
        Label("multiple girls", GENERAL),
        Label("alice", CHARACTER),
        Label("bob", CHARACTER),
    )
)
ROW = [0.2, 0.7, 0.6, 0.9, 0.8, 0.9, 0.35, 0.85, 0.95]

anything = st.lists(st.floats(0, 1, width=32), min_size=len(LABELS), max_size=len(LABELS))


def names(row, *, threshold=0.35, character_threshold=0.85, labels=LABELS, **options):
    found = select(
        row, labels, threshold=threshold, character_threshold=character_threshold, **options
    )
    return [tag.name for tag in found]


def test_caption_order_is_characters_persons_general_by_descending_score_and_ties_by_row():
    assert names(ROW) == ["bob", "alice", "2boys", "1girl", "solo", "long hair", "multiple girls"]


@pytest.mark.parametrize(("place", "at"), [("first", 0), ("last", -1)])
def test_rating_is_placed_first_or_last(place, at):
    assert names(ROW, rating=place)[at] == "explicit"
    assert len(names(ROW, rating=place)) == len(names(ROW)) + 1


def test_rating_is_left_out_unless_asked_for():
    assert not {"general", "explicit"} & set(names(ROW))


def test_score_equal_to_its_threshold_is_selected_in_any_float_width():
    for width in (np.float32, np.float64):
        row = np.zeros(len(LABELS), width)
        row[5] = width(0.35)
        assert names(row) == ["long hair"]
        assert names(row, threshold=0.3501) == []


def test_threshold_between_two_steps_is_not_lowered():
    row = np.zeros(len(LABELS))
    row[5] = 0.35
    assert names(row, threshold=0.35004) == []


def test_character_threshold_does_not_affect_general_tags():
    assert names(ROW, character_threshold=0.9)[:2] == ["bob", "2boys"]
    assert names(ROW, threshold=0.99) == ["bob", "alice"]


def test_scores_at_the_floor_are_never_selected():
    row = np.full(len(LABELS), 0.01)
    assert names(row, threshold=0, character_threshold=0, rating="first") == []


def test_row_of_another_model_is_refused():
    with pytest.raises(InputError):
        names([0.5] * 3)


def test_selected_score_is_the_rounded_one():
    row = np.zeros(len(LABELS), np.float32)
    row[5] = 0.123456
    assert [tag.score for tag in select(row, LABELS, threshold=0.1, character_threshold=0.1)] == [
        0.1235
    ]


def test_mcut_cuts_in_the_middle_of_the_largest_gap():
    assert mcut([0.9, 0.1, 0.8, 0.2]) == pytest.approx(0.5)
    assert mcut([0.9, 0.5, 0.1]) == pytest.approx(0.7), "of equal gaps the highest"
    assert mcut([0.6]) == pytest.approx(0.3)
    assert mcut([]) == 0


def test_mcut_replaces_both_thresholds():
    row = [0.9, 0.1, 0.3, 0.28, 0.02, 0.25, 0.02, 0.5, 0.1]
    assert names(row) == []
    assert names(row, mcut=True) == ["alice", "1girl", "solo", "long hair"]


def test_mcut_selects_no_character_below_its_floor():
    row = np.zeros(len(LABELS))
    row[7] = 0.14
    assert names(row, mcut=True) == []
    row[7], row[8] = 0.16, 0.02
    assert names(row, mcut=True) == ["alice"]


@given(anything)
def test_rounding_twice_changes_nothing(row):
    once = round_scores(row)
    assert once.dtype == np.float32
    assert np.array_equal(round_scores(once), once)
    assert np.array_equal(steps(once), steps(row))
    assert np.abs(once.astype(np.float64) - row).max() <= 0.5001e-4


@settings(max_examples=200)
@given(
    anything,
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(["none", "first", "last"]),
)
def test_stored_scores_select_the_same_tags(row, threshold, character_threshold, cut, rating):
    options = {
        "threshold": threshold,
        "character_threshold": character_threshold,
        "mcut": cut,
        "rating": rating,
    }
    fresh = round_scores(row)
    stored = unpack(pack(row), len(LABELS))
    assert stored.dtype == np.float32
    assert select(stored, LABELS, **options) == select(fresh, LABELS, **options)
    assert np.array_equal(stored, np.where(fresh > np.float32(0.01), fresh, 0))


@given(anything, st.floats(0.011, 1))
def test_every_selected_tag_reaches_its_threshold_and_every_other_does_not(row, threshold):
    chosen = set(names(row, threshold=threshold, character_threshold=threshold))
    for label, score in zip(LABELS.items, round_scores(row).tolist(), strict=True):
        if label.category != RATING and abs(score - threshold) > 1e-6:
            assert (label.name in chosen) == (score > threshold)


def test_blob_of_another_model_or_with_a_missing_byte_is_refused():
    blob = pack(ROW)
    with pytest.raises(InputError):
        unpack(blob, 3)
    with pytest.raises(InputError):
        unpack(blob[:-1], len(LABELS))


def test_pack_takes_six_bytes_per_kept_score():
    row = np.zeros(10_861)
    row[[5, 10_860]] = 0.5, 1.0
    assert len(pack(row)) == 12
    assert np.array_equal(unpack(pack(row), 10_861), row.astype(np.float32))


def test_labels_survive_the_score_store():
    assert Labels.from_pairs([list(pair) for pair in LABELS.pairs()]) == LABELS


def test_identity_key_changes_with_each_of_its_parts():
    keys = {
        Identity(*parts).key()
        for parts in (("a", "1", "p"), ("b", "1", "p"), ("a", "2", "p"), ("a", "1", "q"))
    }
    assert len(keys) == 4
