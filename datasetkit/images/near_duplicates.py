"""Looks: how an image looks, in 19 bytes, and which images of many look nearly the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.images import pixels

# The bits of a look: is each place of a 9 x 9 grey image darker than its right neighbour (8 rows
# of 8), and than the one below it. N. Krawetz, "Kind of Like That" (2013) calls the first half
# dHash.
_SIDE = 8
_BITS = 2 * _SIDE * _SIDE
_BYTES = _BITS // 8
LOOK_BYTES = _BYTES + 3
# An image is shrunk to this long edge first: the size of a thumbnail, which is then not made
# twice.
SEEN_AT = 256
# Images are near-duplicates with so few other bits of 128 and mean colours so near (0 to 255).
# Measured: copies that were shrunk to a quarter, saved as JPEG of quality 30 or made 10 % brighter
# differ in up to 7 bits, drawings of one figure with another face in 2, and what is another image
# in 38 and more.
MOST_BITS = 12
MOST_COLOUR = 32
# Rows of the comparison that are worked on at once.
_BLOCK = 256


def look(image: Image.Image) -> bytes:
    """Return the look of an RGB image: 128 bits of shape and its mean colour."""
    small = image.convert("L").resize((_SIDE + 1, _SIDE + 1), Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    across = grey[:_SIDE, :_SIDE] < grey[:_SIDE, 1:]
    down = grey[:_SIDE, :_SIDE] < grey[1:, :_SIDE]
    mean = np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.uint8).reshape(-1)[:3]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes() + mean.tobytes()


def small(
    path: Path,
    edge: int,
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    open_file: Callable[[Path], BinaryIO] | None = None,
) -> Image.Image:
    """Return an image, upright and in sRGB, whose long edge is at most `edge` pixels. Raises
    InputError.

    max_pixels, open_file: see `images.load_reduced`.
    """
    return fit(pixels.load_reduced(path, edge, max_pixels=max_pixels, open_file=open_file), edge)


def fit(reduced: pixels.ReducedImage, edge: int) -> Image.Image:
    """Shrink an image that was decoded for it to a long edge of at most `edge` pixels."""
    share = min(1.0, edge / max(reduced.width, reduced.height))
    size = max(1, round(reduced.width * share)), max(1, round(reduced.height * share))
    if size == reduced.image.size and share == 1.0:
        return reduced.image
    return reduced.image.resize(size, Image.Resampling.BICUBIC, box=reduced.box, reducing_gap=2.0)


def groups(looks: Sequence[bytes]) -> list[list[int]]:
    """Group what looks nearly the same: lists of indices, each rising, two or more in each, by
    their first one.

    What is near to one of a group belongs to it. Only images of nearly the same brightness are
    compared.
    """
    if not looks:
        return []
    several = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), LOOK_BYTES)
    # Copies of one file are one row: of 250 the pairs would be 31,125.
    table, owner = np.unique(several, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    colours = table[:, _BYTES:].astype(np.int16)
    order = np.argsort(colours.sum(axis=1), kind="stable")
    shapes = np.ascontiguousarray(table[order, :_BYTES]).view(np.uint64)
    near = ((int(order[a]), int(order[b])) for a, b in _near(shapes, colours[order]))
    group = _joined(len(table), near)
    found: dict[int, list[int]] = {}
    for place, row in enumerate(owner.tolist()):
        found.setdefault(group[row], []).append(place)
    return sorted(members for members in found.values() if len(members) > 1)


def _near(shapes: NDArray[np.uint64], colours: NDArray[np.int16]) -> Iterable[tuple[int, int]]:
    """Yield the places of near pairs of rows, which are sorted by brightness."""
    light = colours.sum(axis=1)
    ends = np.searchsorted(light, light + 3 * MOST_COLOUR, side="right")
    for start in range(0, len(shapes), _BLOCK):
        stop = min(start + _BLOCK, len(shapes))
        end = int(ends[stop - 1])
        other = np.bitwise_count(shapes[start:stop, None] ^ shapes[None, start:end]).sum(axis=2)
        rows, columns = np.nonzero(other <= MOST_BITS)
        rows, columns = rows[columns > rows] + start, columns[columns > rows] + start
        near = np.abs(colours[rows] - colours[columns]).max(axis=1, initial=0) <= MOST_COLOUR
        yield from zip(rows[near].tolist(), columns[near].tolist(), strict=True)


def _joined(number: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the group of each of `number` things, of which these pairs belong together
    (union-find).
    """
    parent = list(range(number))

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return [root(of) for of in range(number)]


def decode(jpeg: bytes) -> Image.Image:
    """Open a thumbnail that this program made."""
    with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
        return image.convert("RGB")
