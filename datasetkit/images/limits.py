"""Limits of image files, checked before a decoder sees the file.

A file of a few kilobytes can cost its decoder minutes or gigabytes: thousands of scans, pages or
chunks, metadata without end, or a hole of 2 GB. `inspect` walks the structure of a file once and
refuses what no camera or editor writes. Every way to an image's pixels goes through it
(`pixels._opened`); the limit of pixels is checked there, once the decoder has read the header.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from datasetkit.core.errors import InputError
from datasetkit.core.file_kinds import kind_by_content
from datasetkit.images.heif_structure import HeifBombError, decoded_pixels

DEFAULT_MAX_PIXELS: Final = 64_000_000
_MIB: Final = 2**20
# Bytes of a whole file: 8 a pixel (16-bit RGBA, not compressed), and metadata.
_BYTES_A_PIXEL, _METADATA = 8, 16 * _MIB
# WebP, AVIF and HEIC are read into memory as a whole.
MAX_WHOLE: Final = 128 * _MIB
# JPEG: scans (encoders write up to 20); bytes, segments and bytes between segments before the
# first scan. Panoramas with sound and depth have 10 MiB.
MAX_SCANS: Final = 100
MAX_HEADER: Final = 16 * _MIB
MAX_SEGMENTS: Final = 4096
MAX_JUNK: Final = 64 * 1024
# Chunks of a PNG or WebP: libpng writes one for each 8 KiB, so 64 megapixels have up to 65,536.
MAX_CHUNKS: Final = 100_000
# PNG: bytes of all chunks but pixels.
MAX_PNG_METADATA: Final = 64 * _MIB
# GIF: bytes of comments and extensions before the first frame; blocks that are walked to count
# frames, and frames or pages (of a TIFF) that are counted.
MAX_GIF_HEADER: Final = _MIB
MAX_GIF_BLOCKS: Final = 200_000
MAX_FRAMES: Final = 100
# TIFF: tags of a page, values of a tag that become numbers (one for each strip or tile), and bytes
# of all tags together.
MAX_TAGS: Final = 4096
MAX_VALUES: Final = 2**18
MAX_TAG_BYTES: Final = 64 * _MIB
# HEIF: pixels of the image, of its tiles (once for each use) and of its alpha, in images of the
# allowed size.
HEIF_PIXELS: Final = 4
# BMP with run lengths: Pillow decodes it in Python, a byte at a time.
MAX_RLE_PIXELS: Final = 4_000_000
MAX_RLE_BYTES: Final = 2 * _MIB

_BLOCK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Structure:
    """What the walk tells. frames: of a GIF or TIFF, up to MAX_FRAMES; None where the decoder knows
    them at no cost.
    """

    frames: int | None = None


def max_file_bytes(max_pixels: int = DEFAULT_MAX_PIXELS) -> int:
    """Return how large an image file may be that holds at most so many pixels."""
    return _BYTES_A_PIXEL * max(max_pixels, DEFAULT_MAX_PIXELS) + _METADATA


def max_copied_bytes(width: int, height: int) -> int:
    """Return how large a file may be that is copied byte for byte: 8-bit RGBA, not compressed."""
    return 4 * width * height + _MIB


def require_file_size(name: str, size: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
    """Raise InputError for a file that is too large to hold an image of the allowed size.

    name: of the file, ready to print.
    """
    limit = max_file_bytes(max_pixels)
    if size > limit:
        raise InputError(
            f"cannot read {name}: it has {_mb(size)}, more than an image of "
            f"{max(max_pixels, DEFAULT_MAX_PIXELS) / 1e6:g} megapixels takes ({_mb(limit)})",
            hint="remove it, or save it again; --max-pixels raises the limit for files you trust",
        )


def inspect(file: BinaryIO, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Structure:
    """Walk the structure of an open image file, and put the file back to its start.

    name: of the file, ready to print. A damaged file passes: its decoder has better words. Raises
    InputError for a file that would cost more time or memory than an image may.
    """
    size = file.seek(0, os.SEEK_END)
    require_file_size(name, size, max_pixels)
    file.seek(0)
    start = file.read(64)
    walk = next((walk for begins, walk in _WALKS if begins(start)), None)
    try:
        structure = Structure() if walk is None else Structure(walk(file, size))
        if kind_by_content(start) == "HEIC":
            _require_few_pixels(file, max_pixels)
        return structure
    except _BeyondLimitError as error:
        raise InputError(f"cannot read {name}: {error}", hint=error.hint) from None
    finally:
        file.seek(0)


class _BeyondLimitError(Exception):
    """What is too much, in words, and what to do about it."""

    def __init__(
        self, problem: str, hint: str = "remove it, or save it again in an editor"
    ) -> None:
        super().__init__(problem)
        self.hint = hint


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


# ---- JPEG (ITU T.81, annex B)
# --------------------------------------------------------------------------------------------------

_SOS, _EOI, _SOI = 0xDA, 0xD9, 0xD8
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_RESTARTS: Final = range(0xD0, 0xD8)
# In coded pixels 0xFF is followed by 0 or by a restart marker; before a marker it may repeat.
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def _jpeg(file: BinaryIO, _: int) -> None:
    """Walk the segments to the first scan; count the scans where there may be several."""
    at, junk, frame, components = 2, 0, 0, 0
    for _segment in range(MAX_SEGMENTS):
        if at > MAX_HEADER:
            raise _BeyondLimitError(f"more than {_mb(MAX_HEADER)} precede the image in it")
        file.seek(at)
        head = file.read(4)
        if len(head) < 4:
            return
        if head[0] != 0xFF or head[1] in (0x00, 0xFF):
            skipped = _to_next_marker(file, at)
            junk += skipped
            if junk > MAX_JUNK:
                raise _BeyondLimitError(
                    f"more than {MAX_JUNK // 1024} KiB before the image in it are not of a JPEG",
                    "copy it again, or remove it",
                )
            at += skipped
            continue
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if marker == _EOI:
            return
        if marker in _RESTARTS or marker <= 0x01 or marker == _SOI:
            at += 2
            continue
        if marker in _FRAMES:
            frame = marker
            components = int.from_bytes(file.read(6)[5:6], "big")
        if marker == _SOS:
            interleaved = int.from_bytes(file.read(1), "big") >= components
            if not (frame in _SEQUENTIAL and interleaved):
                _require_few_scans(file, at)
            return
        at += 2 + max(2, length)
    raise _BeyondLimitError(f"more than {MAX_SEGMENTS:,} segments precede the image in it")


def _to_next_marker(file: BinaryIO, at: int) -> int:
    """Return how many bytes lie between a place and the next marker, MAX_JUNK + 1 at most."""
    file.seek(at)
    match = _MARKER.search(file.read(MAX_JUNK + 2))
    return MAX_JUNK + 1 if match is None else max(1, match.start())


def _require_few_scans(file: BinaryIO, at: int) -> None:
    """Count the scans of a JPEG from the first one on. Each costs a pass over all its pixels."""
    scans = segments = 0
    while segments <= MAX_SEGMENTS:
        file.seek(at)
        block = file.read(_BLOCK)
        match = _MARKER.search(block)
        if match is None:
            if len(block) < _BLOCK:
                return
            at += len(block) - 1  # its last byte may be the 0xFF of a marker
            continue
        at += match.start()
        marker = block[match.start() + 1]
        if marker == _EOI:
            return
        if marker < 0xC0 or marker == _SOI:
            at += 2
            segments += 1
            continue
        file.seek(at + 2)
        at += 2 + max(2, int.from_bytes(file.read(2), "big"))
        segments += 1
        scans += marker == _SOS
        if scans > MAX_SCANS:
            raise _BeyondLimitError(f"it has more than {MAX_SCANS} scans")
    raise _BeyondLimitError(f"it has more than {MAX_SEGMENTS:,} segments")


# ---- PNG (ISO 15948), WebP (RIFF)
# --------------------------------------------------------------------------------------------------


def _png(file: BinaryIO, _: int) -> None:
    at, metadata = 8, 0
    for _chunk in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return
        if kind not in (b"IDAT", b"fdAT"):
            metadata += length
        if metadata > MAX_PNG_METADATA:
            raise _BeyondLimitError(f"it has more than {_mb(MAX_PNG_METADATA)} besides its pixels")
        at += 12 + length
    raise _BeyondLimitError(f"it has more than {MAX_CHUNKS:,} chunks")


def _webp(file: BinaryIO, size: int) -> None:
    _whole(file, size)
    at = 12
    for _chunk in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        at += 8 + length + length % 2
    raise _BeyondLimitError(f"it has more than {MAX_CHUNKS:,} chunks")


def _whole(_: BinaryIO, size: int) -> None:
    if size > MAX_WHOLE:
        raise _BeyondLimitError(
            f"it has {_mb(size)}, and {_mb(MAX_WHOLE)} are read of WebP, AVIF and HEIC"
        )


# ---- HEIF (ISO 23008-12)
# --------------------------------------------------------------------------------------------------


def _require_few_pixels(file: BinaryIO, max_pixels: int) -> None:
    """Refuse an image that is made of far more pixels than it shows."""
    limit = HEIF_PIXELS * max(max_pixels, DEFAULT_MAX_PIXELS)
    try:
        pixels = decoded_pixels(file)
    except HeifBombError as error:
        raise _BeyondLimitError(str(error)) from None
    if pixels > limit:
        raise _BeyondLimitError(
            f"it is made of {pixels / 1e6:,.0f} megapixels, and {limit / 1e6:,.0f} are decoded"
        )


# ---- GIF (89a)
# --------------------------------------------------------------------------------------------------


def _gif(file: BinaryIO, _: int) -> int:
    """Return the number of frames, as far as they are counted."""
    file.seek(10)
    file.seek(13 + _palette(file.read(1)))
    frames = blocks = 0
    while frames < MAX_FRAMES and blocks < MAX_GIF_BLOCKS:
        kind = file.read(1)
        if kind == b",":
            frames += 1
            flags = file.read(9)[8:]
            file.seek(_palette(flags) + 1, os.SEEK_CUR)
        elif kind == b"!":
            file.read(1)
        elif kind in (b"", b";"):
            break
        else:  # as Pillow does, which looks for the next block
            blocks += 1
            continue
        while (length := file.read(1)) not in (b"", b"\0") and blocks < MAX_GIF_BLOCKS:
            file.seek(length[0], os.SEEK_CUR)
            blocks += 1
        if frames == 0 and (blocks >= MAX_GIF_BLOCKS or file.tell() > MAX_GIF_HEADER):
            break
    if frames == 0 and (blocks >= MAX_GIF_BLOCKS or file.tell() > MAX_GIF_HEADER):
        raise _BeyondLimitError(f"more than {_mb(MAX_GIF_HEADER)} precede the first frame in it")
    return max(1, frames)


def _palette(flags: bytes) -> int:
    """Return the bytes of the palette that a descriptor announces."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


