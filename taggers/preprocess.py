"""How a picture becomes the square that a model takes, byte for byte as in the models' own apps, or faster."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasetkit import images
from datasetkit.core.errors import InputError

# Part of the key of stored scores: to be raised whenever one byte of the result changes. Both kinds of models share
# them: which kind a model is follows from its files, and so from its revision.
PREPROCESS = "wd-bgr-bicubic-1"
FAST_PREPROCESS = "wd-bgr-shrunk-1"

WHITE = (255, 255, 255)
ORIENTATION = 0x0112
# Wide pictures are resampled by rows in bands of so many padded pixels, so that 1x20000 does not become 20000x20000.
BAND_PIXELS = 1 << 22
# A strip of `size` by this many pixels is the most that is held (59 MB at 448); a longer side is no picture to tag.
LONGEST_SIDE = 32_767


def to_square_bgr(image: Image.Image, size: int) -> NDArray[np.float32]:
    """Return the picture on a white square: (size, size, 3), float32 from 0 to 255, blue first.

    Steps: EXIF turn, alpha onto white, RGB, white border to a square of the longer side (offset rounded down),
    BICUBIC to `size` unless it has that size already. Raises InputError for a side over 32,767 pixels.
    """
    if max(image.size) > LONGEST_SIDE:
        raise InputError(f"a picture of {image.width}x{image.height} pixels is too long to tag: {LONGEST_SIDE} at most")
    square = _square(_rgb(_turned(image)), size)
    return np.ascontiguousarray(np.asarray(square)[:, :, ::-1], np.float32)


def shrunk_to_square_bgr(image: Image.Image, whole: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Do what `to_square_bgr` does with an RGB picture that its decoder shrank from `whole` (width, height) pixels.

    A decoder shrinks by 2, 4 or 8. The padded square of the whole picture then has a side and a place that are no
    whole pixels of the shrunk one: one BICUBIC resize with a fractional box hits them. (To resize first and pad then
    moves edges by up to a pixel: 35 dB against 50 and more.)
    """
    factor = round(max(whole) / max(image.size))
    if factor <= 1:
        return to_square_bgr(image, size)
    side = max(whole) / factor
    left, top = ((max(whole) - length) // 2 / factor for length in whole)
    border_x, border_y = math.ceil(left), math.ceil(top)
    # Along the long edge there is no border, as in the whole square, so that its ends are not mixed with white.
    width = max(image.width, math.ceil(border_x - left + side)) if left else image.width
    height = max(image.height, math.ceil(border_y - top + side)) if top else image.height
    canvas = _padded(_with_soft_end(image, whole, factor), width, height, border_x, border_y)
    x, y = border_x - left, border_y - top
    box = (x, y, min(x + side, canvas.width), min(y + side, canvas.height))
    square = canvas.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(square)[:, :, ::-1], np.float32)


def _with_soft_end(image: Image.Image, whole: tuple[int, int], factor: int) -> Image.Image:
    """Mix the last row or column of a shrunk picture with the white beside it, by how much of it lies outside.

    1003 pixels shrunk by 2 are 502, and the last one is half a pixel that the decoder made up.
    """
    axis = 1 if whole[0] > whole[1] else 0  # the short one, which gets the border
    inside = whole[axis] / factor % 1
    if whole[0] == whole[1] or not inside:
        return image
    width, height = image.size
    box = (0, height - 1, width, height) if axis else (width - 1, 0, width, height)
    end = image.crop(box)
    soft = image.copy()
    soft.paste(Image.blend(Image.new("RGB", end.size, WHITE), end, inside), box)
    return soft


def _turned(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; `exif_transpose` alone would copy every picture that needs no turn."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def _rgb(image: Image.Image) -> Image.Image:
    """Return an RGB picture of any mode, transparent parts on white; what `images.load` gave passes untouched."""
    if image.mode == "RGB" and not image.info:
        return image
    return images.to_srgb(image.copy())  # a copy: the caller's picture keeps its metadata


def _square(image: Image.Image, size: int) -> Image.Image:
    """Pad to a white square and resize it, row bands first and then columns.

    Pillow resamples rows first and each by itself, and white stays white, so only the picture's own rows are
    resampled: the same bytes as from the whole padded square, for a part of its memory.
    """
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    if side == size:
        return _padded(image, size, size, left, top)
    strip = Image.new("RGB", (size, side), WHITE)
    band = max(1, BAND_PIXELS // side)
    for y in range(0, height, band):
        rows = image.crop((0, y, width, min(y + band, height)))
        padded = _padded(rows, side, rows.height, left, 0)
        strip.paste(padded.resize((size, rows.height), Image.Resampling.BICUBIC), (0, top + y))
    return strip.resize((size, size), Image.Resampling.BICUBIC)


def _padded(image: Image.Image, width: int, height: int, left: int, top: int) -> Image.Image:
    if image.size == (width, height):
        return image
    canvas = Image.new("RGB", (width, height), WHITE)
    canvas.paste(image, (left, top))
    return canvas
