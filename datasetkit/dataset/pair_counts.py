"""Count the pairs of numbers that occur together in many small sets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Pairs that are counted at once, and the most cells of a table of all pairs: 64 MB.
_AT_ONCE = 1 << 20
_MOST_CELLS = 1 << 23


class PairCounts:
    """Counts of the pairs (a, b), a < b < size, each as the number a * size + b."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self._size = size
        self._waiting: list[NDArray[np.int64]] = []
        self._number = 0
        # A cell for each pair where there are few, else the sorted pairs and their counts.
        self._cells = np.zeros(size * size if size * size <= _MOST_CELLS else 0, np.int64)
        self._pairs = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)

    def add(self, codes: NDArray[np.int64]) -> None:
        """Count the pairs of a set of ascending numbers."""
        first, second = _upper(len(codes))
        self._waiting.append(codes[first] * self._size + codes[second])
        self._number += len(first)
        if self._number >= _AT_ONCE:
            self._count()

    def repeated(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs that occurred twice or more, ascending, with their counts."""
        self._count()
        if len(self._cells):
            pairs = (self._cells > 1).nonzero()[0]
            counts = self._cells[pairs]
        else:
            many = self._counts > 1
            pairs, counts = self._pairs[many], self._counts[many]
        yield from zip(pairs.tolist(), counts.tolist(), strict=True)

    def _count(self) -> None:
        import numpy as np

        if not self._waiting:
            return
        waiting = np.concatenate(self._waiting)
        self._waiting, self._number = [], 0
        if len(self._cells):
            self._cells += np.bincount(waiting, minlength=len(self._cells))
            return
        pairs, counts = np.unique(waiting, return_counts=True)
        self._pairs, places = np.unique(np.concatenate([self._pairs, pairs]), return_inverse=True)
        total = np.zeros(len(self._pairs), np.int64)
        np.add.at(total, places, np.concatenate([self._counts, counts]))
        self._counts = total


@lru_cache(maxsize=256)
def _upper(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the pairs of so many numbers."""
    import numpy as np

    return np.triu_indices(length, 1)
