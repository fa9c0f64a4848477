"""The conditioning of captions, with a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from trainer.data.text_cache import TextCache
from trainer.families.base import Conditioning, concatenate
from trainer.plan.memory import KEPT_TEXT

_CPU = torch.device("cpu")


@dataclass(slots=True)
class TextStates:
    """The conditioning of captions, cached by text unless a text encoder is trained.

    Shuffled captions are cached like any other text, up to `KEPT_TEXT` bytes of the latest ones.
    encode: of captions; dtype: of the result; trained: a text encoder is trained, so nothing is
    cached. together: encode the new texts of a batch in one pass, which is fast on a GPU; else one
    by one, so that their last bits do not depend on the batch and a resumed run is identical.

    `encode_all` encodes every text of a run beforehand, so that the encoders are not needed any
    more; files: where those texts are kept, None for main memory. device: of the result.
    """

    encode: Callable[[Sequence[str]], Conditioning]
    dtype: torch.dtype
    trained: bool
    together: bool = False
    files: TextCache | None = None
    device: torch.device = _CPU
    _cache: OrderedDict[str, Conditioning] = field(default_factory=OrderedDict)
    _all: dict[str, Conditioning] = field(default_factory=dict)
    _is_complete: bool = False

    @property
    def is_complete(self) -> bool:
        """Tell whether every text of the run is encoded, so that the encoders may be gone."""
        return self._is_complete

    def states(self, captions: Sequence[str]) -> Conditioning:
        """Return the conditioning of captions, one row each."""
        if self.trained:
            return self.encode(captions).to(self.dtype)
        if self._is_complete:
            rows = [self._row(caption) for caption in captions]
            return concatenate(rows).on(self.device)
        encoded_rows = {
            caption: self._cache.pop(caption)
            for caption in dict.fromkeys(captions)
            if caption in self._cache
        }
        new = [caption for caption in dict.fromkeys(captions) if caption not in encoded_rows]
        for group in [new] if new and self.together else [[caption] for caption in new]:
            encoded_rows |= self._encoded(group)
        self._cache.update(encoded_rows)
        while len(self._cache) > 1 and sum(row.nbytes for row in self._cache.values()) > KEPT_TEXT:
            self._cache.popitem(last=False)
        return concatenate([encoded_rows[caption] for caption in captions])

    def missing(self, captions: Iterable[str]) -> list[str]:
        """Return the captions, each once, that are not in the files: those still to be encoded."""
        different = dict.fromkeys(captions)
        if self.files is None:
            return list(different)
        return [caption for caption in different if self.files.read(caption) is None]

    def encode_all(self, captions: Sequence[str], reporter: Reporter = SILENT) -> None:
        """Encode captions one by one, and from then on return only these.

        captions: those of the run that are `missing`. Raises StorageError.
        """
        reporter.start("encoding captions", len(captions))
        for caption in captions:
            row = self._encoded([caption])[caption].on(_CPU)
            if self.files is None:
                self._all[caption] = row
            else:
                self.files.write(caption, row)
            reporter.advance()
        reporter.finish()
        self._is_complete = True

    def _encoded(self, captions: Sequence[str]) -> dict[str, Conditioning]:
        with torch.no_grad():
            encoded = self.encode(captions).to(self.dtype)
        return dict(zip(captions, encoded.rows(), strict=True))

    def _row(self, caption: str) -> Conditioning:
        row = self._all.get(caption) if self.files is None else self.files.read(caption)
        if row is None:
            where = "" if self.files is None else f" in {display(self.files.folder)}"
            raise InputError(
                f"the encoded caption {display(caption[:60])!r} is missing{where}",
                hint="start the run again: what is missing is encoded before the first step",
            )
        return row
