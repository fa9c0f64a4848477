"""What the pixel door promises: any mode, format, turn and profile comes out right, any broken file
is refused.
"""

from __future__ import annotations

import os
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from datasetkit.core.errors import InputError, StorageError
from datasetkit.images import pixels as images

FORMATS = {
    "JPEG": "a.jpg", "PNG": "a.png", "WEBP": "a.webp", "AVIF": "a.avif", "BMP": "a.bmp",
    "GIF": "a.gif", "TIFF": "a.tif"
}  # fmt: skip


def painting(width: int = 48, height: int = 32) -> Image.Image:
    """Four flat quarters, so that every turn and flip looks different and lossy formats
    stay close.
    """
    image = Image.new("RGB", (width, height), (200, 30, 40))
    image.paste((30, 180, 60), (width // 2, 0, width, height // 2))
    image.paste((40, 50, 210), (0, height // 2, width // 2, height))
    image.paste((240, 240, 230), (width // 2, height // 2, width, height))
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def far(a: Image.Image, b: Image.Image) -> int:
    assert (a.size, a.mode) == (b.size, b.mode)
    return int(np.abs(pixels(a) - pixels(b)).max())


def first(image: Image.Image) -> Any:
    return image.getpixel((0, 0))


def gap(a: Any, b: Any) -> int:
    """The largest difference of two colours, in levels."""
    return int(np.abs(np.subtract(a, b)).max())


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


# --- formats
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(tmp_path, kind):
    path = tmp_path / FORMATS[kind]
    painting().save(path, kind)
    seen, got = images.probe(path), images.load(path)
    assert (seen.width, seen.height, seen.format, seen.frames, seen.has_alpha) == (
        48,
        32,
        kind,
        1,
        False,
    )
    for corner in (
        (4, 4),
        (44, 4),
        (4, 28),
        (44, 28),
    ):  # away from the edges, where lossy formats ring
        assert gap(got.getpixel(corner), painting().getpixel(corner)) <= 6
    assert got.mode == "RGB"
    assert got.info == {}


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "a.jpg"
    painting().save(path, "PNG")
    assert images.probe(path).format == "PNG"
    assert far(images.load(path), painting()) == 0


def test_formats_outside_the_list_are_refused(tmp_path):
    path = tmp_path / "a.png"
    painting().save(path, "PPM")
    with pytest.raises(InputError, match=r"a\.png: not a whole image of JPEG, PNG"):
        images.load(path)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_several_is_taken(tmp_path, kind):
    path = tmp_path / FORMATS[kind]
    red, blue = Image.new("RGB", (16, 16), (250, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 250))
    red.save(path, kind, save_all=True, append_images=[blue, red])
    assert images.probe(path).frames == 3
    assert gap(first(images.load(path)), (250, 0, 0)) <= 6


def test_a_phones_mpo_is_a_still_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    painting().save(path, "MPO", save_all=True, append_images=[painting()])
    assert images.probe(path) == images.ImageHeader(48, 32, "JPEG", 1, False)
    assert images.load(path).size == (48, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_odd_shapes_are_read(tmp_path, size):
    path = tmp_path / "a.png"
    Image.new("RGB", size, (1, 2, 3)).save(path)
    assert images.load(path).size == size


# --- modes
# --------------------------------------------------------------------------------------------------


def wide(values: Sequence[float], dtype: str) -> Image.Image:
    return Image.fromarray(np.array([values], dtype))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_by_257(tmp_path, kind):
    path = tmp_path / FORMATS[kind]
    wide([0, 257, 128 * 257, 65535], "<u2").save(path)
    assert [c[0] for c in pixels(images.load(path))[0]] == [0, 1, 128, 255]


def test_big_endian_16_bit_greys_are_scaled_too(tmp_path):
    path = tmp_path / "a.tif"
    image = wide([0, 257 * 7, 65535], ">u2")
    assert image.mode == "I;16B"
    image.save(path)
    assert [c[0] for c in pixels(images.load(path))[0]] == [0, 7, 255]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 128, 255], "int32", [0, 128, 255]),
        ([-5, 257, 65535], "int32", [0, 1, 255]),
        ([0, 1 << 29, 1 << 30], "int32", [0, 128, 255]),
        ([0.0, 0.5, 1.0], "float32", [0, 128, 255]),
        ([-1.0, 128.0, 255.0], "float32", [0, 128, 255]),
        ([0.0, 257.0, 65535.0], "float32", [0, 1, 255]),
        ([float("nan"), 0.5, 1.0], "float32", [0, 128, 255]),
        ([0.0, 0.0, 0.0], "float32", [0, 0, 0]),
    ],
)
def test_32_bit_greys_are_scaled_to_the_white_that_holds_them(tmp_path, values, dtype, expected):
    path = tmp_path / "a.tif"
    wide(values, dtype).save(path)
    assert [c[0] for c in pixels(images.load(path))[0]] == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("1", (2, 2), 0), (0, 0, 0)),
        (Image.new("L", (2, 2), 0), (0, 0, 0)),
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("LA", (2, 2), (100, 255)), (100, 100, 100)),
        (Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("La", (2, 2), (50, 128)), (177, 177, 177)),
        (Image.new("RGB", (2, 2), (10, 20, 30)).quantize(4), (10, 20, 30)),
        (Image.new("RGB", (2, 2), (10, 20, 30)).quantize(4).convert("PA"), (10, 20, 30)),
        (Image.new("RGBA", (2, 2), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (200, 100, 50, 128)), (227, 177, 152)),
        (Image.new("RGBa", (2, 2), (100, 50, 25, 128)), (227, 177, 152)),
        (Image.new("RGBX", (2, 2), (10, 20, 30, 0)), (10, 20, 30)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), (0, 0, 0)),
        (Image.new("RGB", (2, 2), (10, 200, 30)).convert("YCbCr"), (10, 200, 30)),
        (Image.new("RGB", (2, 2), (10, 200, 30)).convert("HSV"), (10, 200, 30)),
        (Image.new("RGB", (2, 2), (100, 150, 80)).convert("LAB"), (100, 150, 80)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "-",
)
def test_every_mode_becomes_the_rgb_it_means(image, expected):
    got = images.to_srgb(image)
    assert got.mode == "RGB"
    assert gap(first(got), expected) <= 2


