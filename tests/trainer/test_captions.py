"""The caption of a visit: what is kept, shuffled and dropped, in which order."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from trainer.captions import CaptionOptions, visit

TAGS = "mikami, 1girl, solo, dress, smile, outdoors"


def visits(caption, options, n=400, epoch=1):
    return [visit(caption, options, epoch, Random(seed)) for seed in range(n)]


def test_caption_is_read_as_it_stands_without_options():
    assert set(visits(TAGS, CaptionOptions(), 5)) == {TAGS}
    assert visit(" a ,b,, c ", CaptionOptions(), 1, Random(0)) == "a, b, c"


def test_kept_tags_stay_first_while_the_others_move():
    seen = visits(TAGS, CaptionOptions(shuffle_caption=True, keep_tokens=2))
    assert all(text.startswith("mikami, 1girl, ") for text in seen)
    assert len(set(seen)) == 24  # all orders of the other four


def test_shuffle_moves_the_first_tag_too_where_none_is_kept():
    first = {text.split(",")[0] for text in visits(TAGS, CaptionOptions(shuffle_caption=True))}
    assert first == set(TAGS.split(", "))


def test_separator_keeps_tags_at_both_ends():
    options = CaptionOptions(shuffle_caption=True, keep_tokens_separator="|||", keep_tokens=1)
    seen = visits("a, b ||| c, d, e ||| f, g", options)
    assert len(set(seen)) == 6
    assert all(text.startswith("a, b, ") and text.endswith(", f, g") for text in seen)


def test_separator_with_one_part_keeps_only_the_start():
    options = CaptionOptions(caption_tag_dropout_rate=1.0, keep_tokens_separator="|||")
    assert visit("a, b ||| c, d", options, 1, Random(0)) == "a, b"


def test_separator_never_reaches_the_encoder():
    options = CaptionOptions(keep_tokens_separator="|||")
    assert visit("a, b ||| c ||| d", options, 1, Random(0)) == "a, b, c, d"


def test_keep_tokens_counts_where_the_caption_has_no_separator():
    options = CaptionOptions(keep_tokens=1, keep_tokens_separator="|||", caption_tag_dropout_rate=1.0)
    assert visit("a, b, c", options, 1, Random(0)) == "a"


def test_tag_dropout_drops_free_tags_at_its_rate():
    seen = visits(TAGS, CaptionOptions(caption_tag_dropout_rate=0.25, keep_tokens=1), 2000)
    left = sum(len(text.split(", ")) - 1 for text in seen) / (5 * len(seen))
    assert all(text.startswith("mikami") for text in seen)
    assert left == pytest.approx(0.75, abs=0.02)


def test_caption_dropout_empties_captions_at_its_rate():
    seen = visits(TAGS, CaptionOptions(caption_dropout_rate=0.1, keep_tokens=9), 2000)
    assert set(seen) == {"", TAGS}
    assert seen.count("") / len(seen) == pytest.approx(0.1, abs=0.02)


def test_every_third_epoch_has_no_captions():
    options = CaptionOptions(caption_dropout_every_n_epochs=3)
    assert [visit("a", options, epoch, Random(0)) for epoch in range(1, 8)] == ["a", "a", "", "a", "a", "", "a"]


def test_caption_without_tags_stays_empty():
    options = CaptionOptions(shuffle_caption=True, keep_tokens=2, caption_tag_dropout_rate=0.5)
    assert visit(" , ", options, 1, Random(0)) == ""


@settings(max_examples=200, deadline=None)
@given(
    tags=st.lists(
        st.text(st.characters(exclude_characters=",|", exclude_categories=("Z", "C")), min_size=1), max_size=9
    ),
    keep=st.integers(0, 12),
    shuffle=st.booleans(),
    rate=st.floats(0, 1),
    seed=st.integers(),
)
def test_no_tag_is_invented_and_kept_ones_stay(tags, keep, shuffle, rate, seed):
    options = CaptionOptions(keep_tokens=keep, shuffle_caption=shuffle, caption_tag_dropout_rate=rate)
    text = visit(",".join(tags), options, 1, Random(seed))
    assert visit(",".join(tags), options, 1, Random(seed)) == text
    read = text.split(", ") if text else []
    assert read[:keep] == tags[:keep]
    for tag in read:
        assert read.count(tag) <= tags.count(tag)
    if rate == 0:
        assert sorted(read) == sorted(tags)
        if not shuffle:
            assert read == tags


@pytest.mark.parametrize(
    "wrong",
    [
        {"caption_dropout_rate": 1.1},
        {"caption_tag_dropout_rate": -0.1},
        {"keep_tokens": -1},
        {"caption_dropout_every_n_epochs": -1},
        {"keep_tokens_separator": ", "},
    ],
)
def test_impossible_option_is_an_error(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CaptionOptions(**wrong)
