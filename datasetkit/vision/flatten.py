"""Put a subject on a plain colour without a halo of the old background at its edge.

A pixel of the edge is a mixture of foreground and background, I = a F + (1 - a) B. The new one is
a F + (1 - a) C with the new colour C, so F must be estimated: from the mean F' of the nearby pixels
that belong to the subject, and the mean B' of those that do not,

    F = F' + a (I - a F' - (1 - a) B').

Source: M. Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]
Floats = NDArray[np.float32]

# "Nearby" means square cells of a 160th of the longer side: a mask of 320 x 320 is unsure of 1 to 3
# of its own pixels. If they have no sure pixel, cells 4, 16 and 64 times as large count, with ever
# smaller weights.
CELLS = 160
WIDER = ((1, 1.0), (4, 0.03), (16, 0.001), (64, 0.00003))
_SOME = 1e-12  # weight; less is rounding


def flatten(image: Image.Image, mask: Image.Image, colour: Colour) -> Image.Image:
    """Put the subject of an RGB image on a colour. mask: L, the same size, 255 for the subject."""
    flat = np.asarray(Image.composite(image, Image.new("RGB", image.size, colour), mask)).copy()
    band, foreground, alpha = _edge(image, mask)
    if len(foreground):
        flat[band] = _bytes(alpha * foreground + (1 - alpha) * np.array(colour, np.float32))
    return Image.fromarray(flat)


def transparent(image: Image.Image, mask: Image.Image, colour: Colour) -> Image.Image:
    """Return an image with its mask as alpha (RGBA).

    Fully transparent pixels have the colour, for readers that drop alpha.
    """
    visible = mask.point([0] + [255] * 255)
    bare = np.asarray(Image.composite(image, Image.new("RGB", image.size, colour), visible)).copy()
    band, foreground, _ = _edge(image, mask)
    if len(foreground):
        bare[band] = _bytes(foreground)
    result = Image.fromarray(bare)
    result.putalpha(mask)
    return result


def _edge(image: Image.Image, mask: Image.Image) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Return which pixels are mixtures (h, w), the foreground colours (n, 3) and alphas (n, 1) of
    these.
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
    foreground = inside + alpha * (seen - alpha * inside - (1 - alpha) * outside)
    return band, np.asarray(np.where(has_inside, foreground, seen), np.float32), alpha


def _nearby(
    pixels: NDArray[np.uint8], sure: NDArray[np.bool_], ys: NDArray[np.intp], xs: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the mean colour of the sure pixels near each position (n, 3), and whether there are
    any (n, 1).
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
    """Sum over square cells, as a share of a full cell.

    values: (h, w, c). Returns (ceil(h / side), ceil(w / side), c).
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
    """Interpolate a grid of cells bilinearly between their centres: (n, c).

    y, x: in cells, from the upper left corner.
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
