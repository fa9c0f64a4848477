"""How blurred an image is: what blurring it once more would still take away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Images are compared at one size, that of the smallest usual training: what is soft in a photo of
# 12 megapixels is sharp for the trainer.
LONG_EDGE = 512
_WINDOW = 11  # pixels, of the mean that blurs once more


def blur(image: Image.Image) -> float:
    """Return 0 for a sharp image to 1 for one of which nothing is left, from its brightness; 0
    for a flat one.

    F. Crete, T. Dolmiere, P. Ladret, M. Nicolas, "The blur effect: perception and estimation with a
    new no-reference perceptual blur metric" (2007): the share of the differences between neighbours
    that a mean over 11 pixels keeps, by rows and by columns, the worse of the two. image: RGB or L,
    its long edge `LONG_EDGE`.
    """
    grey = np.asarray(image.convert("L"), np.float64)
    return max(_kept(grey), _kept(grey.T))


def _kept(rows: NDArray[np.float64]) -> float:
    """Return which share of the differences along the rows stands after blurring along them."""
    padded = np.pad(rows, ((0, 0), (_WINDOW // 2 + 1, _WINDOW // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    blurred = (sums[:, _WINDOW:] - sums[:, :-_WINDOW]) / _WINDOW
    before, after = np.abs(np.diff(rows, axis=1)), np.abs(np.diff(blurred, axis=1))
    total = float(before.sum())
    lost = float(np.maximum(0.0, before - after).sum())
    return 1.0 - lost / total if total else 0.0
