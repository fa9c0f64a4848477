"""Text: captions become CLIP's passes of 77, their states one sequence (sd-scripts' rules), kept
where that is safe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from datasetkit.captions import tokens
from datasetkit.captions.tokens import BOS, CHUNK, EOS
from trainer.families.base import Conditioning, together
from trainer.plan.memory import KEPT_TEXT


def passes(caption: str, max_tokens: int, pad: int = EOS) -> tuple[tuple[int, ...], ...]:
    """Cut a caption's ids into passes of 77: BOS, up to 75 ids, EOS, and `pad` up to the end.

    What is beyond max_tokens (75, 150, 225) is dropped. Every pass has its own EOS: OpenCLIP reads
    what a whole pass means at the first one. As in sd-scripts, but where a pass begins or ends with
    a token of the pad's own id (0 is the `!` of `!~`): sd-scripts takes it for padding.
    """
    body = tokens.ids(caption)[1:-1][:max_tokens]
    parts = (body[i : i + CHUNK] for i in range(0, max_tokens, CHUNK))
    return tuple((BOS, *part, EOS, *(pad,) * (CHUNK - len(part))) for part in parts)


def joined(states: Tensor) -> Tensor:
    """Join the states of passes [captions, passes, 77, width] to [captions, 75 passes + 2, width].

    Kept are the first pass's BOS, the 75 of every pass, and the last place of the last pass.
    """
    inner = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], inner, states[:, -1, -1:]], dim=1)


def encode_clip(
    encoder: Any, captions: Sequence[str], *, clip_skip: int, max_tokens: int, pad: int = EOS
) -> Tensor:
    """Return CLIP's states of captions, [captions, 77 | 152 | 227, width].

    clip_skip: which hidden state from the end, 1 the last; each goes through the final layer norm
    (sd-scripts' counting: diffusers' clip_skip is one less). Each pass is encoded by itself.
    """
    ids = _ids(encoder, captions, max_tokens, pad)
    found = encoder(ids.flatten(0, 1), output_hidden_states=clip_skip > 1)
    # transformers 5.6 and later have no `text_model` between the model and its layers.
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    states: Tensor = (
        found.last_hidden_state if clip_skip == 1 else norm(found.hidden_states[-clip_skip])
    )
    return joined(states.view(*ids.shape, -1))


def encode_before_last(
    encoder: Any, captions: Sequence[str], *, max_tokens: int, pad: int = EOS
) -> tuple[Tensor, Tensor]:
    """Return the states before the last layer, without its norm, and the last ones where the
    caption ends.

    Of the second, [captions, width], those of the first pass at its first EOS, normed: what
    OpenCLIP makes of a text. (diffusers' own lets the encoder's configuration say which id ends a
    text, and most say a wrong one.)
    """
    ids = _ids(encoder, captions, max_tokens, pad)
    found = encoder(ids.flatten(0, 1), output_hidden_states=True)
    states: Tensor = found.hidden_states[-2]
    last: Tensor = found.last_hidden_state.view(*ids.shape, -1)[:, 0]
    ends = (ids[:, 0] == EOS).int().argmax(dim=1)
    return joined(states.view(*ids.shape, -1)), last[
        torch.arange(len(ids), device=ids.device), ends
    ]


def _ids(encoder: Any, captions: Sequence[str], max_tokens: int, pad: int) -> Tensor:
    """Return the ids of the captions' passes, [captions, passes, 77], where the encoder is."""
    cut = [passes(caption, max_tokens, pad) for caption in captions]
    return torch.tensor(cut, device=next(encoder.parameters()).device)


@dataclass(slots=True)
class TextStates:
    """What captions become for the UNet. Text encoders that are not trained encode each wording
    once.

    The wordings of shuffled captions and of left-out tags are kept as any other, the latest
    `KEPT_TEXT` bytes of them. encode: of captions; dtype: of the result; trained: a text encoder
    is, and nothing is kept. together: new wordings of a batch share a pass, which is quick on a
    GPU; else each has its own, so that no batch changes its last bits, and a resumed run finds the
    same.
    """

    encode: Callable[[Sequence[str]], Conditioning]
    dtype: torch.dtype
    trained: bool
    together: bool = False
    _known: OrderedDict[str, Conditioning] = field(default_factory=OrderedDict)

    def states(self, captions: Sequence[str]) -> Conditioning:
        """Return what captions become, a row each."""
        if self.trained:
            return self.encode(captions).to(self.dtype)
        found = {
            caption: self._known.pop(caption)
            for caption in dict.fromkeys(captions)
            if caption in self._known
        }
        new = [caption for caption in dict.fromkeys(captions) if caption not in found]
        for group in [new] if new and self.together else [[caption] for caption in new]:
            with torch.no_grad():
                encoded = self.encode(group).to(self.dtype)
            found |= dict(zip(group, encoded.rows(), strict=True))
        self._known.update(found)
        while len(self._known) > 1 and sum(one.nbytes for one in self._known.values()) > KEPT_TEXT:
            self._known.popitem(last=False)
        return together([found[caption] for caption in captions])