@pytest.mark.parametrize("colours", [(0, 255, 255, 0), (0, 0, 0, 0), (0, 0, 0, 255)])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_files_are_not_inverted(tmp_path, kind, colours):
    path = tmp_path / FORMATS[kind]  # Pillow writes JPEG as Adobe does: inverted, with the marker
    Image.new("CMYK", (16, 16), colours).save(path, kind)
    expected = Image.new("CMYK", (1, 1), colours).convert("RGB").getpixel((0, 0))
    assert gap(first(images.load(path)), expected) <= 4


def test_a_transparent_palette_shows_white(tmp_path):
    path = tmp_path / "a.png"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=b"\x00\xff")
    assert images.probe(path).has_alpha
    assert pixels(images.load(path)).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    assert first(images.load(path, alpha="keep"))[3] == 0


@pytest.mark.parametrize(
    ("raw", "depth", "colour", "key"),
    [
        (bytes([9, 9, 9, 50, 60, 70]), 8, 2, (9, 9, 9)),
        (struct.pack(">6H", 9 * 257, 9 * 257, 9 * 257, 12850, 15420, 17990), 16, 2, (9 * 257,) * 3),
    ],
)
def test_a_transparent_colour_of_an_rgb_png_shows_white(tmp_path, raw, depth, colour, key):
    path = tmp_path / "a.png"
    key_chunk, data = (
        chunk(b"tRNS", struct.pack(">3H", *key)),
        chunk(b"IDAT", zlib.compress(b"\0" + raw)),
    )
    path.write_bytes(png(2, 1, key_chunk, data, depth=depth, colour=colour))
    assert pixels(images.load(path)).tolist() == [[[255, 255, 255], [50, 60, 70]]]


