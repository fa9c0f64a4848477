"""A subject put on a colour: no halo of the old background, and nothing of it outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from datasetkit.vision import flatten

INK, PAPER = (200, 100, 50), (20, 160, 60)


def disc(size=(240, 200), blur=3.0) -> Image.Image:
    """Return the mask of a disc with a soft edge."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((60, 40, 180, 160), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(blur))


def composed(subject, background, mask) -> Image.Image:
    return Image.composite(
        Image.new("RGB", mask.size, subject), Image.new("RGB", mask.size, background), mask
    )


def apart(one: Image.Image, other: Image.Image) -> np.ndarray:
    """Return the largest difference of the channels at each pixel."""
    gap: np.ndarray = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max(axis=2)
    return gap


def test_half_transparent_pixels_mix_subject_and_new_background_equally():
    """rembg's own cutout gives (177, 152, 140) here: it applies its alpha twice, which makes a dark
    halo.
    """
    flat = flatten.flatten(
        Image.new("RGB", (8, 8), INK), Image.new("L", (8, 8), 128), (255, 255, 255)
    )
    assert flat.getcolors() == [(64, (227, 177, 152))]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (90, 20, 200)])
def test_the_old_background_is_removed_from_the_edge(colour):
    mask = disc()
    image, wanted = composed(INK, PAPER, mask), composed(INK, colour, mask)
    plain = Image.composite(image, Image.new("RGB", mask.size, colour), mask)
    assert apart(flatten.flatten(image, mask, colour), wanted).max() <= 3
    assert apart(plain, wanted).max() > 20  # without it there is a halo


def test_a_subject_of_several_colours_keeps_each_at_its_edge():
    mask = disc()
    subject = Image.new("RGB", mask.size, INK)
    subject.paste((30, 40, 220), (120, 0, 240, 200))
    background = Image.linear_gradient("L").resize(mask.size).convert("RGB")
    image = Image.composite(subject, background, mask)
    wanted = Image.composite(subject, Image.new("RGB", mask.size, "white"), mask)
    gap = apart(flatten.flatten(image, mask, (255, 255, 255)), wanted)
    halo = apart(Image.composite(image, Image.new("RGB", mask.size, "white"), mask), wanted)
    assert gap.mean() < 0.3 and np.percentile(gap, 99.5) <= 16
    assert gap.mean() < halo.mean() / 4


def test_outside_of_the_mask_is_the_colour_and_inside_the_image():
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (200, 240, 3), np.uint8))
    mask = disc()
    alpha, flat = np.asarray(mask), np.asarray(flatten.flatten(image, mask, (1, 2, 3)))
    assert (flat[alpha == 0] == (1, 2, 3)).all()
    assert (flat[alpha == 255] == np.asarray(image)[alpha == 255]).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_any_mask_on_any_image_gives_an_image_of_the_same_size(width, height, seed):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    mask = Image.fromarray(
        rng.choice(np.array([0, 0, 90, 200, 255, 255], np.uint8), (height, width))
    )
    flat = flatten.flatten(image, mask, (255, 255, 255))
    clear = flatten.transparent(image, mask, (255, 255, 255))
    assert (
        flat.mode == "RGB" and clear.mode == "RGBA" and flat.size == clear.size == (width, height)
    )
    assert (np.asarray(clear)[..., 3] == np.asarray(mask)).all()


def test_a_transparent_image_shows_the_colour_where_its_alpha_is_dropped():
    mask = disc()
    clear = flatten.transparent(composed(INK, PAPER, mask), mask, (255, 255, 255))
    bare = np.asarray(clear.convert("RGB"))
    assert (bare[np.asarray(mask) == 0] == 255).all()
    laid = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    assert apart(laid, composed(INK, (255, 255, 255), mask)).max() <= 3
