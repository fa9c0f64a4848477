"""Encode captions with CLIP in chunks of 77 tokens, joined by sd-scripts' rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datasetkit.captions import tokens
from datasetkit.captions.tokens import BOS, CHUNK, EOS


def chunks(caption: str, max_tokens: int, pad: int = EOS) -> tuple[tuple[int, ...], ...]:
    """Split a caption's token ids into chunks of 77: BOS, up to 75 ids, EOS, and `pad` to the end.

    Ids beyond max_tokens (75, 150, 225) are dropped. Every chunk has its own EOS, because OpenCLIP
    pools a chunk at its first one. This equals sd-scripts, except for a chunk that starts or ends
    with a token that has the id of the padding (0 is `!`): sd-scripts takes it for padding.
    """
    body = tokens.ids(caption)[1:-1][:max_tokens]
    parts = (body[i : i + CHUNK] for i in range(0, max_tokens, CHUNK))
    return tuple((BOS, *part, EOS, *(pad,) * (CHUNK - len(part))) for part in parts)


def join_chunks(states: Tensor) -> Tensor:
    """Join chunks of states [captions, chunks, 77, width] to [captions, 75 chunks + 2, width].

    The result has the first chunk's BOS, the 75 states of every chunk, and the last chunk's last
    state.
    """
    inner = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], inner, states[:, -1, -1:]], dim=1)


def encode_clip(
    encoder: Any, captions: Sequence[str], *, clip_skip: int, max_tokens: int, pad: int = EOS
) -> Tensor:
    """Return CLIP's states of captions, [captions, 77 | 152 | 227, width].

    clip_skip: which hidden state from the end, 1 is the last; the final layer norm is applied to
    each (sd-scripts' counting; diffusers' clip_skip is one less). Chunks are encoded separately.
    """
    ids = _ids(encoder, captions, max_tokens, pad)
    output = encoder(ids.flatten(0, 1), output_hidden_states=clip_skip > 1)
    # In transformers 5.6 and later there is no `text_model` between the model and its layers.
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    states: Tensor = (
        output.last_hidden_state if clip_skip == 1 else norm(output.hidden_states[-clip_skip])
    )
    return join_chunks(states.view(*ids.shape, -1))


def encode_before_last(
    encoder: Any, captions: Sequence[str], *, max_tokens: int, pad: int = EOS
) -> tuple[Tensor, Tensor]:
    """Return the states before the last layer, without the final norm, and the pooled states.

    The pooled states, [captions, width], are the last layer's at the first EOS of the first chunk,
    with the final norm, as OpenCLIP computes them. (diffusers takes the end-of-text id from the
    encoder's config, where it is often wrong.)
    """
    ids = _ids(encoder, captions, max_tokens, pad)
    output = encoder(ids.flatten(0, 1), output_hidden_states=True)
    states: Tensor = output.hidden_states[-2]
    last: Tensor = output.last_hidden_state.view(*ids.shape, -1)[:, 0]
    ends = (ids[:, 0] == EOS).int().argmax(dim=1)
    return join_chunks(states.view(*ids.shape, -1)), last[
        torch.arange(len(ids), device=ids.device), ends
    ]


def _ids(encoder: Any, captions: Sequence[str], max_tokens: int, pad: int) -> Tensor:
    """Return the captions' token ids, [captions, chunks, 77], on the encoder's device."""
    ids = [chunks(caption, max_tokens, pad) for caption in captions]
    return torch.tensor(ids, device=next(encoder.parameters()).device)