def test_a_transparent_16_bit_grey_shows_white(tmp_path):
    path = tmp_path / "a.png"
    data = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">2H", 1000, 257 * 80)))
    path.write_bytes(png(2, 1, chunk(b"tRNS", struct.pack(">H", 1000)), data, depth=16, colour=0))
    assert pixels(images.load(path)).tolist() == [[[255, 255, 255], [80, 80, 80]]]


def test_alpha_is_kept_only_where_something_shows_through(tmp_path):
    clear, solid = tmp_path / "clear.png", tmp_path / "solid.png"
    Image.new("RGBA", (2, 2), (10, 20, 30, 100)).save(clear)
    Image.new("RGBA", (2, 2), (10, 20, 30, 255)).save(solid)
    assert first(images.load(clear, alpha="keep")) == (10, 20, 30, 100)
    assert first(images.load(solid, alpha="keep")) == (10, 20, 30)


# --- turns
# --------------------------------------------------------------------------------------------------

# How a camera that wrote each orientation has stored the upright image (EXIF 2.3, 4.6.4 A).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


def turned(orientation: int) -> tuple[Image.Image, Image.Exif]:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(painting())))), exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_comes_out_upright(tmp_path, kind, orientation):
    path = tmp_path / FORMATS[kind]
    image, exif = turned(orientation)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    image.save(path, kind, exif=exif, **options)
    seen, got = images.probe(path), images.load(path)
    assert (seen.width, seen.height) == got.size == (48, 32)
    for corner in ((4, 4), (44, 4), (4, 28), (44, 28)):
        assert gap(got.getpixel(corner), painting().getpixel(corner)) <= 8
    assert far(got, painting()) == 0 or kind in ("JPEG", "AVIF")
    assert not got.getexif()


def test_a_turn_written_behind_a_pngs_pixels_counts(tmp_path):
    path = tmp_path / "a.png"
    image, exif = turned(6)
    image.save(path)
    data = path.read_bytes()
    end = data.rindex(b"IEND") - 4
    path.write_bytes(data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:])
    seen = images.probe(path)
    assert (seen.width, seen.height) == (48, 32)
    assert far(images.load(path), painting()) == 0


@pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF"
)  # silenced on import, but tests set their own filters
def test_damaged_exif_does_not_cost_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    painting().save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40)
    assert images.load(path).size == (48, 32)
    assert images.probe(path).width == 48


# --- profiles
# --------------------------------------------------------------------------------------------------

# Primaries adapted to D50, as columns; from the published profiles (IEC 61966-2-1, Adobe RGB
# (1998), Display P3).
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)


