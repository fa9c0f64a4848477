"""The conditioning of captions, with a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from trainer.families.base import Conditioning, concatenate
from trainer.plan.memory import KEPT_TEXT


@dataclass(slots=True)
class TextStates:
    """The conditioning of captions, cached by text unless a text encoder is trained.

    Shuffled captions are cached like any other text, up to `KEPT_TEXT` bytes of the latest ones.
    encode: of captions; dtype: of the result; trained: a text encoder is trained, so nothing is
    cached. together: encode the new texts of a batch in one pass, which is fast on a GPU; else one
    by one, so that their last bits do not depend on the batch and a resumed run is identical.
    """

    encode: Callable[[Sequence[str]], Conditioning]
    dtype: torch.dtype
    trained: bool
    together: bool = False
    _cache: OrderedDict[str, Conditioning] = field(default_factory=OrderedDict)

    def states(self, captions: Sequence[str]) -> Conditioning:
        """Return the conditioning of captions, one row each."""
        if self.trained:
            return self.encode(captions).to(self.dtype)
        encoded_rows = {
            caption: self._cache.pop(caption)
            for caption in dict.fromkeys(captions)
            if caption in self._cache
        }
        new = [caption for caption in dict.fromkeys(captions) if caption not in encoded_rows]
        for group in [new] if new and self.together else [[caption] for caption in new]:
            with torch.no_grad():
                encoded = self.encode(group).to(self.dtype)
            encoded_rows |= dict(zip(group, encoded.rows(), strict=True))
        self._cache.update(encoded_rows)
        while len(self._cache) > 1 and sum(row.nbytes for row in self._cache.values()) > KEPT_TEXT:
            self._cache.popitem(last=False)
        return concatenate([encoded_rows[caption] for caption in captions])
