"""Photo-like JPEGs of 6 to 12 megapixels, the same bytes on every machine with the same
libraries.
"""

from __future__ import annotations

import math
import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ASSETS = Path(__file__).parents[2] / "examples" / "assets"
SOURCES = ("photos/*", "backgrounds/*")
# What phones and cameras write: quality around 90, colours at half the resolution (4:2:0).
QUALITY = 90
# What cameras and phones of 6 to 12 megapixels give, long edge first.
CAMERAS = (
    (2816, 2112), (3008, 2000), (3072, 2048), (3264, 2448), (3456, 2304), (3648, 2736),
    (3840, 2160), (3888, 2592), (4000, 2248), (4000, 3000),
)  # fmt: skip
# Every fifth image was cropped by its owner: its size is not a multiple of 8 or 16, as a camera's
# is.
CROPPED, LEAST_CROP = 5, 6e6
# The side, in pixels, of the square of grain that is laid over an image again and again.
GRAIN_SIDE = 1024


def make(folder: Path, count: int, *, shrink: int = 1) -> tuple[Path, ...]:
    """Return `count` images of a folder, made now where they are not there yet; the same ones
    every time.

    shrink: divides every side, for a smoke run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"photo_{number:03}_{shrink}.jpg" for number in range(count))
    missing = [number for number in range(count) if not paths[number].exists()]
    if len(missing) < 4:
        for number in missing:
            _make_one(paths, shrink, number)
        return paths
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_make_one, paths, shrink), missing))
    return paths


def _make_one(paths: tuple[Path, ...], shrink: int, number: int) -> None:
    temporary = paths[number].with_suffix(".part")
    image(number, shrink=shrink).save(temporary, "JPEG", quality=QUALITY)
    temporary.replace(paths[number])


def image(number: int, *, shrink: int = 1) -> Image.Image:
    """Compose image `number`: a photo or painting mirrored edge to edge, with fine detail and
    sensor grain.

    The detail falls off with its frequency, as it does in photos (Field 1987), so that neither the
    size of the files nor what a reduced decode loses is that of an enlarged small image.
    """
    rng = random.Random(number)
    sources = sorted(path for pattern in SOURCES for path in ASSETS.glob(pattern))
    width, height = _size(rng, number, shrink)
    with Image.open(sources[number % len(sources)]) as opened:
        source = opened.convert("RGB")
    scale = rng.uniform(0.4, 1.0) * max(width / source.width, height / source.height)
    tile = source.resize(
        (max(1, round(source.width * scale)), max(1, round(source.height * scale)))
    )
    pixels = np.asarray(_mirrored(tile, (width, height)))
    grain = _repeated(_grain(number), (height, width))
    # uint8 + int8 in int16: three times less memory than floats.
    return Image.fromarray(
        np.clip(pixels.astype(np.int16) + grain[:, :, None], 0, 255).astype(np.uint8)
    )


def _size(rng: random.Random, number: int, shrink: int) -> tuple[int, int]:
    """Choose a camera's size, upright for one image in three; every fifth loses a little at its
    edges.
    """
    width, height = rng.choice(CAMERAS)
    if number % CROPPED == CROPPED - 1:
        spare = 1 - math.sqrt(LEAST_CROP / (width * height))
        width, height = (
            round(side * (1 - rng.uniform(0, max(0.0, spare)))) for side in (width, height)
        )
    size = max(1, width // shrink), max(1, height // shrink)
    return size if rng.random() < 2 / 3 else size[::-1]


def _mirrored(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fill `size` with a tile and its mirror images, so that no seam shows."""
    canvas = Image.new("RGB", size)
    for row, top in enumerate(range(0, size[1], tile.height)):
        for column, left in enumerate(range(0, size[0], tile.width)):
            turned = ImageOps.mirror(tile) if column % 2 else tile
            canvas.paste(ImageOps.flip(turned) if row % 2 else turned, (left, top))
    return canvas


def _grain(number: int) -> NDArray[np.int8]:
    """Return a square of detail, brightness only: amplitude 1 / frequency, and white noise of the
    sensor.
    """
    rng = np.random.default_rng(number)
    white = rng.standard_normal((GRAIN_SIDE, GRAIN_SIDE))
    down, across = np.fft.fftfreq(GRAIN_SIDE)[:, None], np.fft.rfftfreq(GRAIN_SIDE)[None, :]
    frequency = np.maximum(np.hypot(down, across), 8 / GRAIN_SIDE)
    detail = np.fft.irfft2(np.fft.rfft2(white) / frequency, white.shape)
    detail *= 7.0 / detail.std()  # levels of 255
    return np.clip(np.rint(detail + rng.normal(0, 2.8, white.shape)), -60, 60).astype(np.int8)


def _repeated(square: NDArray[np.int8], shape: tuple[int, int]) -> NDArray[np.int8]:
    times = [math.ceil(side / GRAIN_SIDE) for side in shape]
    return np.tile(square, times)[: shape[0], : shape[1]]
