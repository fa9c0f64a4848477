"""Text: captions become CLIP's passes of 77, their states one sequence (sd-scripts' rules), kept where that is safe."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from datasetkit import tokens
from datasetkit.tokens import BOS, CHUNK, EOS
from trainer.memory import KEPT_TEXT


def passes(caption: str, max_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Cut a caption's ids into passes of 77: BOS, 75 ids, EOS; what is beyond max_tokens (75, 150, 225) is dropped.

    The caption is padded by EOS to 75 N ids; where it is longer, its last place is EOS.
    """
    body = tokens.ids(caption)[1:-1][:max_tokens]
    padded = (*body, *(EOS,) * (max_tokens - len(body)))
    return tuple((BOS, *padded[i : i + CHUNK], EOS) for i in range(0, max_tokens, CHUNK))


def joined(states: Tensor) -> Tensor:
    """Join the states of passes [captions, passes, 77, width] to [captions, 75 passes + 2, width].

    Kept are the first pass's BOS, the 75 of every pass, and the last pass's EOS.
    """
    inner = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], inner, states[:, -1, -1:]], dim=1)


def encode_clip(encoder: Any, captions: Sequence[str], *, clip_skip: int, max_tokens: int) -> Tensor:
    """Return CLIP's states of captions, [captions, 77 | 152 | 227, width].

    clip_skip: which hidden state from the end, 1 the last; each goes through the final layer norm (sd-scripts'
    counting: diffusers' clip_skip is one less). Each pass is encoded by itself.
    """
    cut = [passes(caption, max_tokens) for caption in captions]
    ids = torch.tensor(cut, device=next(encoder.parameters()).device)
    count, chunks, places = ids.shape
    found = encoder(ids.view(count * chunks, places), output_hidden_states=clip_skip > 1)
    # transformers 5.6 and later have no `text_model` between the model and its layers.
    norm = getattr(encoder, "text_model", encoder).final_layer_norm
    states: Tensor = found.last_hidden_state if clip_skip == 1 else norm(found.hidden_states[-clip_skip])
    return joined(states.view(count, chunks, places, -1))


@dataclass(slots=True)
class Texts:
    """The states of captions. A text encoder that is not trained encodes each wording once.

    The wordings of shuffled captions and of left-out tags are kept as any other, the latest `KEPT_TEXT` bytes of them.
    encode: captions -> [captions, tokens, width]; dtype: of the states; trained: the text encoder is, and nothing is
    kept. together: new wordings of a batch share a pass, which is quick on a GPU; else each has its own, so that no
    batch changes its last bits, and a resumed run finds the same.
    """

    encode: Callable[[Sequence[str]], Tensor]
    dtype: torch.dtype
    trained: bool
    together: bool = False
    _known: OrderedDict[str, Tensor] = field(default_factory=OrderedDict)

    def states(self, captions: Sequence[str]) -> Tensor:
        """Return the states of captions, [captions, tokens, width]."""
        if self.trained:
            return self.encode(captions).to(self.dtype)
        found = {caption: self._known.pop(caption) for caption in dict.fromkeys(captions) if caption in self._known}
        new = [caption for caption in dict.fromkeys(captions) if caption not in found]
        for group in [new] if new and self.together else [[caption] for caption in new]:
            with torch.no_grad():
                states = self.encode(group).to(self.dtype)
            found |= {caption: one.clone() for caption, one in zip(group, states, strict=True)}
        self._known.update(found)
        while len(self._known) > 1 and sum(one.nbytes for one in self._known.values()) > KEPT_TEXT:
            self._known.popitem(last=False)
        return torch.stack([found[caption] for caption in captions])
