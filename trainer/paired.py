"""Means of pairs: losses or distances of the same image and noise, or the same prompt and seed.

A mean of paired differences is known far more precisely than either mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

# A mean differs from 0 if it is farther from it than so many standard errors.
_ERRORS: Final = 2.0


@dataclass(frozen=True, slots=True)
class PairedMean:
    """A mean and its standard error (None for a single pair)."""

    mean: float
    error: float | None

    @property
    def is_rise(self) -> bool:
        """Tell whether it is above 0 by more than chance, or not finite."""
        return not self.mean <= _ERRORS * (self.error or 0.0)

    @property
    def is_fall(self) -> bool:
        """Tell whether it is below 0 by more than chance; False for a single pair."""
        return self.error is not None and self.mean < -_ERRORS * self.error

    def words(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.mean:+.4f}{error}"


def mean(values: ArrayLike) -> PairedMean:
    """Return the mean of values, one row for each image, with its standard error: over images,
    because the timesteps of one image are not independent.
    """
    rows = np.asarray(values, np.float64)
    each = rows.reshape(len(rows), -1).mean(axis=1)
    error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else None
    return PairedMean(float(each.mean()), error)


def difference(now: ArrayLike, before: ArrayLike) -> PairedMean:
    """Return the mean of `now` - `before`."""
    return mean(np.asarray(now, np.float64) - np.asarray(before, np.float64))
