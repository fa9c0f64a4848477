"""The facts of images that filters use, computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from datasetkit.captions import tokens
from datasetkit.captions.caption import forms_of
from datasetkit.captions.predicates import caption_form, folded
from datasetkit.core.records import Caption, ImageRecord


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Facts of the images of a dataset that are not in their files."""

    scores: Callable[[str], Mapping[str, int]]
    is_generated: Callable[[Caption], bool]
    has_duplicate: Callable[[Path], bool]


class ImageFacts:
    """The facts of one image (`captions.predicates.Facts`); slow ones are computed on demand."""

    def __init__(
        self, record: ImageRecord, below: str, concept: str, repeats: int, dataset: DatasetFacts
    ) -> None:
        """below: the path relative to the folder of the dataset."""
        self.record = record
        self.repeats = repeats
        self._below = below
        self._concept = concept
        self._dataset = dataset

    def with_caption(self, caption: Caption | None) -> ImageFacts:
        """Return the facts of the same image with another caption."""
        record = replace(self.record, caption=caption)
        return ImageFacts(record, self._below, self._concept, self.repeats, self._dataset)

    @property
    def _tags(self) -> tuple[str, ...]:
        return () if self.record.caption is None else self.record.caption.tags

    @cached_property
    def in_order(self) -> tuple[str, ...]:
        """The normal forms of the tags, in the order of the caption."""
        return () if self.record.caption is None else forms_of(self.record.caption)

    @cached_property
    def forms(self) -> Collection[str]:
        return frozenset(self.in_order)

    @cached_property
    def text(self) -> str:
        caption = self.record.caption
        sentences = () if caption is None else map(caption_form, caption.sentences)
        return ", ".join((*self.in_order, *sentences))

    @cached_property
    def name(self) -> str:
        return folded(self.record.path.name)

    @cached_property
    def path(self) -> str:
        return folded(self._below)

    @cached_property
    def concept(self) -> str:
        return folded(self._concept)

    @property
    def tags(self) -> int:
        return len(self._tags)

    @cached_property
    def chars(self) -> int:
        return 0 if self.record.caption is None else len(self.record.caption.text())

    @cached_property
    def tokens(self) -> int:
        return 0 if self.record.caption is None else tokens.count_caption(self.record.caption)

    @property
    def scores(self) -> Mapping[str, int]:
        return self._dataset.scores(self.record.id)

    @property
    def dup(self) -> bool:
        return self._dataset.has_duplicate(self.record.path)

    @property
    def edited(self) -> bool:
        """Whether a person wrote the caption, or changed what dsk wrote."""
        caption = self.record.caption
        return (
            caption is not None and not caption.is_empty and not self._dataset.is_generated(caption)
        )


def below(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, with `/`."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