# ---- TIFF (6.0, and BigTIFF)
# --------------------------------------------------------------------------------------------------

# Bytes of a value by type; of unknown types nothing is read. Text and bytes do not become numbers.
_VALUE_BYTES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
_TEXT_TYPES: Final = (1, 2, 6, 7)
# EXIF, GPS and interoperability have directories of their own.
_DIRECTORIES: Final = (34665, 34853, 40965)


def _tiff(file: BinaryIO, size: int) -> int:
    """Return the number of pages, as far as they are counted. Only the first one is decoded."""
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = 43 in (header[2], header[3])
    first: int = struct.unpack(f"{order}Q" if big else f"{order}4xL", header[8 * big :][:8])[0]
    page = _directory(file, first, order, big)
    value_bytes = page.value_bytes
    for below in page.below:
        directory = _directory(file, below, order, big)
        value_bytes += directory.value_bytes + sum(
            _directory(file, deeper, order, big).value_bytes for deeper in directory.below
        )
    if value_bytes > MAX_TAG_BYTES:
        raise _BeyondLimitError(
            f"it has more than {_mb(MAX_TAG_BYTES)} besides its pixels",
            "save it again without layers",
        )
    return _count_pages(file, {first}, page.next, (order, big, size))


def _count_pages(file: BinaryIO, seen: set[int], at: int, form: tuple[str, bool, int]) -> int:
    """Follow the chain of pages from the second one. seen: where pages begin, for chains that lead
    back. form: byte order, BigTIFF or not, and bytes of the file.
    """
    order, big, size = form
    count, pointer, entry_bytes = ("Q", "Q", 20) if big else ("H", "L", 12)
    while 0 < at < size and at not in seen and len(seen) < MAX_FRAMES:
        seen.add(at)
        file.seek(at)
        number = _unpack(file, order + count)
        if number > MAX_TAGS:
            break
        file.seek(number * entry_bytes, os.SEEK_CUR)
        at = _unpack(file, order + pointer)
    return len(seen)


