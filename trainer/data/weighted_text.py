"""Apply prompt weights (weighted_captions) to the text encoder's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datasetkit.captions import tokens
from datasetkit.options.train import TrainOptions
from trainer.data.prompt_weights import WeightedCaption, parse
from trainer.families.base import Conditioning, Family, Parts


def encode_text(
    family: Family, parts: Parts, captions: Sequence[str], options: TrainOptions
) -> Conditioning:
    """Return the conditioning of captions, with prompt weights if weighted_captions is set.

    The tokens' states are multiplied and their mean is not restored, as in sd-scripts' training.
    (Its preview images and the web interfaces restore the mean.) The pooled vector is not weighted.
    """

    def encode(texts: Sequence[str]) -> Conditioning:
        return family.encode_text(
            parts, texts, clip_skip=options.clip_skip, max_tokens=options.max_token_length
        )

    return (
        weigh(encode, captions, options.max_token_length)
        if options.weighted_captions
        else encode(captions)
    )


def weigh(
    encode: Callable[[Sequence[str]], Conditioning], captions: Sequence[str], max_tokens: int
) -> Conditioning:
    """Encode captions without their brackets, and multiply the states by the weights."""
    parsed = [parse(caption) for caption in captions]
    conditioning = encode([caption.text for caption in parsed])
    weights = torch.stack([token_weights(caption, max_tokens) for caption in parsed])
    weights = weights.to(conditioning.states)
    return replace(conditioning, states=conditioning.states * weights[..., None])


def token_weights(caption: WeightedCaption, max_tokens: int) -> Tensor:
    """Return the weight of each state, (max_tokens + 2,): 1 for BOS, EOS and padding.

    A token has the weight of its first character.
    """
    weights = torch.ones(max_tokens + 2)
    for index, (start, _) in enumerate(tokens.spans(caption.text)[:max_tokens], 1):
        weights[index] = caption.weights[start]
    return weights
