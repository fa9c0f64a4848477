"""Laying a subject onto one plain colour without a halo: at its edge the old background is taken
out of the colours.

A pixel of the edge is a mixture, I = a F + (1 - a) B. What is wanted is a F + (1 - a) C for the new
colour C, and F has to be estimated (Forte, "Approximate Fast Foreground Colour Estimation", ICIP
2021): from the mean F' of what is surely subject nearby and the mean B' of what is surely not, F =
F' + a (I - a F' - (1 - a) B').
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]
Floats = NDArray[np.float32]

# "Nearby": cells of a 160th of the longer side (a mask of 320 x 320 is unsure of 1-3 of its own
# pixels), and where these hold nothing sure, cells 4, 16 and 64 times as large, each counting for
# less.
CELLS = 160
WIDER = ((1, 1.0), (4, 0.03), (16, 0.001), (64, 0.00003))
_SOME = 1e-12  # weight; less is rounding


def flatten(image: Image.Image, mask: Image.Image, colour: Colour) -> Image.Image:
    """Lay the subject of an RGB image onto a colour. mask: L of the same size, 255 for the
    subject.
    """
    flat = np.asarray(Image.composite(image, Image.new("RGB", image.size, colour), mask)).copy()
    band, own, alpha = _edge(image, mask)
    if len(own):
        flat[band] = _bytes(alpha * own + (1 - alpha) * np.array(colour, np.float32))
    return Image.fromarray(flat)


def transparent(image: Image.Image, mask: Image.Image, colour: Colour) -> Image.Image:
    """Give an image its mask as alpha (RGBA); where nothing shows stands the colour, for readers
    that drop alpha.
    """
    seen = mask.point([0] + [255] * 255)
    bare = np.asarray(Image.composite(image, Image.new("RGB", image.size, colour), seen)).copy()
    band, own, _ = _edge(image, mask)
    if len(own):
        bare[band] = _bytes(own)
    result = Image.fromarray(bare)
    result.putalpha(mask)
    return result


def _edge(image: Image.Image, mask: Image.Image) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Return which pixels are mixtures (h, w), their subject's own colours (n, 3) and their alpha
    (n, 1).
    """
    opacity = np.asarray(mask)
    band = (opacity > 0) & (opacity < 255)
    ys, xs = np.nonzero(band)
    pixels = np.asarray(image)
    seen = pixels[ys, xs].astype(np.float32)
    alpha = np.asarray(opacity[ys, xs] / 255, np.float32)[:, None]
    if not len(seen):
        return band, seen, alpha
    inside, has_inside = _nearby(pixels, opacity == 255, ys, xs)
    outside, has_outside = _nearby(pixels, opacity == 0, ys, xs)
    outside = np.where(has_outside, outside, seen)
    own = inside + alpha * (seen - alpha * inside - (1 - alpha) * outside)
    return band, np.asarray(np.where(has_inside, own, seen), np.float32), alpha


def _nearby(
    pixels: NDArray[np.uint8], sure: NDArray[np.bool_], ys: NDArray[np.intp], xs: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the mean colour of what is sure near each place (n, 3), and where there is any at all
    (n, 1).
    """
    cell = max(1, max(pixels.shape[:2]) // CELLS)
    sums = _cells(np.where(sure[..., None], pixels, 0), cell)
    counts = _cells(sure[..., None], cell)
    fine = np.concatenate([sums, counts], axis=2)
    joined = np.zeros((len(ys), 4), np.float32)
    for factor, weight in WIDER:
        coarse = _cells(fine, factor)
        joined += weight * _sample(
            coarse, (ys + 0.5) / (cell * factor), (xs + 0.5) / (cell * factor)
        )
    total = joined[:, 3:]
    return np.asarray(joined[:, :3] / np.maximum(total, _SOME), np.float32), total > _SOME


def _cells(values: NDArray[np.generic], side: int) -> Floats:
    """Sum over square cells, as a share of a whole cell: (h, w, c) to (ceil(h / side), ceil(w /
    side), c).
    """
    if side == 1:
        return values.astype(np.float32)
    rows = np.arange(0, values.shape[0], side)
    columns = np.arange(0, values.shape[1], side)
    summed = np.add.reduceat(
        np.add.reduceat(values, rows, axis=0, dtype=np.float32), columns, axis=1
    )
    return np.asarray(summed / (side * side), np.float32)


def _sample(grid: Floats, y: NDArray[np.float64], x: NDArray[np.float64]) -> Floats:
    """Read a grid of cells between their centres, bilinearly: (n, c). y, x: in cells from the upper
    left corner.
    """
    height, width = grid.shape[:2]
    y, x = np.clip(y - 0.5, 0, height - 1), np.clip(x - 0.5, 0, width - 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    v, u = (y - top)[:, None].astype(np.float32), (x - left)[:, None].astype(np.float32)
    upper = grid[top, left] * (1 - u) + grid[top, right] * u
    lower = grid[below, left] * (1 - u) + grid[below, right] * u
    return np.asarray(upper * (1 - v) + lower * v, np.float32)


def _bytes(values: Floats) -> NDArray[np.uint8]:
    return np.asarray(np.clip(values + 0.5, 0, 255), np.uint8)