def icc(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Build an ICC version 2 profile from its tags."""
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"t\0" + bytes(78)
    tags = {
        b"desc": text,
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = (
        struct.pack(">I", 128 + len(table) + len(body))
        + bytes(4)
        + b"\x02\x40\0\0"
        + b"mntr"
        + space
        + pcs
    )
    head += (
        struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
        + b"acsp"
        + bytes(28)
        + struct.pack(">3i", 63190, 65536, 54061)
    )
    return head.ljust(128, b"\0") + table + body


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def matrix_profile(primaries: np.ndarray, exponent: float) -> bytes:
    tags = {}
    for i, channel in enumerate((b"r", b"g", b"b")):
        tags[channel + b"XYZ"], tags[channel + b"TRC"] = (
            xyz(primaries[:, i].tolist()),
            gamma(exponent),
        )
    return icc(b"RGB ", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A profile in which every ink is grey: unlike any guess from the ink values."""
    grid = bytearray()
    for node in range(16):
        inks = [node >> 3 & 1, node >> 2 & 1, node >> 1 & 1, node & 1]
        light = 0 if inks[3] else 255 - 60 * sum(inks[:3])
        grid += bytes([light, 128, 128])
    ramp = bytes(range(256))
    one = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + one + ramp * 4 + bytes(grid) + ramp * 3
    return icc(b"CMYK", b"Lab ", {b"A2B0": lut})


def expected_srgb(colours: np.ndarray, primaries: np.ndarray, exponent: float) -> np.ndarray:
    linear = (colours / 255.0) ** exponent @ primaries.T @ np.linalg.inv(SRGB).T
    linear = linear.clip(0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(coded * 255)


@pytest.mark.parametrize("primaries", [ADOBE, P3], ids=["adobe-rgb", "p3"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_wide_profiles_are_brought_to_srgb(tmp_path, kind, primaries):
    path = tmp_path / FORMATS[kind]
    colours = np.random.default_rng(0).integers(20, 236, (8, 8, 3), np.uint8)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(colours).save(path, icc_profile=matrix_profile(primaries, 2.2), **options)
    got = pixels(images.load(path))
    assert np.abs(got - expected_srgb(colours, primaries, 2.2)).max() <= 2
    assert np.abs(got - colours).max() > 10


def test_a_jpegs_profile_counts(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (16, 16), (100, 150, 80)).save(
        path, quality=100, icc_profile=matrix_profile(ADOBE, 2.2)
    )
    wanted = expected_srgb(np.array([[100, 150, 80]]), ADOBE, 2.2)[0]
    assert gap(first(images.load(path)), wanted) <= 3


def test_an_srgb_profile_changes_nothing(tmp_path):
    path = tmp_path / "a.png"
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8))
    colours.save(
        path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    assert far(images.load(path), colours) == 0


def test_a_grey_profile_counts(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (2, 2), 100).save(path, icc_profile=icc(b"GRAY", b"XYZ ", {b"kTRC": gamma(1.0)}))
    assert gap(first(images.load(path)), (168, 168, 168)) <= 2  # linear 100/255 in sRGB


def test_alpha_survives_the_profile(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (2, 2), (100, 150, 80, 90)).save(path, icc_profile=matrix_profile(ADOBE, 2.2))
    got = first(images.load(path, alpha="keep"))
    assert got[3] == 90
    assert got[:3] != (100, 150, 80)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_counts(tmp_path, kind):
    path = tmp_path / FORMATS[kind]
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, icc_profile=cmyk_profile())
    r, g, b = first(images.load(path))
    assert max(r, g, b) - min(r, g, b) <= 3  # grey ink, where Pillow's guess is pure cyan


@pytest.mark.parametrize(
    "profile",
    [
        b"broken",
        matrix_profile(ADOBE, 2.2)[:200],
        icc(b"CMYK", b"Lab ", {}),
        icc(b"RGB ", b"XYZ ", {}),
    ],
    ids=["no-profile", "cut", "of-cmyk", "no-tags"],
)
def test_an_unusable_profile_is_ignored(tmp_path, profile):
    path = tmp_path / "a.png"
    painting().save(path, icc_profile=profile)
    assert far(images.load(path), painting()) == 0


# --- refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [images.load, images.probe])
def test_a_image_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path, look):
    path = tmp_path / "a.png"
    path.write_bytes(png(30000, 30000, chunk(b"IDAT", zlib.compress(bytes(1000)))))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputError, match="beyond the limit of 64 megapixels") as caught:
        look(path)
    assert time.monotonic() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
    assert "--max-pixels" in caught.value.hint


