"""Prompt weights: the weights of brackets, and their effect on a caption's states."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions import tokens
from trainer.data.prompt_weights import parse
from trainer.data.weighted_text import token_weights, weigh
from trainer.families.base import Conditioning


def pieces(caption):
    """The text in runs of one weight."""
    read = parse(caption)
    runs: list[tuple[str, float]] = []
    for character, weight in zip(read.text, read.weights, strict=True):
        if runs and runs[-1][1] == pytest.approx(weight):
            runs[-1] = (runs[-1][0] + character, runs[-1][1])
        else:
            runs.append((character, weight))
    return [(text, round(weight, 6)) for text, weight in runs]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("red hair, smile", [("red hair, smile", 1)]),
        ("(red hair), smile", [("red hair", 1.1), (", smile", 1)]),
        ("a, (red hair:1.3), b", [("a, ", 1), ("red hair", 1.3), (", b", 1)]),
        ("[soft] light", [("soft", 0.909091), (" light", 1)]),
        ("((much))", [("much", 1.21)]),
        ("(a (b:2) c)", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        ("(a [b] c:0.5)", [("a ", 0.5), ("b", 0.454545), (" c", 0.5)]),
        ("(none:0)", [("none", 0)]),
        ("(less:-.5)", [("less", -0.5)]),
        ("open (to the end", [("open ", 1), ("to the end", 1.1)]),
        (r"sylvie \(mage\), smile", [("sylvie (mage), smile", 1)]),
        (r"(sylvie \(mage\):1.2)", [("sylvie (mage)", 1.2)]),
        (r"a \ b \\", [("a \\ b \\", 1)]),
        ("a) b]", [("a) b]", 1)]),
        ("(time: 10:30)", [("time: 10", 30)]),
        ("(ratio 1:1.2.3)", [("ratio 1:1.2.3", 1.1)]),
        ("", []),
        ("()", []),
    ],
)
def test_brackets_give_weights(caption, expected):
    assert pieces(caption) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab ,()[]\\:1.5"), max_size=20))
def test_every_remaining_character_has_a_weight(caption):
    read = parse(caption)
    assert len(read.text) == len(read.weights)
    if not set(caption) & set("()[]\\"):
        assert (read.text, set(read.weights)) == (caption, {1.0} if caption else set())


def test_every_token_has_the_weight_of_its_word():
    caption = parse("masterpiece, (extraordinarily:1.5) red (hair:0.5)")
    found = token_weights(caption, 75)
    words = ["masterpiece", ",", "extraordinarily", "red", "hair"]
    weights = [1.0, 1.0, 1.5, 1.0, 0.5]
    expected = [1.0]  # BOS
    for word, weight in zip(words, weights, strict=True):
        expected += [weight] * tokens.count(word)
    assert found.shape == (77,)
    assert found[: len(expected)].tolist() == pytest.approx(expected)
    assert (found[len(expected) :] == 1).all()


def test_tokens_beyond_the_limit_are_cut_with_their_weights():
    found = token_weights(parse("(a:2), " * 60), 75)
    assert found.shape == (77,)
    assert found[0] == found[-1] == 1
    assert token_weights(parse("(a:2), " * 60), 150).shape == (152,)


def test_states_are_multiplied_and_their_mean_is_not_restored():
    told = []

    def encode(texts):
        told.extend(texts)
        return Conditioning(torch.ones(len(texts), 77, 4), torch.ones(len(texts), 4))

    found = weigh(encode, ["(red:2) hair", "smile"], 75)
    assert told == ["red hair", "smile"]  # the brackets are no tokens
    assert found.states[0, :4, 0].tolist() == [1, 2, 1, 1]
    assert (found.states[1] == 1).all()
    assert found.states[0].mean() > 1
    assert found.pooled is not None and (found.pooled == 1).all()
