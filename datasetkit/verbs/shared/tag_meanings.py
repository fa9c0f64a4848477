"""What tags mean in another language: the tables of a project, and those that dsk.toml names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from datasetkit.captions import translations
from datasetkit.captions.translations import Translations
from datasetkit.options.review import ReviewOptions


def named_tables(options: ReviewOptions) -> tuple[Path, ...]:
    """Return the tables that options name."""
    return tuple(map(Path, options.translations))


def own_tables(root: Path) -> tuple[Path, ...]:
    """Return the tables beside a project's dsk.toml, the one that the page writes first."""
    return tuple(root / name for name in translations.NAMES if os.path.lexists(root / name))


class TagMeanings:
    """The meanings of a project: its own tables first, then the named ones in their order. They are
    read again once the own ones change.
    """

    def __init__(self, root: Path, options: ReviewOptions | None = None) -> None:
        options = options or ReviewOptions()
        self._root, self._language = root, options.language
        self._named = translations.read_all(named_tables(options), language=self._language)
        self._state: Sequence[object] = ()
        self._all = Translations()
        self.refresh()

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def problem(self) -> str:
        """What could not be read, "" if all could."""
        return "; ".join(self._all.problems)

    def of(self, tag: str) -> str:
        """Return what a tag means, "" if no table has it."""
        return self._all.of(tag)

    def refresh(self) -> None:
        """Read the own tables again if they have changed."""
        paths = own_tables(self._root)
        state = [(path, _stamp(path)) for path in paths]
        if state != self._state or not self._state:
            own = translations.read_all(paths, language=self._language)
            self._all, self._state = self._named.with_own(own), state


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        info = path.lstat()
    except OSError:
        return ()
    return info.st_mtime_ns, info.st_size, info.st_ino
