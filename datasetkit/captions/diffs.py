"""Caption diffs: the tags and sentences that a change adds, removes and reorders."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.records import Caption


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """The caption of one image before and after a change; before is None if there was none.

    Tags are compared by their exact text: a changed spelling is one tag removed and one added. A
    sentence counts as one tag.
    """

    path: Path
    before: Caption | None
    after: Caption

    @property
    def added(self) -> tuple[str, ...]:
        """Return the added tags, in the order of the new caption."""
        return _beyond(self.after.pieces, self._old)

    @property
    def removed(self) -> tuple[str, ...]:
        """Return the removed tags, in the order of the old caption; each copy of a tag counts."""
        return _beyond(self._old, self.after.pieces)

    @property
    def reordered(self) -> bool:
        """Tell whether the tags that both captions have change their order."""
        return _shared(self._old, self.after.pieces) != _shared(self.after.pieces, self._old)

    @property
    def _old(self) -> tuple[str, ...]:
        return () if self.before is None else self.before.pieces


def _beyond(tags: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags that `tags` has more often than `others`: their later copies."""
    if len(set(tags)) == len(tags):  # the usual case, several times faster
        present = set(others)
        return tuple(tag for tag in tags if tag not in present)
    remaining = Counter(others)
    surplus: list[str] = []
    for tag in tags:
        remaining[tag] -= 1
        if remaining[tag] < 0:
            surplus.append(tag)
    return tuple(surplus)


def _shared(tags: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags in both, once each, in the order of `tags`."""
    present = set(others)
    return tuple(tag for tag in dict.fromkeys(tags) if tag in present)
