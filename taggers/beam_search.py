"""Beam search over the tokens of one text, with the conventions of the transformers library.

A search holds K unfinished texts and the best K finished ones. `advance` gets the log
probabilities of the next token of each unfinished text and extends the best. The search ends once
K texts are finished (`early_stopping`), or at `max_tokens`. A score is the sum of the log
probabilities over the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """start: the token that every text starts with. first: the token that must follow it. end: the
    token that ends a text. no_repeat: no sequence of so many tokens occurs twice, 0 = any may.
    """

    beams: int
    max_tokens: int
    start: int
    first: int
    end: int
    no_repeat: int = 3


class BeamSearch:
    """The search for one text.

    tokens: the unfinished texts, (K, length), with the start token. parents: which of the texts
    before the last `advance` each of them extends.
    """

    def __init__(self, settings: SearchSettings) -> None:
        k = settings.beams
        self.settings = settings
        self.tokens: NDArray[np.int64] = np.full((k, 1), settings.start, np.int64)
        self.parents: NDArray[np.int64] = np.arange(k)
        self._scores = np.full(k, _NEVER)
        self._scores[0] = 0  # all are equal at the start: only one of them is extended
        self._finished: list[tuple[float, list[int]]] = []

    @property
    def done(self) -> bool:
        generated = self.tokens.shape[1] - 1
        return len(self._finished) >= self.settings.beams or generated >= self.settings.max_tokens

    def best(self) -> list[int]:
        """Return the tokens of the best text, without the start token. It ends with the end token
        unless it was cut off at `max_tokens`.
        """
        return max(self._finished, key=lambda scored: scored[0])[1][1:]

    def advance(self, logits: NDArray[np.float32]) -> None:
        """Extend the texts. logits: of the next token, (K, vocabulary)."""
        k, vocabulary = len(self.tokens), logits.shape[1]
        if self.tokens.shape[1] == 1:
            log_probabilities = np.full((k, vocabulary), -np.inf)
            log_probabilities[:, self.settings.first] = 0
        else:
            log_probabilities = _log_softmax(logits)
            for row, text in enumerate(self.tokens.tolist()):
                log_probabilities[row, _repeating(text, self.settings.no_repeat)] = -np.inf
        totals = (log_probabilities + self._scores[:, None]).ravel()
        # Twice as many as there are texts, so that K remain if each text could end here.
        best = _top(totals, 2 * k)
        parents, following = best // vocabulary, best % vocabulary
        texts = np.concatenate([self.tokens[parents], following[:, None]], axis=1)
        ends = (following == self.settings.end) & (self.tokens.shape[1] > 1)
        if texts.shape[1] - 1 >= self.settings.max_tokens:
            ends[:] = True
        length = texts.shape[1] - 1
        self._finished += [
            (float(totals[best[n]]) / length, texts[n].tolist()) for n in range(k) if ends[n]
        ]
        self._finished = sorted(self._finished, key=lambda scored: -scored[0])[:k]
        open_scores = np.where(ends, totals[best] + _NEVER, totals[best])
        kept = _top(open_scores, k)
        self.tokens, self.parents, self._scores = texts[kept], parents[kept], open_scores[kept]


def _top(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the places of the largest values, the largest first, equal ones in their order."""
    count = min(count, len(values))
    least = np.partition(values, len(values) - count)[len(values) - count]
    candidates = np.flatnonzero(values >= least)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def _repeating(text: list[int], size: int) -> list[int]:
    """Return the tokens that would complete a sequence of `size` tokens which the text has."""
    if size < 1 or len(text) < size:
        return []
    last = text[len(text) - size + 1 :]
    return [
        text[n + size - 1] for n in range(len(text) - size + 1) if text[n : n + size - 1] == last
    ]
