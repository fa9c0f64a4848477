"""Images of the review page: a record, its number, and the signs of its files; its tags as
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasetkit.captions.caption import decode_caption, file_text
from datasetkit.core.file_stamp import FileStamp
from datasetkit.core.files import caption_path
from datasetkit.core.records import Caption
from datasetkit.project.store import caption_hash
from datasetkit.verbs.shared.image_facts import ImageFacts


@dataclass(frozen=True, eq=False)
class ReviewImage:
    """One image of the page; a change makes a new one in its place.

    id: its number while the server runs. name: as people see it. concept: its place in the dataset
    's concepts. file: the sign of the image that was looked at. text: that of the caption;
    None: to be looked at again. changed, outside: the versions in which its caption was changed
    last, and last by others than this server. was: the caption before.
    """

    id: int
    facts: ImageFacts
    name: str
    concept: int
    file: FileStamp
    text: FileStamp | None = None
    changed: int = 0
    outside: int = 0
    was: Caption | None = None

    @property
    def path(self) -> Path:
        return self.facts.record.path

    @property
    def caption(self) -> Caption | None:
        return self.facts.record.caption

    @cached_property
    def key(self) -> str:
        """The name that its very content has in caches."""
        return self.file.key()

    @property
    def v(self) -> str:
        """What the address of its thumbnail ends in, so that a new content is a new address."""
        return self.key[:8]

    def read(self, data: bytes | None) -> Caption | None:
        """Read what its caption's file holds; what dsk would write for the caption that is known
        need not be parsed.
        """
        known = (
            None
            if self.caption is None
            else file_text(self.caption).encode("utf-8", "surrogatepass")
        )
        return self.caption if data == known else decode_caption(caption_path(self.path), data)

    @cached_property
    def hash(self) -> str:
        """The hash of its caption, "" for none."""
        return "" if self.caption is None else caption_hash(self.caption)


class TagCodes:
    """Numbers for normal forms, so that ten thousand captions are counted as arrays."""

    def __init__(self) -> None:
        self.forms: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, form: str) -> int:
        found = self._numbers.get(form)
        if found is None:
            found = self._numbers[form] = len(self.forms)
            self.forms.append(form)
        return found

    def of(self, facts: ImageFacts) -> NDArray[np.int32]:
        """Return two rows: the numbers of an image's tags, each once, and their scores in steps,
        -1 for unknown.
        """
        known: NDArray[np.int32] | None = facts.__dict__.get("codes")
        if known is None:
            scores = facts.scores
            forms = dict.fromkeys(facts.in_order)
            known = np.array(
                [[self.number(f) for f in forms], [scores.get(f, -1) for f in forms]], np.int32
            )
            facts.__dict__["codes"] = known
        return known

    def gather(self, several: Sequence[ImageFacts]) -> NDArray[np.int32]:
        """Return the rows of many images, one behind the other."""
        arrays = [self.of(facts) for facts in several]
        return np.concatenate(arrays, axis=1) if arrays else np.empty((2, 0), np.int32)
