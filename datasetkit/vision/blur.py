"""How blurred an image is: how little blurring it again changes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Images are compared at one size, the smallest that is usual in training: a soft photo of 12
# megapixels is sharp for the trainer.
LONG_EDGE = 512
_WINDOW = 11  # pixels, of the mean filter


def blur(image: Image.Image) -> float:
    """Return the blur of an image's brightness, from 0 (sharp, or one flat colour) to 1.

    It is the share of the differences between neighbours that a mean over 11 pixels keeps, along
    rows or columns, whichever is larger. image: RGB or L, its long edge `LONG_EDGE`.

    Source: F. Crete, T. Dolmiere, P. Ladret, M. Nicolas, "The blur effect: perception and
    estimation with a new no-reference perceptual blur metric", 2007.
    """
    grey = np.asarray(image.convert("L"), np.float64)
    return max(_kept(grey), _kept(grey.T))


def _kept(rows: NDArray[np.float64]) -> float:
    """Return the share of the differences along the rows that remains after blurring along them."""
    padded = np.pad(rows, ((0, 0), (_WINDOW // 2 + 1, _WINDOW // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    blurred = (sums[:, _WINDOW:] - sums[:, :-_WINDOW]) / _WINDOW
    before, after = np.abs(np.diff(rows, axis=1)), np.abs(np.diff(blurred, axis=1))
    total = float(before.sum())
    lost = float(np.maximum(0.0, before - after).sum())
    return 1.0 - lost / total if total else 0.0
