"""The detector of text, and the measure of blur."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from datasetkit.vision.blur import blur
from datasetkit.vision.text import (
    TextFinder,
    decode,
    find_text,
    model_size,
    prepare,
    rectangle,
    regions,
)
from tests.checks.folders import ASSETS, shapes, text_on


@pytest.fixture(scope="module")
def finder() -> TextFinder:
    return TextFinder()


# ---- text
# --------------------------------------------------------------------------------------------------


def test_a_line_of_text_is_found_in_its_place(finder):
    (box,) = finder.find(text_on(shapes(2)))
    assert 30 <= box.left < 70 and 400 < box.right <= 482
    assert 395 <= box.top < 430 and 450 < box.bottom <= 485
    assert 0.6 <= box.score <= 1
    assert box.width > 5 * box.height


def test_a_tilted_line_has_tilted_corners(finder):
    turned = text_on(shapes(2)).rotate(20, expand=True)
    (box,) = finder.find(turned)
    (ax, ay), (bx, by), *_ = box.corners
    angle = abs(np.degrees(np.arctan2(by - ay, bx - ax))) % 90
    assert min(abs(angle - 20), abs(angle - 70)) < 4


def test_boxes_are_in_pixels_of_an_image_of_any_size(finder):
    small = text_on(shapes(2))
    large = small.resize((1536, 1536))
    (one,), (three,) = finder.find(small), finder.find(large)
    assert (three.left, three.top, three.right, three.bottom) == pytest.approx(
        (3 * one.left, 3 * one.top, 3 * one.right, 3 * one.bottom), abs=24
    )


@pytest.mark.parametrize(
    "path", sorted((ASSETS / "sylvie").glob("*smile.png")) + sorted(ASSETS.glob("photos/c*.png"))
)
def test_images_without_text_have_none(path, finder):
    with Image.open(path) as image:
        assert finder.find(image.convert("RGB")) == ()


def test_the_shared_finder_is_one_for_the_process():
    assert find_text(shapes(2)) == find_text(shapes(2)) == ()


@given(st.integers(1, 8000), st.integers(1, 8000))
def test_the_model_gets_sides_of_whole_blocks(width, height):
    size = model_size(width, height)
    assert all(side % 32 == 0 and 32 <= side <= 960 for side in size)


def test_the_model_gets_blue_first_and_imagenets_spread():
    pixels = prepare(Image.new("RGB", (64, 32), (255, 0, 0)))
    assert pixels.shape == (1, 3, 32, 64)
    assert pixels[0, :, 0, 0] == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225], abs=1e-5
    )


def test_specks_and_faint_areas_are_not_lines():
    probability = np.zeros((64, 96), np.float32)
    probability[10:12, 10:12] = 1  # a speck
    probability[30:40, 10:60] = 0.5  # wide, and not sure
    assert decode(probability, (96, 64)) == ()
    probability[30:40, 10:60] = 0.9
    (box,) = decode(probability, (96, 64))
    assert 0.6 <= box.score <= 0.9  # the mean takes in the rim
    # 50 x 10 grown by area x 1.5 / perimeter = 6.25 on each side.
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((3.75, 23.75, 66.25, 46.25))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.7))
def test_regions_are_those_of_a_flood(seed, density):
    mask = np.random.default_rng(seed).random((12, 17)) < density
    found = {frozenset(zip(ys.tolist(), xs.tolist(), strict=True)) for ys, xs in regions(mask)}
    assert found == _flooded(mask)


def _flooded(mask) -> set[frozenset[tuple[int, int]]]:
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    groups = set()
    while left:
        waiting = [left.pop()]
        group = set(waiting)
        while waiting:
            y, x = waiting.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            group |= near
            waiting += near
        groups.add(frozenset(group))
    return groups


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=40))
def test_the_rectangle_holds_every_point(points):
    corners = rectangle(np.array(points, np.float64))
    if corners is None:
        return
    centre, (u, v) = corners.mean(axis=0), (corners[1] - corners[0], corners[2] - corners[1])
    for along in (u, v):
        length = np.hypot(*along)
        inside = np.abs((np.array(points) - centre) @ (along / length))
        assert inside.max() <= length / 2 + 1e-6


# ---- blur
# --------------------------------------------------------------------------------------------------


def detailed() -> Image.Image:
    tiles = np.random.default_rng(1).integers(0, 256, (16, 16), np.uint8)
    return Image.fromarray(tiles).resize((256, 256), Image.Resampling.NEAREST)


def test_blur_rises_with_each_blurring():
    values = [
        blur(detailed().filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4, 8)
    ]
    assert values == sorted(values)
    assert values[0] < 0.3 and values[-1] > 0.6


def test_blur_in_one_direction_counts():
    smeared = detailed().resize((16, 256)).resize((256, 256), Image.Resampling.BICUBIC)
    assert blur(smeared) > 0.6


def test_a_step_keeps_an_eleventh():
    step = np.zeros((40, 40), np.uint8)
    step[:, 20:] = 200
    assert blur(Image.fromarray(step)) == pytest.approx(1 / 11)


def test_a_flat_image_is_not_blurred():
    assert blur(Image.new("RGB", (64, 64), (9, 9, 9))) == 0
    assert blur(Image.new("RGB", (1, 1))) == 0


@pytest.mark.parametrize("path", sorted(ASSETS.glob("photos/*")))
def test_sharp_photos_are_below_the_threshold_and_blurred_ones_above(path):
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((512, 512))
    assert blur(small) < 0.4 < 0.5 < blur(small.filter(ImageFilter.GaussianBlur(2)))
