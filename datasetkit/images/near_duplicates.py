"""Near-duplicates: a fingerprint of 19 bytes for each image, and the groups of nearly equal
ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import InputError
from datasetkit.executors.in_flight import DECODED
from datasetkit.images import limits, pixels

# The bits of a fingerprint: is each pixel of a 9 x 9 grey image darker than its right neighbour (8
# rows of 8), and than the one below it. N. Krawetz, "Kind of Like That" (2013) calls the first half
# dHash.
_SIDE = 8
_BITS = 2 * _SIDE * _SIDE
_BYTES = _BITS // 8
FINGERPRINT_BYTES = _BYTES + 3
# An image is shrunk to this long edge first: the size of a thumbnail, which is then not made
# twice.
SEEN_AT = 256
# Images are near-duplicates if at most so many bits of 128 differ, and the mean colours by at most
# so much (0 to 255). Measured: copies that were shrunk to a quarter, saved as JPEG of quality 30 or
# made 10 % brighter differ in up to 7 bits, drawings of one figure with another face in 2, and
# other images in 38 and more.
MOST_BITS = 12
MOST_COLOUR = 32
# No thumbnail or preview is longer.
_THUMBNAIL_EDGE = 2048
# How two near-duplicates differ is seen on so many grey cells a side, after the brightness and
# contrast of one were fitted to the other's. Measured over 30 images: copies of another
# size or quality differ by at most 7 in the cell that differs most (95 of 100: 4), images with
# another mouth of 5 % of the width by 16 and more (95 of 100).
_DETAIL_SIDE = 32
COPY_DIFFERENCE = 8.0
# Rows that are compared at once.
_BLOCK = 256


def fingerprint(image: Image.Image) -> bytes:
    """Return the fingerprint of an RGB image: 128 bits of shape and its mean colour."""
    small = image.convert("L").resize((_SIDE + 1, _SIDE + 1), Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    across = grey[:_SIDE, :_SIDE] < grey[:_SIDE, 1:]
    down = grey[:_SIDE, :_SIDE] < grey[1:, :_SIDE]
    mean = np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.uint8).reshape(-1)[:3]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes() + mean.tobytes()


def detail(image: Image.Image) -> bytes:
    """Return an RGB image as a few grey cells, for `difference`."""
    side = (_DETAIL_SIDE, _DETAIL_SIDE)
    return image.convert("L").resize(side, Image.Resampling.HAMMING).tobytes()


def difference(one: bytes, other: bytes) -> float:
    """Return by how much two images differ in the cell in which they differ most, in grey levels.

    Copies of one image differ a little everywhere; drawings of one pose with another expression
    differ a lot in one place.
    """
    a, b = (np.frombuffer(cells, np.uint8).astype(np.float64) for cells in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a @ b) / max(float(a @ a), 1.0)
    return float(np.abs(b - scale * a).max())


def small(
    path: Path,
    edge: int,
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    open_file: Callable[[Path], BinaryIO] | None = None,
) -> Image.Image:
    """Return an image, upright and in sRGB, whose long edge is at most `edge` pixels. Raises
    InputError.

    max_pixels, open_file: see `pixels.load_reduced`.
    """
    with DECODED.work():
        reduced = pixels.load_reduced(path, edge, max_pixels=max_pixels, open_file=open_file)
        return fit(reduced, edge)


def fit(reduced: pixels.ReducedImage, edge: int) -> Image.Image:
    """Shrink an image that was decoded for it to a long edge of at most `edge` pixels."""
    share = min(1.0, edge / max(reduced.width, reduced.height))
    size = max(1, round(reduced.width * share)), max(1, round(reduced.height * share))
    if size == reduced.image.size and share == 1.0:
        return reduced.image
    return reduced.image.resize(size, Image.Resampling.BICUBIC, box=reduced.box, reducing_gap=2.0)


# Groups of which a person keeps all images, in the store's measurements: the fingerprints of each
# group, by their hash; no bytes for a group that is offered again.
KEPT = "kept near-duplicates 1"


def kept_row(fingerprints: Iterable[bytes]) -> tuple[str, bytes]:
    """Return the key and the row of KEPT for a group: its fingerprints."""
    row = b"".join(sorted(set(fingerprints)))
    return hashlib.sha256(row).hexdigest()[:32], row


def kept_groups(rows: Mapping[str, bytes]) -> dict[str, frozenset[bytes]]:
    """Return the fingerprints of each group that is kept, from the rows of KEPT."""
    return {key: frozenset(_split(row)) for key, row in rows.items() if row}


def _split(row: bytes) -> list[bytes]:
    return [row[at : at + FINGERPRINT_BYTES] for at in range(0, len(row), FINGERPRINT_BYTES)]


def is_kept(fingerprints: Iterable[bytes], kept: Iterable[frozenset[bytes]]) -> bool:
    """Tell whether a person keeps all images of a group: no other image has joined it since."""
    looks = set(fingerprints)
    return any(looks <= group for group in kept)


def groups(fingerprints: Sequence[bytes]) -> list[list[int]]:
    """Group near-duplicates: lists of two or more indices, ascending, ordered by their first index.

    An image that is near to one of a group belongs to the group. Only images of nearly the same
    brightness are compared.
    """
    if not fingerprints:
        return []
    several = np.frombuffer(b"".join(fingerprints), np.uint8)
    several = several.reshape(len(fingerprints), FINGERPRINT_BYTES)
    # Copies of one file are one row: of 250 the pairs would be 31,125.
    table, owner = np.unique(several, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    colours = table[:, _BYTES:].astype(np.int16)
    order = np.argsort(colours.sum(axis=1), kind="stable")
    shapes = np.ascontiguousarray(table[order, :_BYTES]).view(np.uint64)
    near = ((int(order[a]), int(order[b])) for a, b in _near(shapes, colours[order]))
    group = _joined(len(table), near)
    members: dict[int, list[int]] = {}
    for index, row in enumerate(owner.tolist()):
        members.setdefault(group[row], []).append(index)
    return sorted(indices for indices in members.values() if len(indices) > 1)


def _near(shapes: NDArray[np.uint64], colours: NDArray[np.int16]) -> Iterable[tuple[int, int]]:
    """Yield the indices of near pairs of rows, which are sorted by brightness."""
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
    """Return the group of each of `number` items, given pairs that belong together (union-find)."""
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
    """Open a thumbnail of the cache, which came with the folder. Raises InputError."""
    try:
        limits.inspect(BytesIO(jpeg), "a thumbnail")
        with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
            if max(image.size) > _THUMBNAIL_EDGE:
                raise InputError(f"a thumbnail is {image.width} x {image.height} pixels large")
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError("a thumbnail cannot be read", hint="remove .dsk/thumbs") from error
