"""Weighted captions: what the brackets of a caption do to the states that the UNet is told."""

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
    """Return what captions become for the UNet, weighted where the options say so.

    The states of the tokens are multiplied, and their mean is not restored: the form of sd-scripts'
    training. Its preview images, and the web interfaces, restore the mean. The vector of a whole
    caption (`pooled`) has no weights.
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
    """Encode captions without their brackets, and multiply the states by the weights that the
    brackets said.
    """
    read = [parse(caption) for caption in captions]
    found = encode([one.text for one in read])
    weights = torch.stack([places(one, max_tokens) for one in read]).to(found.states)
    return replace(found, states=found.states * weights[..., None])


def places(caption: WeightedCaption, max_tokens: int) -> Tensor:
    """Return the weight of each place of the text's states, (max_tokens + 2,): 1 for BOS, EOS and
    what is padded.

    A token has the weight of its first character.
    """
    found = torch.ones(max_tokens + 2)
    for place, (start, _) in enumerate(tokens.spans(caption.text)[:max_tokens], 1):
        found[place] = caption.weights[start]
    return found
