"""The structure of a HEIF file (ISO 23008-12): how many pixels its decoder would make, from its
boxes alone.

A file of a kilobyte may name a grid of thousands of tiles, each of them the same 64 megapixels. The
decoder itself refuses an image that is larger than its header says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

# Bytes of the box `meta`, which holds everything but pixels and metadata; boxes and items in it,
# and how deep images are made of images.
MAX_META: Final = 16 * 2**20
MAX_BOXES: Final = 10_000
MAX_ITEMS: Final = 5_000
MAX_DEPTH: Final = 4


class HeifBombError(Exception):
    """What is too much, in words."""


@dataclass(slots=True)
class _Items:
    """What `meta` says. sizes: pixels of each property, 0 for those of another kind; properties: of
    each item, by number; made_of, shown_with: the items that an item is made of, and its alpha.
    """

    primary: int = 0
    sizes: list[int] = field(default_factory=list)
    properties: dict[int, list[int]] = field(default_factory=dict)
    made_of: dict[int, list[int]] = field(default_factory=dict)
    shown_with: dict[int, list[int]] = field(default_factory=dict)


def decoded_pixels(file: BinaryIO) -> int:
    """Return how many pixels a decoder makes for the primary image: of the image and of all that it
    is made of, tiles that are used twice counted twice; 0 for a damaged file.

    Raises HeifBombError.
    """
    meta = _meta(file)
    items = _Items()
    for kind, box in _boxes(meta, 4):
        _read(kind, box, items)
    if len(items.properties) > MAX_ITEMS:
        raise HeifBombError(f"it has more than {MAX_ITEMS:,} images")
    costs: dict[int, int] = {}
    primary = _cost(items.primary, items, costs, 0)
    return primary + sum(_cost(n, items, costs, 0) for n in items.shown_with.get(items.primary, ()))


def _meta(file: BinaryIO) -> memoryview:
    """Return the content of the box `meta`, empty if there is none."""
    size = file.seek(0, os.SEEK_END)
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if length == 0:
            length = size - at
        if len(head) < 8 or length < start:
            return memoryview(b"")
        if kind == b"meta":
            if length > MAX_META:
                raise HeifBombError(f"it has more than {MAX_META / 1e6:,.0f} MB of structure")
            file.seek(at + start)
            return memoryview(file.read(length - start))
        at += length
    raise HeifBombError(f"it has more than {MAX_BOXES:,} parts")


def _boxes(data: memoryview, at: int = 0) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and the content of each box."""
    for _ in range(MAX_BOXES):
        length = _number(data, at, 4)
        if len(data) < at + 8 or not 8 <= length <= len(data) - at:
            return
        yield bytes(data[at + 4 : at + 8]), data[at + 8 : at + length]
        at += length
    raise HeifBombError(f"it has more than {MAX_BOXES:,} parts")


def _read(kind: bytes, box: memoryview, items: _Items) -> None:
    if kind == b"pitm":
        items.primary = _number(box, 4, 4 if _version(box) else 2)
    elif kind == b"iref":
        _read_references(box, items)
    elif kind == b"iprp":
        for below, content in _boxes(box):
            if below == b"ipco":
                items.sizes += [_size(k, c) for k, c in _boxes(content)]
            elif below == b"ipma":
                _read_associations(content, items)


def _size(kind: bytes, box: memoryview) -> int:
    return _number(box, 4, 4) * _number(box, 8, 4) if kind == b"ispe" else 0


def _read_references(box: memoryview, items: _Items) -> None:
    width = 4 if _version(box) else 2
    for kind, content in _boxes(box, 4):
        item, count = _number(content, 0, width), _number(content, width, 2)
        ends = min(len(content), 2 + width * (count + 1))
        others = [_number(content, at, width) for at in range(2 + width, ends, width)]
        if kind == b"dimg":
            items.made_of.setdefault(item, []).extend(others)
        elif kind == b"auxl":
            for other in others:
                items.shown_with.setdefault(other, []).append(item)


def _read_associations(box: memoryview, items: _Items) -> None:
    item_width = 4 if _version(box) else 2
    wide = bool(_number(box, 3, 1) & 1)
    at = 8
    for _ in range(min(_number(box, 4, 4), MAX_ITEMS + 1)):
        if at >= len(box):
            return
        item, count = _number(box, at, item_width), _number(box, at + item_width, 1)
        at += item_width + 1
        for _ in range(count):
            number = _number(box, at, 2) & 0x7FFF if wide else _number(box, at, 1) & 0x7F
            items.properties.setdefault(item, []).append(number)
            at += 2 if wide else 1


def _cost(item: int, items: _Items, costs: dict[int, int], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise HeifBombError(f"its images are made of images more than {MAX_DEPTH} times over")
    if item not in costs:
        numbers = items.properties.get(item, ())
        own = max((items.sizes[n - 1] for n in numbers if 0 < n <= len(items.sizes)), default=0)
        below = items.made_of.get(item, ())
        costs[item] = own + sum(_cost(n, items, costs, depth + 1) for n in below)
    return costs[item]


def _version(box: memoryview) -> int:
    return _number(box, 0, 1)


def _number(data: memoryview, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "big")