def bomb_webp() -> bytes:
    body = (
        b"VP8L"
        + struct.pack("<I", 10)
        + b"\x2f"
        + struct.pack("<I", 16382 | 16382 << 14)
        + bytes(5)
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def bomb_tile() -> bytes:
    """A TIFF of 8 x 8 pixels in one tile of 60,000 x 60,000."""
    tags = [
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 60000),
        (323, 60000),
        (324, 8),
        (325, 8),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IQ", 16, 0) + struct.pack("<H", len(tags)) + entries + bytes(4)


def bomb_gif() -> bytes:
    """A GIF whose first frame is larger than its screen."""
    frame = b"," + struct.pack("<4HB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\0;"
    return b"GIF89a" + struct.pack("<HH", 8, 8) + b"\0\0\0" + frame


ZEROS = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    "data",
    [
        bomb_webp(),
        bomb_tile(),
        bomb_gif(),
        b"BM"
        + struct.pack("<IIIIiiHHIIIIII", 66, 0, 54, 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0),
        png(8, 8, chunk(b"zTXt", b"a\0\0" + ZEROS), chunk(b"IDAT", zlib.compress(bytes(200)))),
        png(8, 8, chunk(b"iCCP", b"a\0\0" + ZEROS), chunk(b"IDAT", zlib.compress(bytes(200)))),
    ],
    ids=["webp-canvas", "tiff-tile", "gif-frame", "bmp", "png-text", "png-profile"],
)
def test_bombs_of_other_kinds_are_refused_at_once(tmp_path, data):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(InputError):
        images.load(path)
    assert time.monotonic() - started < 2


def test_the_limit_is_the_callers(tmp_path):
    path = tmp_path / "a.png"
    painting().save(path)
    assert images.load(path, max_pixels=48 * 32).size == (48, 32)
    with pytest.raises(InputError, match="48 x 32"):
        images.load(path, max_pixels=48 * 32 - 1)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_short_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / FORMATS[kind]
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, kind)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cannot read .*a\.") as caught:
        images.load(path)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_an_empty_file_is_named_empty(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    with pytest.raises(InputError, match="empty"):
        images.load(path)


def test_what_is_no_file_is_refused(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path / "none.png", "No such file"),
        (tmp_path, "regular"),
        (pipe, "regular"),
    ):
        with pytest.raises(InputError, match=reason):
            images.load(path)


def seeds(folder: Path) -> dict[str, bytes]:
    """One small image a format, with the metadata that parsers trip over."""
    found = {}
    exif = turned(6)[1]
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    profile = matrix_profile(ADOBE, 2.2)
    for kind, name in FORMATS.items():
        extra = {} if kind in ("BMP", "GIF") else {"exif": exif, "icc_profile": profile}
        painting(24, 16).save(folder / name, kind, **extra)
        found[name] = (folder / name).read_bytes()
    painting(24, 16).quantize(8).save(folder / "lzw.tif", compression="tiff_lzw", exif=exif)
    return {**found, "lzw.tif": (folder / "lzw.tif").read_bytes()}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flip a few bytes, mostly near the front where the structure is; sometimes cut or repeat a
    piece.
    """
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        reach = len(changed) if rng.random() < 0.5 else min(200, len(changed))
        changed[rng.randrange(reach)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.15:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed or b"\0")


@pytest.mark.parametrize("each", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_mutated_files_load_or_are_refused(each, tmp_path):
    rng = random.Random(each)
    refused = loaded = 0
    for name, data in seeds(tmp_path).items():
        for _ in range(each):
            path = tmp_path / name
            path.write_bytes(mutated(data, rng))
            try:
                seen = images.probe(path, max_pixels=1_000_000)
                image = images.load(path, max_pixels=1_000_000)
            except InputError as error:
                assert "\n" not in error.message
                refused += 1
            else:
                assert (image.mode, image.width >= 1, seen.width >= 1) == ("RGB", True, True)
                loaded += 1
    assert refused > 50
    assert loaded > 50


@pytest.mark.long
def test_nothing_of_a_malformed_file_reaches_the_terminal(tmp_path):
    rng = random.Random(3)
    (tmp_path / "seeds").mkdir()
    for name, data in seeds(tmp_path / "seeds").items():
        for n in range(
            25 if not name.endswith(".tif") else 0
        ):  # libtiff itself writes to the terminal
            (tmp_path / f"{n}-{name}").write_bytes(mutated(data, rng))
    (tmp_path / "large.png").write_bytes(  # beyond what Pillow warns of, below what it refuses
        png(10000, 10000, chunk(b"IDAT", zlib.compress(bytes(1000))))
    )
    script = """
import sys, pathlib
from datasetkit.images import pixels
from datasetkit.core.errors import InputError
good = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.*")):
    try:
        pixels.load(path, max_pixels=1_000_000)
        good += 1
    except InputError:
        pass
