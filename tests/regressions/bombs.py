"""Image files that cost their decoder far more than their size: each is a few kilobytes on disk."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests import heif

# The longest image of the allowed size: a pass over its pixels costs most.
WIDE, HIGH = 65_000, 980


def jpeg(width: int, height: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "#204060").save(file, "JPEG", **options)
    return file.getvalue()


def scans_jpeg(number: int, *, progressive: bool = True) -> bytes:
    """A JPEG of one component and 63 megapixels, with `number` scans of 11 bytes."""
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC2 if progressive else 0xC1, 17, 8, HIGH, WIDE, 3)
    components = b"".join(bytes((n, 0x11, 0)) for n in (1, 2, 3))
    quantization = b"\xff\xdb\x00\x43\x00" + b"\x01" * 64
    table = b"\xff\xc4" + struct.pack(">H", 19 + 1) + b"\x00" + b"\x01" + b"\x00" * 15 + b"\x00"
    last, approximation = (0, 1) if progressive else (63, 0)
    first = b"\xff\xda\x00\x08\x01\x01\x00" + bytes((0, last, approximation)) + b"\x00"
    return b"\xff\xd8" + quantization + frame + components + table + first * number + b"\xff\xd9"


def hidden_scans_jpeg(number: int) -> bytes:
    """The same with a comment between two scans that holds an end of the image."""
    data = scans_jpeg(number)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    return data[:second] + b"\xff\xfe\x00\x04\xff\xd9" + data[second:]


def segments_jpeg(number: int) -> bytes:
    whole = jpeg(16, 16)
    return whole[:2] + b"\xff\xe5\x00\x02" * number + whole[2:]


def metadata_jpeg(megabytes: int) -> bytes:
    whole = jpeg(16, 16)
    segment = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + bytes(65_527)
    return whole[:2] + segment * (megabytes * 2**20 // len(segment)) + whole[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG of one colour. extra: chunks before its pixels."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = b"\0" + b"\x7f" * (width * channels * bits // 8)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(pages: int, *, entries: tuple[tuple[int, int, int, int], ...] = ()) -> bytes:
    """A grey TIFF of 1 x 1 pixel a page, 114 bytes each. entries: more tags of the first page."""
    out = bytearray(b"II*\0" + struct.pack("<L", 8))
    for n in range(pages):
        start = len(out)
        more = entries if n == 0 else ()
        tags = sorted(
            [
                (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
                (273, 4, 1, 8), (278, 3, 1, 1), (279, 4, 1, 1), *more,
            ]
        )  # fmt: skip
        out += struct.pack("<H", len(tags))
        out += b"".join(struct.pack("<HHLL", *tag) for tag in tags)
        end = start + 2 + 12 * len(tags) + 4
        out += struct.pack("<L", end if n < pages - 1 else 0)
    return bytes(out)


def gif(frames: int, *, comment: int = 0) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    blocks, rest = divmod(comment, 2)
    text = b"!\xfe" + b"\x01x" * (blocks + rest) + b"\0" if comment else b""
    image = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    return header + text + image * frames + b";"


def rle_bmp(width: int, height: int, rows: bytes) -> bytes:
    palette = bytes(256 * 4)
    offset = 14 + 40 + len(palette)
    info = struct.pack("<LiiHHLLiiLL", 40, width, height, 1, 8, 1, len(rows), 1, 1, 256, 0)
    return struct.pack("<2sLHHL", b"BM", offset + len(rows), 0, 0, offset) + info + palette + rows


def webp(chunks: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "WEBP", lossless=True)
    whole = file.getvalue() + b"ABCD\0\0\0\0" * chunks
    return whole[:4] + struct.pack("<L", len(whole) - 8) + whole[8:]


def with_hole(path: Path, start: bytes, size: int) -> None:
    """Write a file of `size` bytes that takes no room on disk."""
    path.write_bytes(start)
    os.truncate(path, size)


def _hole(start: Callable[[], bytes], size: int) -> Callable[[Path], None]:
    return lambda path: with_hole(path, start(), size)


def _bytes(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


GIB = 2**30
# By name: how the file is made, and a word of the reason for which it is refused ("": it is read).
BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "scans.jpg": (_bytes(lambda: scans_jpeg(2000)), "scans"),
    "sequential-scans.jpg": (_bytes(lambda: scans_jpeg(2000, progressive=False)), "scans"),
    "hidden-scans.jpg": (_bytes(lambda: hidden_scans_jpeg(2000)), "scans"),
    "segments.jpg": (_bytes(lambda: segments_jpeg(1_000_000)), "segments"),
    "metadata.jpg": (_bytes(lambda: metadata_jpeg(40)), "precede the image"),
    "zeros.jpg": (_hole(lambda: b"\xff\xd8\xff\xe0", 20_000_000), "before the image"),
    "zeros-large.jpg": (_hole(lambda: b"\xff\xd8\xff\xe0", 400_000_000), "before the image"),
    "hole.jpg": (_hole(lambda: jpeg(16, 16), 2 * GIB), "2,147 MB"),
    "hole.png": (_hole(lambda: png(16, 16), 2 * GIB), "2,147 MB"),
    "hole-allowed.png": (_hole(lambda: png(16, 16), 500_000_000), ""),
    "hole-allowed.jpg": (_hole(lambda: jpeg(16, 16), 500_000_000), ""),
    "hole-progressive.jpg": (_hole(lambda: jpeg(16, 16, progressive=True), 500_000_000), ""),
    "hole.webp": (_hole(lambda: webp(0), 500_000_000), "WebP, AVIF and HEIC"),
    "hole.avif": (_hole(lambda: b"\0\0\0\x1cftypavif", 500_000_000), "WebP, AVIF and HEIC"),
    "hole.heic": (_hole(lambda: heif.HEIC, 500_000_000), "WebP, AVIF and HEIC"),
    "tiles.heic": (_bytes(lambda: heif.grid(16, tile=(8000, 8000))), "16,384 megapixels"),
    "items.heic": (_bytes(lambda: heif.grid(80)), "more than 5,000 images"),
    "deep.heic": (_bytes(lambda: heif.grid(1, depth=9)), "more than 4 times over"),
    "structure.heic": (
        _hole(lambda: heif.HEIC[:28] + struct.pack(">I4s", 100_000_000, b"meta"), 100_000_100),
        "of structure",
    ),
    "boxes.heic": (
        _bytes(lambda: heif.HEIC[:28] + b"\0\0\0\x08free" * 100_000),
        "more than 10,000 parts",
    ),
    "hole.gif": (_hole(lambda: gif(1), 500_000_000), ""),
    "hole.tif": (_hole(lambda: tiff(1), 500_000_000), ""),
    "hole.bmp": (_hole(lambda: rle_bmp(8000, 8000, b""), 500_000_000), "run lengths"),
    "lines.bmp": (_bytes(lambda: rle_bmp(60_000, 1000, b"\x01\x01\0\0" * 1000)), "run lengths"),
    "chunks.png": (_bytes(lambda: png(16, 16, extra=chunk(b"IDAT", b"") * 1_000_000)), "chunks"),
    "chunk.png": (
        _hole(lambda: png(16, 16)[:33] + struct.pack(">I4s", 400_000_000, b"abCd"), 500_000_000),
        "besides its pixels",
    ),
    "chunks.webp": (_bytes(lambda: webp(1_000_000)), "chunks"),
    "pages.tif": (_bytes(lambda: tiff(100_000)), ""),
    "tag.tif": (
        _hole(lambda: tiff(1, entries=((50_000, 7, 400_000_000, 8),)), 500_000_000),
        "besides its pixels",
    ),
    "tags.tif": (
        _hole(
            lambda: tiff(1, entries=tuple((n, 7, 10_000_000, 8) for n in range(50_000, 53_000))),
            12_000_000,
        ),
        "besides its pixels",
    ),
    "numbers.tif": (
        _hole(lambda: tiff(1, entries=((50_000, 3, 20_000_000, 8),)), 50_000_000),
        "numbers",
    ),
    "exif.tif": (
        _hole(
            lambda: (
                tiff(1, entries=((34_665, 4, 1, 300),)).ljust(300, b"\0")
                + struct.pack("<HHHLLL", 1, 37_500, 7, 400_000_000, 8, 0)
            ),
            500_000_000,
        ),
        "besides its pixels",
    ),
    "frames.gif": (_bytes(lambda: gif(800_000)), ""),
    "comment.gif": (_bytes(lambda: gif(1, comment=16_000_000)), "precede the first frame"),
}


def large_png(path: Path) -> None:
    """Write a PNG of 63.9 megapixels, RGBA of 16 bits: 512 MB not compressed, 0.5 MB on disk."""
    width, height = 7990, 8000
    packer = zlib.compressobj(6)
    pixel = struct.pack(">4H", 0x4000, 0x8000, 0xC000, 0x9000)
    row = b"\0" + pixel * width
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def noise(path: Path, width: int = 64, height: int = 48) -> None:
    """Write an ordinary image."""
    values = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(values).save(path)
