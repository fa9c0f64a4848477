"""Fill a region of an image: with white, with a blur of itself, or with the colours around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]

# The radius as a share of the region's shorter side: a blurred face must not be recognisable.
_BLUR = 0.25
# How far around a region the colours are taken from, as a share of its longer side.
_AROUND = 0.5
# A cell counts in full from one known pixel in _TRUST on, so that colours do not jump at the edge.
_TRUST = 8


def fill(image: Image.Image, hole: Image.Image, method: str) -> Image.Image:
    """Fill a region of an RGB image. hole: L of the same size, 255 where it is filled.

    method: `white`, `blur` (of the region itself) or `paint` (smoothly, from the colours around).
    """
    return FILLS[method](image, hole)


def _white(image: Image.Image, hole: Image.Image) -> Image.Image:
    return Image.composite(Image.new("RGB", image.size, "white"), image, hole)


def _blur(image: Image.Image, hole: Image.Image) -> Image.Image:
    left, top, right, bottom = hole.getbbox() or (0, 0, 0, 0)
    radius = max(2.0, min(right - left, bottom - top) * _BLUR)
    # Twice a box is nearly a Gaussian, and takes the same time for every radius.
    blurred = image.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius))
    return Image.composite(blurred, image, hole)


def _paint(image: Image.Image, hole: Image.Image) -> Image.Image:
    box = _around(hole)
    if box is None:
        return image
    part, known = image.crop(box), 255 - np.asarray(hole.crop(box))
    if not (known == 255).any():  # the hole is the whole image
        return _white(image, hole)
    painted = Image.fromarray(
        np.clip(spread(np.asarray(part), known == 255) + 0.5, 0, 255).astype(np.uint8)
    )
    result = image.copy()
    result.paste(painted, box[:2], hole.crop(box))
    return result


def _around(hole: Image.Image) -> Box | None:
    box = hole.getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    more = round(max(right - left, bottom - top) * _AROUND) + 1
    return (
        max(0, left - more),
        max(0, top - more),
        min(hole.width, right + more),
        min(hole.height, bottom + more),
    )


def spread(pixels: NDArray[np.uint8], known: NDArray[np.bool_]) -> Floats:
    """Spread the known colours of pixels (h, w, 3) over the unknown ones; return (h, w, 3).

    Push and pull: the known colours are averaged in ever larger cells, and unknown pixels are read
    from the next larger cells. Source: Gortler et al., "The Lumigraph", 1996, 5.4.
    """
    weights = known.astype(np.float32)[..., None]
    return _pulled(pixels.astype(np.float32) * weights, weights)


def _pulled(sums: Floats, weights: Floats) -> Floats:
    height, width = weights.shape[:2]
    here = sums / np.maximum(weights, 1e-6)
    if height * width == 1 or weights.min() >= 1:
        return np.asarray(here, np.float32)
    coarse = _pulled(_halved(sums), _halved(weights))
    beneath = np.stack(
        [
            np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR))
            for channel in np.ascontiguousarray(coarse.transpose(2, 0, 1))
        ],
        axis=2,
    )
    share = np.minimum(_TRUST * weights, 1)
    return np.asarray(here * share + beneath * (1 - share), np.float32)


def _halved(values: Floats) -> Floats:
    """Return the means of cells of 2 x 2; a cell at an odd edge has fewer pixels."""
    rows, columns = np.arange(0, values.shape[0], 2), np.arange(0, values.shape[1], 2)
    summed = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    tall = np.minimum(2, values.shape[0] - rows)[:, None, None]
    wide = np.minimum(2, values.shape[1] - columns)[None, :, None]
    return np.asarray(summed / (tall * wide), np.float32)


FILLS: dict[str, Callable[[Image.Image, Image.Image], Image.Image]] = {
    "white": _white,
    "blur": _blur,
    "paint": _paint,
}
