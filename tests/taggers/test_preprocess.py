"""The model's input, byte for byte: named vectors, and a plain transcription of the models' own
app.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasetkit.core.errors import InputError
from taggers import preprocess
from taggers.preprocess import to_square_bgr

MODES = ("RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "La", "RGBa")


def transcription(image: Image.Image, size: int) -> np.ndarray:
    """Do what the models' app does, step by step, on the whole square; 16-bit greys scaled
    by 257.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")
    canvas = Image.new("RGBA", image.size, (255, 255, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    rgb = canvas.convert("RGB")
    side = max(rgb.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    if side != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square, np.float32)[:, :, ::-1]


def random_image(rng: np.random.Generator, mode: str) -> Image.Image:
    width, height = (int(n) for n in rng.integers(1, 90, 2))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65_536, (height, width), dtype=np.uint16))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode in ("La", "RGBa"):
        return image.convert("LA" if mode == "La" else "RGBA").convert(mode)
    if mode in ("RGBA", "LA"):
        return image.convert(mode)
    return image.convert("RGB").convert(mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("band", [1 << 22, 300])
def test_equals_a_plain_transcription_for_every_mode_and_size(mode, band, monkeypatch):
    monkeypatch.setattr(preprocess, "BAND_PIXELS", band)
    rng = np.random.default_rng([MODES.index(mode), band])
    for _ in range(15):
        image = random_image(rng, mode)
        for size in (int(rng.integers(2, 120)), max(image.size)):
            assert np.array_equal(to_square_bgr(image, size), transcription(image, size))


def test_a_transparent_image_is_white():
    assert (to_square_bgr(Image.new("RGBA", (10, 20), (200, 0, 0, 0)), 448) == 255).all()


def test_b_image_of_the_models_size_is_only_reversed():
    pixels = np.random.default_rng(1).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    found = to_square_bgr(Image.fromarray(pixels), 448)
    assert found.dtype == np.float32
    assert found.shape == (448, 448, 3)
    assert found.flags["C_CONTIGUOUS"]
    assert np.array_equal(found, pixels[:, :, ::-1])


def test_b_opaque_alpha_changes_no_byte():
    pixels = np.random.default_rng(2).integers(0, 256, (300, 200, 4), dtype=np.uint8)
    pixels[:, :, 3] = 255
    opaque = Image.fromarray(pixels)
    assert np.array_equal(to_square_bgr(opaque, 448), to_square_bgr(opaque.convert("RGB"), 448))


def test_c_solid_colour_comes_blue_first():
    found = to_square_bgr(Image.new("RGB", (60, 60), (10, 20, 30)), 448)
    assert (found == [30, 20, 10]).all()


def test_d_narrow_image_has_white_columns_on_both_sides():
    found = to_square_bgr(Image.new("RGB", (100, 448), (255, 0, 0)), 448)
    assert (found[:, :174] == 255).all()
    assert (found[:, 274:] == 255).all()
    assert (found[:, 174:274] == [0, 0, 255]).all()


def test_e_black_grey_image_is_black():
    assert (to_square_bgr(Image.new("L", (448, 448), 0), 448) == 0).all()


def test_f_palette_with_a_transparent_colour_is_put_on_white():
    image = Image.new("P", (448, 448), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 448, 224))
    image.info["transparency"] = 0
    found = to_square_bgr(image, 448)
    assert (found[:224] == [255, 0, 0]).all()
    assert (found[224:] == 255).all()


def test_f_half_transparent_grey_one_bit_and_cmyk_look_right():
    assert (to_square_bgr(Image.new("LA", (448, 448), (0, 0)), 448) == 255).all()
    assert (to_square_bgr(Image.new("LA", (448, 448), (0, 128)), 448) == 127).all()
    assert (to_square_bgr(Image.new("1", (448, 448), 1), 448) == 255).all()
    assert (
        to_square_bgr(Image.new("CMYK", (448, 448), (0, 255, 255, 0)), 448) == [0, 0, 255]
    ).all()


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_f_sixteen_bit_grey_is_scaled_by_257(level):
    assert (to_square_bgr(Image.new("I;16", (448, 448), level * 257), 448) == level).all()


def test_g_exif_turn_equals_an_image_turned_beforehand():
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    upright = image.transpose(Image.Transpose.ROTATE_270)
    image.getexif()[0x0112] = 6
    assert np.array_equal(to_square_bgr(image, 64), to_square_bgr(upright, 64))
    assert not np.array_equal(
        to_square_bgr(image, 64), to_square_bgr(image.transpose(Image.Transpose.ROTATE_90), 64)
    )


@pytest.mark.parametrize(
    "filter_", [Image.Resampling.BOX, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR]
)
def test_h_other_filters_give_other_bytes(filter_):
    pixels = np.random.default_rng(4).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    other = np.asarray(image.resize((448, 448), filter_), np.float32)[:, :, ::-1]
    assert not np.array_equal(to_square_bgr(image, 448), other)


def test_given_image_is_not_changed():
    image = Image.new("RGB", (20, 10), (1, 2, 3))
    image.info["comment"] = "kept"
    image.getexif()[0x0112] = 6
    to_square_bgr(image, 32)
    assert image.size == (20, 10)
    assert image.info["comment"] == "kept"


def test_line_of_pixels_takes_no_memory_for_a_square_of_its_length():
    found = to_square_bgr(Image.new("RGB", (20_000, 1), (0, 0, 0)), 64)
    assert found.shape == (64, 64, 3)
    assert (found[:31] == 255).all()


def test_image_that_is_too_long_is_refused_with_its_size():
    with pytest.raises(InputError, match="40000x1"):
        to_square_bgr(Image.new("L", (40_000, 1)), 64)
