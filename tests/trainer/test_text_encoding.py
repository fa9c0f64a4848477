"""Captions reach the text encoder in chunks of 77, and clip_skip counts as in sd-scripts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions import tokens
from datasetkit.captions.tokens import BOS, EOS
from trainer.data import text_encoding
from trainer.families import clip_text, sd
from trainer.families.base import Conditioning

LONG = ", ".join(f"tag {n}" for n in range(60))


@pytest.fixture(scope="module")
def encoder(model):
    return sd.load(str(model)).encoders["text_encoder"]


def test_short_caption_is_padded_with_eos():
    assert clip_text.chunks("a photo of a cat", 75) == (
        (BOS, 320, 1125, 539, 320, 2368, *(EOS,) * 71),
    )
    assert [len(p) for p in clip_text.chunks("a photo of a cat", 225)] == [77, 77, 77]
    assert clip_text.chunks("", 150)[1] == (BOS, *(EOS,) * 76)


@settings(max_examples=25, deadline=None)
@given(words=st.integers(0, 120), limit=st.sampled_from([75, 150, 225]))
def test_chunks_have_the_ids_of_the_caption_in_order(words, limit):
    caption = " ".join(["cat"] * words)
    ids = tokens.ids(caption)[1:-1][:limit]
    inner = [i for one in clip_text.chunks(caption, limit) for i in one[1:-1]]
    assert inner == [*ids, *[EOS] * (limit - len(ids))]
    assert all(one[0] == BOS and one[-1] == EOS for one in clip_text.chunks(caption, limit))


@pytest.mark.parametrize(("limit", "places"), [(75, 77), (150, 152), (225, 227)])
def test_chunks_are_joined_to_one_sequence(encoder, limit, places):
    with torch.no_grad():
        found = clip_text.encode_clip(encoder, [LONG, "cat"], clip_skip=1, max_tokens=limit)
        alone = clip_text.encode_clip(encoder, ["cat"], clip_skip=1, max_tokens=75)
    assert found.shape == (2, places, 16)
    assert torch.allclose(found[1, :76], alone[0, :76], atol=1e-6)


def test_first_chunk_does_not_depend_on_the_later_ones(encoder):
    with torch.no_grad():
        one = clip_text.encode_clip(encoder, [LONG], clip_skip=2, max_tokens=75)
        three = clip_text.encode_clip(encoder, [LONG], clip_skip=2, max_tokens=225)
    assert torch.allclose(one[0, :76], three[0, :76], atol=1e-6)
    assert not torch.allclose(three[0, 1:76], three[0, 76:151], atol=1e-3)


def test_clip_skip_uses_a_layer_from_the_end_with_the_final_norm(encoder):
    ids = torch.tensor(clip_text.chunks("cat", 75))
    with torch.no_grad():
        states = encoder(ids, output_hidden_states=True)
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        first = clip_text.encode_clip(encoder, ["cat"], clip_skip=1, max_tokens=75)
        second = clip_text.encode_clip(encoder, ["cat"], clip_skip=2, max_tokens=75)
    assert torch.equal(first, states.last_hidden_state)
    assert torch.allclose(first, norm(states.hidden_states[-1]), atol=1e-6)
    assert torch.equal(second, norm(states.hidden_states[-2]))


class Encoding:
    """Encodes a caption as its length, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, captions):
        self.asked.append(list(captions))
        return Conditioning(
            torch.tensor([[[float(len(caption))]] for caption in captions], dtype=torch.float64)
        )


def lengths(texts, captions):
    return texts.states(captions).states[:, 0, 0].tolist()


def test_frozen_encoder_encodes_each_text_once_and_separately():
    encode = Encoding()
    texts = text_encoding.TextStates(encode, torch.float32, trained=False)
    assert lengths(texts, ["a, b", "b, a", "", "a, b"]) == [4, 4, 0, 4]
    assert lengths(texts, ["", "abc"]) == [0, 3]
    assert encode.asked == [["a, b"], ["b, a"], [""], ["abc"]]
    assert texts.states(["a"]).states.dtype == torch.float32


def test_new_texts_share_a_pass_on_a_gpu():
    encode = Encoding()
    texts = text_encoding.TextStates(encode, torch.float32, trained=False, together=True)
    assert lengths(texts, ["aa", "b", "aa"]) == [2, 1, 2]
    assert lengths(texts, ["b", "ccc"]) == [1, 3]
    assert lengths(texts, ["b"]) == [1]
    assert encode.asked == [["aa", "b"], ["ccc"]]


def test_trained_encoder_encodes_every_time():
    encode = Encoding()
    texts = text_encoding.TextStates(encode, torch.float32, trained=True)
    for _ in range(2):
        assert lengths(texts, ["a", "a"]) == [1, 1]
    assert encode.asked == [["a", "a"]] * 2


def test_least_recently_used_texts_are_evicted(monkeypatch):
    monkeypatch.setattr(text_encoding, "KEPT_TEXT", 12)  # three of float32
    encode = Encoding()
    texts = text_encoding.TextStates(encode, torch.float32, trained=False)
    for caption in ("a", "bb", "ccc", "a", "dddd", "a", "bb"):
        texts.states([caption])
    assert encode.asked == [["a"], ["bb"], ["ccc"], ["dddd"], ["bb"]]
    assert lengths(texts, [str(n) * n for n in range(1, 9)]) == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    ]  # more than there is room for