def _unpack(file: BinaryIO, form: str) -> int:
    """Read a number; 0 at the end of the file."""
    data = file.read(struct.calcsize(form))
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else 0


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory of tags. below: where the directories that it names begin."""

    value_bytes: int
    next: int
    below: tuple[int, ...]


def _directory(file: BinaryIO, offset: int, order: str, big: bool) -> _Directory:
    """Read a directory of tags. Raises _BeyondLimitError."""
    count_form, entry_form, pointer, inline = (
        ("Q", "HHQ8s", "Q", 8) if big else ("H", "HHL4s", "L", 4)
    )
    if offset >= 2**63:  # no file is so long, and seeking there fails
        return _Directory(0, 0, ())
    file.seek(offset)
    count = _unpack(file, order + count_form)
    if count > MAX_TAGS:
        raise _BeyondLimitError(f"it has more than {MAX_TAGS:,} tags")
    entry = struct.Struct(f"{order}{entry_form}")
    table = file.read(count * entry.size)
    value_bytes, below = 0, []
    for tag, kind, number, value in entry.iter_unpack(
        table[: len(table) // entry.size * entry.size]
    ):
        length = number * _VALUE_BYTES.get(kind, 0)
        if kind not in _TEXT_TYPES and number > MAX_VALUES and length:
            raise _BeyondLimitError(f"it has more than {MAX_VALUES:,} strips, tiles or numbers")
        if length > inline:
            value_bytes += length
        if tag in _DIRECTORIES:
            below.append(struct.unpack(f"{order}{pointer}", value)[0])
    return _Directory(value_bytes, _unpack(file, order + pointer), tuple(below))


# ---- BMP
# --------------------------------------------------------------------------------------------------


def _bmp(file: BinaryIO, size: int) -> None:
    file.seek(14)
    header = file.read(20)
    if len(header) < 20 or header[0] < 40:
        return
    width, height, _, _, compression = struct.unpack("<iiHHL", header[4:20])
    runs = compression in (1, 2)
    if runs and (abs(width * height) > MAX_RLE_PIXELS or size > MAX_RLE_BYTES):
        raise _BeyondLimitError(
            f"it is a BMP with run lengths of more than {MAX_RLE_PIXELS / 1e6:g} megapixels or "
            f"{_mb(MAX_RLE_BYTES)}",
            "save it as PNG",
        )


_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_WALKS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int | None]], ...]] = (
    (lambda start: start.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda start: start.startswith(b"RIFF") and start[8:12] == b"WEBP", _webp),
    (lambda start: start.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda start: start.startswith(_TIFF_STARTS) and len(start) >= 16, _tiff),
    (lambda start: start.startswith(b"BM"), _bmp),
    (lambda start: start[4:8] == b"ftyp", _whole),
)
