"""Caption diffs: what a change of a caption adds, takes away and moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.records import Caption


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """One image's caption before and after; before is None where there was none.

    Tags are compared letter by letter: another spelling is shown as one tag taken away and one
    added.
    """

    path: Path
    before: Caption | None
    after: Caption

    @property
    def added(self) -> tuple[str, ...]:
        """Return the tags that come, in the order of the new caption."""
        return _beyond(self.after.tags, self._old)

    @property
    def removed(self) -> tuple[str, ...]:
        """Return the tags that go, in the order of the old caption; a second copy of a tag
        counts.
        """
        return _beyond(self._old, self.after.tags)

    @property
    def reordered(self) -> bool:
        """Tell whether the tags that stay change their order."""
        return _shared(self._old, self.after.tags) != _shared(self.after.tags, self._old)

    @property
    def _old(self) -> tuple[str, ...]:
        return () if self.before is None else self.before.tags


def _beyond(tags: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags that stand in `tags` more often than in `others`: the later copies."""
    if len(set(tags)) == len(tags):  # nearly always, and several times as fast
        known = set(others)
        return tuple(tag for tag in tags if tag not in known)
    left = Counter(others)
    more: list[str] = []
    for tag in tags:
        left[tag] -= 1
        if left[tag] < 0:
            more.append(tag)
    return tuple(more)


def _shared(tags: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags that stand in both, each where it stands first."""
    known = set(others)
    return tuple(tag for tag in dict.fromkeys(tags) if tag in known)
