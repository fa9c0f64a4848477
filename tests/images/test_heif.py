"""HEIC: decoded with the plugin of the extra `formats`, within the limits of all images."""

import numpy as np
import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import InputError
from datasetkit.images import pixels
from datasetkit.images.heif_structure import decoded_pixels
from datasetkit.images.listing import list_images
from tests import heif

BLUE = (64, 128, 192)


@pytest.fixture
def photo(tmp_path):
    pytest.importorskip("pi_heif", reason="the extra `formats` is not installed")
    path = tmp_path / "imgs" / "photo.HEIC"
    path.parent.mkdir()
    path.write_bytes(heif.HEIC)
    return path


def test_the_header_and_the_pixels_are_read(photo):
    header = pixels.probe(photo)
    assert (header.width, header.height, header.format, header.frames) == (64, 48, "HEIC", 1)
    image = pixels.load(photo)
    assert (image.size, image.mode, image.info) == ((64, 48), "RGB", {})
    assert np.abs(np.asarray(image)[9, 9].astype(int) - BLUE).max() <= 2


def test_it_is_listed_tagged_resized_and_laid_out_like_any_image(photo, monkeypatch, tmp_path):
    assert list_images(photo.parent).images == (photo,)
    api.resize(photo.parent, tmp_path / "out", api.ResizeOptions())
    with Image.open(tmp_path / "out" / "photo.png") as image:
        assert image.format == "PNG" and image.size == (64, 48)
    found = api.check(photo.parent, api.CheckOptions(only=("format", "suffix", "unreadable")))
    assert [f.check for f in found.findings] == ["format"]


def test_the_content_decides_not_the_suffix(photo, tmp_path):
    named = tmp_path / "imgs" / "as-sent.jpg"
    named.write_bytes(heif.HEIC)
    assert pixels.load(named).size == (64, 48)
    found = api.check(named.parent, api.CheckOptions(only=("suffix",)))
    assert [(f.path.name, f.reason) for f in found.findings] == [("as-sent.jpg", "is a HEIC file")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (heif.HEIC[:200], "not a whole HEIC image"),
        (heif.HEIC[:-12], "damaged or cut short"),
        (heif.lying(8000, 8000), "damaged or cut short"),
        (heif.lying(16, 16), "damaged or cut short"),
        (heif.lying(20_000, 20_000), "it is made of 400 megapixels"),
        (heif.lying(9_000, 9_000), "damaged or cut short|beyond the limit"),
        (heif.grid(2, canvas=(65_535, 65_535)), "megapixels"),
    ],
)
def test_a_damaged_or_lying_file_is_refused_with_a_reason(photo, data, reason):
    photo.write_bytes(data)
    with pytest.raises(InputError, match=reason):
        pixels.load(photo)


def test_every_byte_may_be_damaged(photo):
    for at in range(0, len(heif.HEIC), 7):
        photo.write_bytes(heif.HEIC[:at] + b"\xff\x7f" + heif.HEIC[at + 2 :])
        try:
            pixels.load(photo)
        except InputError as error:
            assert "\n" not in error.message


@pytest.mark.parametrize(
    ("data", "megapixels"),
    [
        (heif.HEIC, 64 * 64),
        (heif.grid(2, canvas=(128, 96)), 128 * 96 + 4 * 64 * 64),
        (heif.grid(1, depth=2), 3 * 64 * 64),
        (heif.HEIC[:100], 0),
        (b"\0\0\0\x1cftypheic", 0),
    ],
)
def test_the_pixels_of_a_file_are_counted_from_its_boxes(tmp_path, data, megapixels):
    (tmp_path / "a.heic").write_bytes(data)
    with (tmp_path / "a.heic").open("rb") as file:
        assert decoded_pixels(file) == megapixels


def test_a_grid_is_decoded(photo):
    photo.write_bytes(heif.grid(2, canvas=(128, 96)))
    assert pixels.load(photo).size == (128, 96)
