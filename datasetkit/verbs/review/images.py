"""One image of the review page: its record, its number and the stamps of its files; and tags as
integer codes.
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
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import caption_hash
from datasetkit.verbs.shared.image_facts import ImageFacts


@dataclass(frozen=True, eq=False)
class ReviewImage:
    """One image of the page. It is immutable: a change replaces it with a new object.

    id: a number that stays the same while the server runs. name: the file name. concept: index into
    the dataset's concepts. stamp: of the image file when it was scanned. caption_stamp: of the
    caption file; None if it must be read again. changed_in: the version in which the caption
    changed last. previous_caption: the caption before that change.
    """

    id: int
    facts: ImageFacts
    name: str
    concept: int
    stamp: FileStamp
    caption_stamp: FileStamp | None = None
    changed_in: int = 0
    previous_caption: Caption | None = None

    @property
    def path(self) -> Path:
        return self.facts.record.path

    @property
    def caption(self) -> Caption | None:
        return self.facts.record.caption

    @cached_property
    def key(self) -> str:
        """The cache key of the file's current content."""
        return self.stamp.key()

    @property
    def v(self) -> str:
        """The version in the thumbnail's URL, so that new content gets a new URL."""
        return self.key[:8]

    def read(self, data: bytes | None) -> Caption | None:
        """Parse the content of the caption file, unless it is what dsk writes for the caption in
        memory.
        """
        expected = (
            None
            if self.caption is None
            else file_text(self.caption).encode("utf-8", "surrogatepass")
        )
        return self.caption if data == expected else self.decode(data)

    def decode(self, data: bytes | None) -> Caption | None:
        """Parse the content of a caption file of this image."""
        return decode_caption(caption_path(self.path), data, syntax_of(self.path.parent))

    @cached_property
    def hash(self) -> str:
        """The hash of the caption, "" without one."""
        return "" if self.caption is None else caption_hash(self.caption)


class TagCodes:
    """Integer codes for the normal forms of tags, so that numpy can count ten thousand captions."""

    def __init__(self) -> None:
        self.forms: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, form: str) -> int:
        code = self._codes.get(form)
        if code is None:
            code = self._codes[form] = len(self.forms)
            self.forms.append(form)
        return code

    def of(self, facts: ImageFacts) -> NDArray[np.int32]:
        """Return an array of two rows: the code of each tag of an image, without repetition, and
        its score in steps, -1 if there is none.
        """
        codes: NDArray[np.int32] | None = facts.__dict__.get("codes")
        if codes is None:
            scores = facts.scores
            forms = dict.fromkeys(facts.in_order)
            codes = np.array(
                [[self.code(f) for f in forms], [scores.get(f, -1) for f in forms]], np.int32
            )
            facts.__dict__["codes"] = codes
        return codes

    def gather(self, images: Sequence[ImageFacts]) -> NDArray[np.int32]:
        """Return the arrays of many images side by side."""
        arrays = [self.of(facts) for facts in images]
        return np.concatenate(arrays, axis=1) if arrays else np.empty((2, 0), np.int32)
