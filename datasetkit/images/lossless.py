"""Which files can be copied byte for byte: those that hold the pixels and nothing else.

A file with EXIF, XMP, GPS, a colour profile, a comment, a preview or data behind the image is
encoded again instead, so that none of it reaches a dataset that people share. The walkers read the
structure of the containers by an allow-list: a part that is not listed makes the answer no.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from datasetkit.core.files import reading
from datasetkit.images import limits

# Start of frame: baseline, extended and progressive Huffman coding (ITU T.81, table B.1).
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
# Huffman tables, quantization tables, restart interval.
_JPEG_TABLES = (0xC4, 0xDB, 0xDD)
_JPEG_SCAN, _JPEG_JFIF, _JPEG_ADOBE = 0xDA, 0xE0, 0xEE
# Bits a channel, and the colour type: 2 is RGB, 6 is RGBA.
_PNG_KINDS = (b"\x08\x02", b"\x08\x06")


def pixels_only(path: Path, file_format: str, size: tuple[int, int]) -> bytes | None:
    """Return the bytes of an image file that holds pixels and nothing else; None for any other, and
    for one that is larger than its pixels are. It must have been decoded: that checks its limits.

    file_format: JPEG, PNG or WEBP. size: width and height in pixels. Raises InputError.
    """
    limit = limits.max_copied_bytes(*size)
    with reading(path), path.open("rb") as file:
        if path.stat().st_size > limit:
            return None
        data = file.read(limit)
    return data if holds_pixels_only(data, file_format) else None


def holds_pixels_only(data: bytes, file_format: str) -> bool:
    """Tell whether a file holds 8-bit RGB(A) pixels and no metadata.

    file_format: JPEG, PNG or WEBP.
    """
    return _WALKERS[file_format](data)


def _jpeg(data: bytes) -> bool:
    """Walk the segments (ITU T.81, B.1) up to the first scan."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            return _ends_after_scans(data[at + 2 :])
        if not _is_plain_segment(marker, length, data[at + 4 : at + 2 + length]):
            return False
        at += 2 + length
    return False


def _is_plain_segment(marker: int, length: int, body: bytes) -> bool:
    if marker == _JPEG_JFIF:
        return body.startswith(b"JFIF\0") and length == 16  # a longer one holds a preview
    if marker == _JPEG_ADOBE:
        return body.startswith(b"Adobe") and length == 14
    if marker in _JPEG_FRAMES:
        return len(body) > 5 and body[0] == 8 and body[5] == 3  # 8 bits, 3 components
    return marker in _JPEG_TABLES


def _ends_after_scans(rest: bytes) -> bool:
    """Tell whether the image ends the file, and no comment or application data stands between
    its scans. In coded pixels 0xFF is followed by 0 or by a restart marker.
    """
    return rest.find(b"\xff\xd9") == len(rest) - 2 and not re.search(rb"\xff[\xe0-\xef\xfe]", rest)


def _png(data: bytes) -> bool:
    """Walk the chunks (ISO 15948)."""
    at = 8
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind not in (b"IHDR", b"IDAT", b"IEND", b"sRGB"):
            return False
        if kind == b"IHDR" and data[at + 16 : at + 18] not in _PNG_KINDS:
            return False
        at += 12 + length
        if kind == b"IEND":
            return at == len(data)
    return False


def _webp(data: bytes) -> bool:
    """Walk the RIFF chunks of the WebP container."""
    at = 12
    while at + 8 <= len(data):
        if data[at : at + 4] not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH"):
            return False
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return at == len(data) > 12


_WALKERS: Mapping[str, Callable[[bytes], bool]] = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}
