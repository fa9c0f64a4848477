"""The example images are what their scripts make, and hold the special cases that the quickstart
shows.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"
IMAGES = QUICKSTART / "images"
REG_IMAGES = QUICKSTART / "reg-images"
# Another release of Pillow, libjpeg or resvg may round otherwise; an image that changed in earnest
# is far above this.
MEAN_LEVELS = 2.0


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, QUICKSTART / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    script("make_images").main(folder)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"), dtype=np.int16)


def assert_same_images(committed: Path, built: Path) -> None:
    for name in sorted(names(built)):
        one, other = committed / name, built / name
        if one.read_bytes() == other.read_bytes():
            continue
        assert pixels(one).shape == pixels(other).shape, name
        assert np.abs(pixels(one) - pixels(other)).mean() < MEAN_LEVELS, name


def test_the_script_makes_the_committed_images_of_each_format(tmp_path):
    make = script("make_images")
    one_of_each = {Path(shot.name).suffix.lower(): shot for shot in make.SHOTS}
    assert set(one_of_each) == {".jpg", ".jpeg", ".png", ".webp"}
    assert {shot.name for shot in make.SHOTS} == names(IMAGES)
    for shot in one_of_each.values():
        (tmp_path / shot.name).write_bytes(make.encode(shot))
    assert_same_images(IMAGES, tmp_path)


@pytest.mark.slow
def test_the_script_makes_all_committed_images(rebuilt):
    assert names(rebuilt) == names(IMAGES)
    assert_same_images(IMAGES, rebuilt)


@pytest.mark.slow
def test_a_second_run_gives_the_same_bytes(rebuilt):
    make = script("make_images")
    for shot in make.SHOTS:
        assert make.encode(shot) == (rebuilt / shot.name).read_bytes(), shot.name


@pytest.mark.parametrize(
    "each", [pytest.param(1, marks=pytest.mark.slow), 4], ids=["all", "every fourth"]
)
def test_the_script_makes_the_committed_reg_images(tmp_path, each):
    pytest.importorskip("dicebear")
    pytest.importorskip("dicebear_styles")
    pytest.importorskip("resvg_py")
    make = script("make_reg_images")
    assert {girl.name for girl in make.GIRLS} == names(REG_IMAGES)
    for girl in make.GIRLS[::each]:
        (tmp_path / girl.name).write_bytes(make.encode(girl))
    assert_same_images(REG_IMAGES, tmp_path)


def test_names_are_as_messy_as_in_life():
    found = names(IMAGES)
    assert len(found) == 24
    assert {"a.jpg", "a.png"} <= found, "two images of one stem"
    assert any(not name.isascii() for name in found)
    assert any(" " in name for name in found)
    assert any(Path(name).suffix.isupper() for name in found)
    assert {"9.jpg", "10.jpg"} <= found, "natural order differs from that of the alphabet"
    folded = [name.casefold() for name in found]
    assert len(set(folded)) == len(folded), (
        "the folder can be copied to a file system that ignores case"
    )


def test_one_image_lies_on_its_side_and_tells_where_it_was_taken():
    with Image.open(IMAGES / "IMG_2041.JPG") as image:
        exif = image.getexif()
        assert image.size == (1280, 960)
        assert exif[0x0112] == 6
        assert exif.get_ifd(0x8825)[1] == "N"
    others = [path for path in IMAGES.iterdir() if path.name != "IMG_2041.JPG"]
    for path in others:
        with Image.open(path) as image:
            assert not image.getexif(), path.name


def test_one_image_has_transparency():
    with Image.open(IMAGES / "sylvie cutout.png") as image:
        assert image.mode == "RGBA"
        assert image.getchannel("A").getextrema() == (0, 255)


def test_every_suffix_says_the_format():
    format_of = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
    for path in [*IMAGES.iterdir(), *REG_IMAGES.iterdir()]:
        with Image.open(path) as image:
            assert image.format == format_of[path.suffix.lower()], path.name


def test_resize_and_buckets_find_work():
    sizes = []
    for path in IMAGES.iterdir():
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sum(max(size) > 1024 for size in sizes) >= 6
    assert max(max(size) for size in sizes) == 2000
    assert sum(width < height for width, height in sizes) >= 6
    assert len(set(sizes)) >= 15


def test_reg_images_are_eight_squares():
    found = sorted(REG_IMAGES.iterdir())
    assert len(found) == 8
    for path in found:
        with Image.open(path) as image:
            assert image.size == (512, 512), path.name


def test_example_images_stay_small():
    total = sum(path.stat().st_size for folder in (IMAGES, REG_IMAGES) for path in folder.iterdir())
    assert total < 4.5e6