print(good)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert int(done.stdout) > 40


# --- draft and save
# --------------------------------------------------------------------------------------------------


def test_a_jpeg_is_drafted_to_no_less_than_one_and_a_half_times(tmp_path):
    path = tmp_path / "a.jpg"
    painting(1600, 1000).save(path)
    assert images.load(path, shrink_to=100).size == (200, 125)
    assert images.load(path, shrink_to=133).size == (200, 125)  # 1.5 x 133 = 199.5
    assert images.load(path, shrink_to=134).size == (400, 250)
    assert images.load(path, shrink_to=1500).size == (1600, 1000)
    assert images.probe(path).width == 1600


def test_a_drafted_image_is_turned_too(tmp_path):
    path = tmp_path / "a.jpg"
    image, exif = turned(6)
    image.resize((400, 600), Image.Resampling.NEAREST).save(path, exif=exif)
    got = images.load(path, shrink_to=100)
    assert got.size == (150, 100)
    assert gap(got.getpixel((10, 10)), (200, 30, 40)) <= 6


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp"])
def test_nothing_but_pixels_is_written(tmp_path, suffix):
    source, path = painting(), tmp_path / f"a{suffix}"
    source.info.update(
        comment=b"secret", icc_profile=b"secret", exif=b"Exif\0\0secret", xmp=b"secret", dpi=(3, 3)
    )
    images.save(source, path)
    assert b"secret" not in path.read_bytes()
    with Image.open(path) as written:
        assert not {"exif", "xmp", "icc_profile", "comment"} & set(written.info)
        assert written.format == images.WRITERS[suffix.lower()]
    assert source.info["comment"] == b"secret"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("quality", "horizontal"), [(95, 1), (94, 2)])
def test_high_quality_jpegs_keep_every_pixels_colour(tmp_path, quality, horizontal):
    images.save(painting(), tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as written:
        assert written.layer[0][1] == horizontal  # type: ignore[attr-defined]


def test_quality_reaches_the_encoder(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        images.save(noise, tmp_path / f"low{suffix}", quality=30)
        images.save(noise, tmp_path / f"high{suffix}", quality=95)
        assert (tmp_path / f"high{suffix}").stat().st_size > 2 * (
            tmp_path / f"low{suffix}"
        ).stat().st_size


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_png_keeps_pixels_as_they_are(tmp_path, mode):
    image = painting().convert(mode)
    if mode == "RGBA":
        image.putalpha(90)
    images.save(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert far(written, image) == 0


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.new("RGBA", (4, 4)), "a.jpg"),
        (Image.new("RGB", (1, 20000)), "a.webp"),
        (Image.new("RGB", (1, 70000)), "a.jpg"),
        (Image.new("RGB", (4, 4)), "a.tiff"),
    ],
)
def test_a_failing_encoder_leaves_the_old_file(tmp_path, image, name):
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=name):
        images.save(image, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        images.save(painting(), tmp_path / "none" / "a.png")


def test_encode_gives_the_bytes_that_save_writes(tmp_path):
    images.save(painting(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == images.encode(painting(), "PNG")
    assert Image.open(BytesIO(images.encode(painting(), "WEBP"))).size == (48, 32)


@pytest.mark.parametrize(("peak", "white"), [(0.5, 1.0), (200, 255.0), (60_000, 65535.0)])
def test_the_white_of_a_float_image_is_that_of_all_its_rows(peak, white, tmp_path):
    values = np.zeros((700, 333), np.float32)  # more rows than are scaled together
    values[650] = peak
    values[3, 4], values[5, 6], values[8, 9] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    grey = np.asarray(images.load(tmp_path / "a.tif"))[..., 0]
    assert grey[650].tolist() == [int(peak / white * 255 + 0.5)] * 333
    assert grey[:650].max() == 0


@pytest.mark.long
def test_a_float_image_of_49_megapixels_takes_little_time(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((7000, 7000), 0.5, np.float32)).save(path)
    started = time.process_time()
    images.load(path)
    assert time.process_time() - started < 2
