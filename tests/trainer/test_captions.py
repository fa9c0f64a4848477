"""The caption of a sample: which tags are kept, shuffled and dropped, and in which order."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from trainer.data.captions import CaptionSettings, longest, sample, warmup_tags

TAGS = "mikami, 1girl, solo, dress, smile, outdoors"


def samples(caption, options, n=400, epoch=1):
    return [sample(caption, options, epoch, Random(seed)) for seed in range(n)]


def test_caption_is_unchanged_without_options():
    assert set(samples(TAGS, CaptionSettings(), 5)) == {TAGS}
    for text in ("a ,b,, c", "(a),(b),c", "a crowd of 1,000, by night", "a, b,"):
        assert sample(text, CaptionSettings(keep_tokens=1), 1, Random(0)) == text
        assert longest(text, CaptionSettings(keep_tokens=1), len) == text


def test_caption_is_split_at_commas_where_an_option_orders_or_drops_tags():
    for options in (
        CaptionSettings(shuffle_caption=True, keep_tokens=9),
        CaptionSettings(caption_tag_dropout_rate=0.5, keep_tokens=9),
        CaptionSettings(token_warmup_step=9, keep_tokens=9),
    ):
        assert sample(" a ,b,, c ", options, 1, Random(0)) == "a, b, c"


def test_kept_tags_stay_first_while_the_others_move():
    seen = samples(TAGS, CaptionSettings(shuffle_caption=True, keep_tokens=2))
    assert all(text.startswith("mikami, 1girl, ") for text in seen)
    assert len(set(seen)) == 24  # all orders of the other four


def test_shuffle_moves_the_first_tag_unless_it_is_kept():
    first = {text.split(",")[0] for text in samples(TAGS, CaptionSettings(shuffle_caption=True))}
    assert first == set(TAGS.split(", "))


def test_separator_keeps_tags_at_both_ends():
    options = CaptionSettings(shuffle_caption=True, keep_tokens_separator="|||", keep_tokens=1)
    seen = samples("a, b ||| c, d, e ||| f, g", options)
    assert len(set(seen)) == 6
    assert all(text.startswith("a, b, ") and text.endswith(", f, g") for text in seen)


def test_separator_with_one_part_keeps_only_the_start():
    options = CaptionSettings(caption_tag_dropout_rate=1.0, keep_tokens_separator="|||")
    assert sample("a, b ||| c, d", options, 1, Random(0)) == "a, b"


def test_separator_never_reaches_the_encoder():
    options = CaptionSettings(keep_tokens_separator="|||")
    assert sample("a, b ||| c ||| d", options, 1, Random(0)) == "a, b, c, d"


def test_keep_tokens_applies_without_a_separator():
    options = CaptionSettings(
        keep_tokens=1, keep_tokens_separator="|||", caption_tag_dropout_rate=1.0
    )
    assert sample("a, b, c", options, 1, Random(0)) == "a"


def test_tag_dropout_drops_free_tags_at_its_rate():
    seen = samples(TAGS, CaptionSettings(caption_tag_dropout_rate=0.25, keep_tokens=1), 2000)
    left = sum(len(text.split(", ")) - 1 for text in seen) / (5 * len(seen))
    assert all(text.startswith("mikami") for text in seen)
    assert left == pytest.approx(0.75, abs=0.02)


def test_caption_dropout_empties_captions_at_its_rate():
    seen = samples(TAGS, CaptionSettings(caption_dropout_rate=0.1, keep_tokens=9), 2000)
    assert set(seen) == {"", TAGS}
    assert seen.count("") / len(seen) == pytest.approx(0.1, abs=0.02)


def test_every_third_epoch_has_no_captions():
    options = CaptionSettings(caption_dropout_every_n_epochs=3)
    assert [sample("a", options, epoch, Random(0)) for epoch in range(1, 8)] == [
        "a",
        "a",
        "",
        "a",
        "a",
        "",
        "a",
    ]


def test_a_number_or_an_escaped_comma_is_not_torn():
    options = CaptionSettings(shuffle_caption=True)
    for text in samples("a crowd of 1,000 people, red\\, white, 10,5 km", options, 50):
        assert "a crowd of 1,000 people" in text and "red\\, white" in text and "10,5 km" in text
    kept = CaptionSettings(shuffle_caption=True, keep_tokens=9)
    assert sample("2023,1girl,solo", kept, 1, Random(0)) == "2023, 1girl, solo"


def test_caption_without_tags_stays_empty():
    options = CaptionSettings(shuffle_caption=True, keep_tokens=2, caption_tag_dropout_rate=0.5)
    assert sample(" , ", options, 1, Random(0)) == ""
    assert sample("", CaptionSettings(), 1, Random(0)) == ""


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    tags=st.lists(
        st.text(st.characters(exclude_characters=",|", exclude_categories=("Z", "C")), min_size=1),
        max_size=9,
    ),
    keep=st.integers(0, 12),
    shuffle=st.booleans(),
    rate=st.floats(0, 1),
    seed=st.integers(),
)
def test_no_tag_is_invented_and_kept_ones_stay(tags, keep, shuffle, rate, seed):
    options = CaptionSettings(
        keep_tokens=keep, shuffle_caption=shuffle, caption_tag_dropout_rate=rate
    )
    text = sample(",".join(tags), options, 1, Random(seed))
    assert sample(",".join(tags), options, 1, Random(seed)) == text
    if not shuffle and rate == 0:
        assert text == ",".join(tags)
        return
    read = text.split(", ") if text else []
    assert read[:keep] == tags[:keep]
    for tag in read:
        assert read.count(tag) <= tags.count(tag)
    if rate == 0:
        assert sorted(read) == sorted(tags)


@pytest.mark.parametrize(
    "wrong",
    [
        {"caption_dropout_rate": 1.1},
        {"caption_tag_dropout_rate": -0.1},
        {"keep_tokens": -1},
        {"caption_dropout_every_n_epochs": -1},
        {"keep_tokens_separator": ", "},
        {"secondary_separator": ","},
        {"token_warmup_min": -1},
        {"token_warmup_step": -0.5},
    ],
)
def test_impossible_option_is_an_error(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CaptionSettings(**wrong)


def test_prefix_and_suffix_are_added_to_every_caption():
    options = CaptionSettings(
        caption_prefix="sks,", caption_suffix="by night", keep_tokens=1, shuffle_caption=True
    )
    seen = samples("1girl, solo", options)
    assert set(seen) == {"sks, 1girl, solo by night", "sks, solo by night, 1girl"}


def test_dropped_caption_has_no_prefix():
    options = CaptionSettings(caption_prefix="sks,", caption_dropout_rate=0.5)
    assert set(samples("1girl", options)) == {"", "sks, 1girl"}


def test_options_of_a_wildcard_are_equally_likely():
    seen = samples(
        "{red|blue|green} hair, {day|night}", CaptionSettings(enable_wildcard=True), 3000
    )
    counts = {text: seen.count(text) for text in set(seen)}
    assert len(counts) == 6
    assert all(400 < n < 600 for n in counts.values())


def test_options_of_a_wildcard_may_be_several_tags_or_empty():
    seen = set(
        samples("sks, {hat, red hat|}", CaptionSettings(enable_wildcard=True, keep_tokens=3))
    )
    assert seen == {"sks, hat, red hat", "sks"}


def test_doubled_braces_are_braces():
    options = CaptionSettings(enable_wildcard=True)
    assert set(samples("{{a|b}}, {c}", options, 20)) == {"{a|b}, c"}


def test_braces_are_literal_without_enable_wildcard():
    assert set(samples("{a|b}", CaptionSettings(), 20)) == {"{a|b}"}


def test_one_of_several_lines_is_chosen_and_each_has_the_prefix():
    options = CaptionSettings(enable_wildcard=True, caption_prefix="sks,", caption_suffix="x")
    assert set(samples("a, b\nc {d|e}", options)) == {"sks, a, b x", "sks, c d x", "sks, c e x"}


def test_secondary_separator_joins_tags_until_the_end():
    options = CaptionSettings(
        secondary_separator=";;;", shuffle_caption=True, caption_tag_dropout_rate=0.5
    )
    seen = samples("a;;;b;;;c, d", options)
    assert set(seen) == {"", "d", "a,b,c", "a,b,c, d", "d, a,b,c"}


def test_free_tags_are_added_one_by_one_in_the_warmup():
    options = CaptionSettings(keep_tokens=1, token_warmup_min=1, token_warmup_step=10)
    read = [sample(TAGS, options, 1, Random(0), (step, 40)) for step in range(12)]
    assert [len(text.split(", ")) - 1 for text in read] == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5]
    assert all(TAGS.startswith(text) for text in read)
    assert sample(TAGS, options, 1, Random(0)) == TAGS


def test_warmup_below_1_is_a_fraction_of_the_run():
    part, steps = CaptionSettings(token_warmup_step=0.25), CaptionSettings(token_warmup_step=10)
    assert [warmup_tags(8, part, step, 40) for step in range(20)] == [
        warmup_tags(8, steps, step, 40) for step in range(20)
    ]


@given(
    free=st.integers(0, 40),
    least=st.integers(0, 40),
    warmup=st.integers(1, 100),
    step=st.integers(0, 120),
)
def test_warmup_tags_grow_from_the_minimum_to_all(free, least, warmup, step):
    options = CaptionSettings(token_warmup_min=least, token_warmup_step=warmup)
    now, then = (min(free, warmup_tags(free, options, s, 1000)) for s in (step, step + 1))
    assert min(free, least) <= now <= then <= free
    if step >= warmup:
        assert now == free


def test_order_of_the_pipeline():
    """Prefix, wildcard, kept tags, warm-up, shuffle, secondary separator."""
    options = CaptionSettings(
        caption_prefix="{p},", enable_wildcard=True, keep_tokens=2, token_warmup_min=1,
        token_warmup_step=10, shuffle_caption=True, secondary_separator=";;;",
    )  # fmt: skip
    assert sample("k;;;l, {a}, b, c", options, 1, Random(0), (0, 100)) == "p, k,l, a"


def test_the_longest_text_of_a_caption():
    options = CaptionSettings(
        enable_wildcard=True, caption_prefix="p,", keep_tokens_separator="|||"
    )
    assert longest("a, {b|bbb}\n{c|cc} ||| d", options, len) == "p, a, bbb"
    assert longest(TAGS, CaptionSettings(), len) == TAGS
