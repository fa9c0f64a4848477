"""Which images are held out depends on their contents, not on the other images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasetkit.core.errors import DatasetError
from datasetkit.dataset.validation_split import held_out

IDS = st.sets(st.text("0123456789abcdef", min_size=16, max_size=16), min_size=2, max_size=40)
SPLITS = st.floats(0.01, 0.99)


@given(IDS, SPLITS, st.integers(0, 5))
def test_at_least_one_is_held_out_and_one_is_trained(ids, split, seed):
    chosen = held_out(sorted(ids), (), split, seed)
    assert 1 <= len(chosen) < len(ids) and set(chosen) < ids


@pytest.mark.long
@given(IDS, IDS, SPLITS, st.integers(0, 5))
def test_added_images_do_not_change_the_split_of_others(ids, added, split, seed):
    before, after = (set(held_out(some, (), split, seed)) for some in (ids, ids | added))
    # Small sets hold one out in any case, or keep one in any case: those may change sides.
    if 1 < len(before) < len(ids) - 1:
        assert after & ids == before
    assert before == set(held_out([*ids, *ids], (), split, seed))


@pytest.mark.long
@given(IDS, SPLITS)
def test_images_that_are_also_regularisation_are_never_held_out(ids, split):
    first, *rest = sorted(ids)
    assert first not in held_out(ids, [first], split, 0)
    assert rest


def test_the_share_is_about_the_split():
    ids = [f"{n:016x}" for n in range(4000)]
    assert 350 < len(held_out(ids, (), 0.1, 0)) < 450
    assert held_out(ids, (), 0.1, 0) != held_out(ids, (), 0.1, 1)
    assert held_out(ids, (), 0.0, 0) == ()


def test_a_larger_split_holds_out_the_same_and_more():
    ids = [f"{n:016x}" for n in range(200)]
    small, large = held_out(ids, (), 0.1, 0), held_out(ids, (), 0.3, 0)
    assert large[: len(small)] == small


@pytest.mark.parametrize("ids", [(), ("a",), ("a", "a")])
def test_one_image_cannot_be_split(ids):
    with pytest.raises(DatasetError, match="two different"):
        held_out(ids, (), 0.5, 0)


def test_a_set_that_is_all_regularisation_cannot_be_split():
    with pytest.raises(DatasetError, match="two different"):
        held_out(("a", "b"), ("a", "b"), 0.5, 0)
