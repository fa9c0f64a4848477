"""Turn an image into the square that a model takes: byte for byte as the models' own apps do, or
faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasetkit.core.errors import InputError
from datasetkit.images import pixels

# Part of the key of stored scores: raise it when a byte of the result changes. Both kinds of models
# share it: a model's kind follows from its files, and so from its revision.
PREPROCESS = "wd-bgr-bicubic-1"
FAST_PREPROCESS = "wd-bgr-shrunk-2"

WHITE = (255, 255, 255)
ORIENTATION = 0x0112
# Tall images are resampled in bands of this many padded pixels, so that 1x20000 is not padded to
# 20000x20000.
BAND_PIXELS = 1 << 20
# A longer image is refused: a strip of `size` by this many pixels takes 59 MB at 448.
LONGEST_SIDE = 32_767
# The least multiple of the model's side that a decoder may reduce to: the input is then within 50.3
# dB of the exact one on average, with 1.5 within 48.5 dB.
FAST_FACTOR = 2.0


def to_square_bgr(image: Image.Image, size: int) -> NDArray[np.float32]:
    """Return the image on a white square: (size, size, 3), float32 from 0 to 255, blue first.

    In this order: EXIF turn, alpha onto white, RGB, white border to a square of the longer side
    (offset rounded down), BICUBIC to `size` unless it has that size. Raises InputError for a side
    over 32,767 pixels.
    """
    if max(image.size) > LONGEST_SIDE:
        raise InputError(
            f"{image.width}x{image.height} pixels are too long to tag: {LONGEST_SIDE} at most"
        )
    square = _square(_rgb(_turned(image)), size)
    return np.ascontiguousarray(np.asarray(square)[:, :, ::-1], np.float32)


def shrunk_to_square_bgr(reduced: pixels.ReducedImage, size: int) -> NDArray[np.float32]:
    """Do what `to_square_bgr` does, with an RGB image that its decoder reduced by 2, 4 or 8.

    The side and offset of the whole image's padded square are then fractions of a reduced pixel, so
    one BICUBIC resize reads a fractional box. (Resizing first and padding then moves edges by up to
    a pixel: 35 dB against 50 and more.)
    """
    whole = reduced.width, reduced.height
    factor = round(max(whole) / max(reduced.image.size))
    if factor <= 1:
        return to_square_bgr(reduced.image, size)
    side = max(whole) / factor
    left, top = ((max(whole) - length) // 2 / factor for length in whole)
    border_x, border_y = math.ceil(left), math.ceil(top)
    # Where the square begins: the image itself may begin within a pixel.
    x, y = border_x + reduced.box[0] - left, border_y + reduced.box[1] - top
    image = _with_soft_ends(reduced)
    # As in the whole square there is no border along the long edge, so its ends do not mix with
    # white.
    width = max(border_x + image.width, math.ceil(x + side)) if left else image.width
    height = max(border_y + image.height, math.ceil(y + side)) if top else image.height
    canvas = _padded(image, width, height, border_x, border_y)
    box = (x, y, min(x + side, canvas.width), min(y + side, canvas.height))
    square = canvas.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(square)[:, :, ::-1], np.float32)


def _with_soft_ends(reduced: pixels.ReducedImage) -> Image.Image:
    """Mix the first and last row or column beside the border with white, by the share of it that
    lies outside of the image.

    1003 pixels reduced by 2 are 502, and half of the last one (the first of a mirrored image) is
    not in the image.
    """
    image, axis = reduced.image, int(reduced.width > reduced.height)
    if reduced.width == reduced.height:
        return image
    begins, ends, last = reduced.box[axis], reduced.box[axis + 2], image.size[axis] - 1
    shares = {0: 1 - begins % 1, last: 1 - (image.size[axis] - ends) % 1}
    for at, share in shares.items():
        if share < 1:
            image = _softened(image, axis, at, share)
    return image


def _softened(image: Image.Image, axis: int, at: int, share: float) -> Image.Image:
    """Return a copy with a column (axis 0) or row (axis 1) mixed with white.

    share: of its own colour.
    """
    box = (at, 0, at + 1, image.height) if axis == 0 else (0, at, image.width, at + 1)
    line = image.crop(box)
    soft = image.copy()
    soft.paste(Image.blend(Image.new("RGB", line.size, WHITE), line, share), box)
    return soft


def _turned(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. `exif_transpose` alone copies images that need no turn, too."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def _rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB, transparent parts on white; an image from `pixels.load`
    is returned as it is.
    """
    if image.mode == "RGB" and not image.info:
        return image
    return pixels.to_srgb(image.copy())  # a copy: the caller's image keeps its metadata


def _square(image: Image.Image, size: int) -> Image.Image:
    """Pad to a white square and resize it, first along rows in bands, then along columns.

    Pillow resamples rows first and independently, and white rows stay white, so only the image's
    own rows are resampled: the same bytes as from the whole square, with less memory.
    """
    width, height = image.size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    if side == size:
        return _padded(image, size, size, left, top)
    strip = Image.new("RGB", (size, side), WHITE)
    for y, rows in _full_rows(image, side, left):
        strip.paste(rows.resize((size, rows.height), Image.Resampling.BICUBIC), (0, top + y))
    return strip.resize((size, size), Image.Resampling.BICUBIC)


def _full_rows(image: Image.Image, side: int, left: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield (y, rows of `side` pixels): the image itself if it is that wide, else bands of it on
    white.
    """
    width, height = image.size
    if width == side:
        yield 0, image
        return
    band = min(height, max(1, BAND_PIXELS // side))
    canvas = Image.new("RGB", (side, band), WHITE)
    for y in range(0, height, band):
        rows = min(band, height - y)
        canvas.paste(image, (left, -y))  # cropped to the canvas
        yield y, canvas if rows == band else canvas.crop((0, 0, side, rows))


def _padded(image: Image.Image, width: int, height: int, left: int, top: int) -> Image.Image:
    if image.size == (width, height):
        return image
    canvas = Image.new("RGB", (width, height), WHITE)
    canvas.paste(image, (left, top))
    return canvas
