"""The checks of images: for each one an image that is found, and one that nearly is."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from datasetkit import api
from datasetkit.checks.images import proper_name
from datasetkit.stages.check import reveal
from tests.checks.folders import (
    astronauts,
    caption,
    encoded,
    findings,
    names,
    shapes,
    sound,
    text_on,
    write_image,
)


@pytest.fixture
def imgs(tmp_path):
    return sound(tmp_path / "imgs")


def with_exif(path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shapes(2).save(path, exif=exif)


def transparent(path, hidden: tuple[int, int, int]) -> None:
    """Save an image whose left half is transparent, with a colour in what is not seen."""
    image = shapes(2).convert("RGBA")
    image.paste((*hidden, 0), (0, 0, 256, 512))
    image.save(path)


def frames(path, number: int) -> None:
    shapes(2).save(path, save_all=True, append_images=[shapes(n) for n in range(30, 29 + number)])


def cut_short(path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def grain(radius: float) -> Image.Image:
    """Return an image of sharp tiles, blurred by a Gaussian of a radius in pixels."""
    tiles = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    detailed = Image.fromarray(tiles).convert("RGB").resize((512, 512), Image.Resampling.NEAREST)
    return detailed.filter(ImageFilter.GaussianBlur(radius))


# check: what is done to b.png so that it is found, what is done so that it nearly is, the file that
# is found
CASES = {
    "unreadable": (
        lambda f: cut_short(f / "b.png"),
        lambda f: (f / "notes.md").write_text("no image"),
        "b.png",
    ),
    "unsupported": (
        lambda f: (f / "e.mp4").write_bytes(b""),
        lambda f: (f / "e.json").write_text("{}"),
        "e.mp4",
    ),
    "suffix": (
        lambda f: (f / "b.png").rename(f / "b.jpg"),
        lambda f: (f / "b.png").rename(f / "b.PNG"),
        "b.jpg",
    ),
    "format": (
        lambda f: shapes(2).save(f / "b.png", "GIF"),
        lambda f: shapes(2).save(f / "b.png", "WEBP"),
        "b.png",
    ),
    "small": (
        lambda f: write_image(f / "b.png", 2, (480, 480)),
        lambda f: write_image(f / "b.png", 2, (492, 492)),
        "b.png",
    ),
    "cut": (
        lambda f: write_image(f / "b.png", 2, (2048, 300)),
        lambda f: write_image(f / "b.png", 2, (1024, 512)),
        "b.png",
    ),
    "blurred": (
        lambda f: grain(6).save(f / "b.png"),
        lambda f: grain(0).save(f / "b.png"),
        "b.png",
    ),
    "duplicate": (
        lambda f: shapes(2).save(f / "e.bmp"),
        lambda f: shapes(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(f / "e.bmp"),
        "e.bmp",
    ),
    "near-duplicate": (
        lambda f: shapes(2).resize((400, 400)).save(f / "e.png"),
        lambda f: shapes(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(f / "e.png"),
        "e.png",
    ),
    "text": (lambda f: text_on(shapes(2)).save(f / "b.png"), lambda f: None, "b.png"),
    "alpha": (
        lambda f: transparent(f / "b.png", (0, 0, 0)),
        lambda f: transparent(f / "b.png", (255, 255, 255)),
        "b.png",
    ),
    "turned": (lambda f: with_exif(f / "b.png", 6), lambda f: with_exif(f / "b.png", 1), "b.png"),
    "animated": (lambda f: frames(f / "b.webp", 3), lambda f: frames(f / "b.webp", 1), "b.webp"),
    "faces": (
        lambda f: astronauts(2).save(f / "b.png"),
        lambda f: astronauts(1).save(f / "b.png"),
        "b.png",
    ),
}


@pytest.mark.parametrize("check", CASES)
def test_an_image_is_found(check, imgs):
    spoil, _, found = CASES[check]
    spoil(imgs)
    assert names(imgs, check) == {found}


@pytest.mark.parametrize("check", CASES)
def test_an_image_just_within_the_limit_is_not_found(check, imgs):
    _, nearly, _ = CASES[check]
    nearly(imgs)
    assert findings(imgs, check) == ()


def reason(folder, check: str, **options: object) -> str:
    (found,) = findings(folder, check, **options)
    return found.reason


def test_unreadable_images_are_reported_and_the_others_checked(imgs):
    (imgs / "e.jpg").write_bytes(b"")
    (imgs / "f.jpg").write_bytes(b"no image")
    cut_short(imgs / "b.png")
    (imgs / "link.png").symlink_to(imgs / "a.png")
    message = {f.path.name: f.reason for f in findings(imgs, "unreadable")}
    assert set(message) == {"e.jpg", "f.jpg", "b.png", "link.png"}
    assert message["e.jpg"] == "it is empty (0 bytes)"
    assert message["f.jpg"].startswith("not a whole image of JPEG")
    assert "damaged or cut short" in message["b.png"]
    assert message["link.png"] == "is a symbolic link, which is not followed"


def test_a_truncated_image_with_a_valid_header_is_found(imgs):
    data = encoded(5, (1600, 1200), "JPEG")
    (imgs / "e.jpg").write_bytes(data[: len(data) * 2 // 3])
    caption(imgs / "e.jpg", "sks, smile")
    result = api.check(imgs, api.CheckOptions())
    assert {(f.check, f.path.name) for f in result.findings} == {("unreadable", "e.jpg")}


@pytest.mark.parametrize(
    ("name", "form", "better"),
    [
        ("a.jpg", "PNG", "a.png"),
        ("a.Jpg", "JPEG", "a.jpg"),
        ("a.JPG", "JPEG", "a.JPG"),
        ("a.jpeg", "JPEG", "a.jpeg"),
        ("a.tif", "TIFF", "a.tif"),
        ("a.b.PNG", "WEBP", "a.b.webp"),
    ],
)
def test_the_proper_name_of_an_image_follows_its_content(name, form, better, tmp_path):
    assert proper_name(tmp_path / name, form).name == better


def test_mixed_case_suffixes_are_not_found_by_trainers(imgs):
    (imgs / "b.png").rename(imgs / "b.Png")
    assert "trainers only find .png and .PNG" in reason(imgs, "suffix")


def test_the_scale_and_the_bucket_are_those_of_the_resolution(imgs):
    write_image(imgs / "b.png", 2, (300, 900))
    # TRAINING: at 512 the bucket is 256x832 and 300x900 is shrunk to 277x832; at 1024 it is
    # 576x1728, 1.92 x.
    assert names(imgs, "small") == set()
    message = {f.path.name: f.reason for f in findings(imgs, "small", resolution=1024)}
    assert message["b.png"] == "300x900 is enlarged 1.92 x for its bucket of 576x1728"
    assert set(message) == {"a.png", "b.png", "c.png", "d.png"}
    assert names(imgs, "small", resolution=1024, upscale=2.0) == set()


def test_the_resolution_of_dsk_toml_is_the_one_that_counts(imgs):
    (imgs / "dsk.toml").write_text("[train]\nresolution = [768, 768]\n", encoding="utf-8")
    assert names(imgs, "small") == {"a.png", "b.png", "c.png", "d.png"}
    assert names(imgs, "small", resolution=512) == set()


def test_what_a_bucket_cuts_off_is_a_share_of_the_area(imgs):
    write_image(imgs / "b.png", 2, (4000, 500))
    # TRAINING: 4000x500 becomes 2048x256 for a bucket of 1024x256.
    assert reason(imgs, "cut") == "4000x500 loses 50% in its bucket of 1024x256"


def test_the_blur_measure_rises_with_blur(imgs):
    for n, radius in enumerate((0.5, 2, 8)):
        grain(radius).save(imgs / f"g{n}.png")
    found = {
        f.path.name: f.weight
        for f in findings(imgs, "blurred", blur=0.05)
        if f.path.name.startswith("g")
    }
    assert found["g0.png"] < found["g1.png"] < found["g2.png"] <= 1


def test_all_copies_but_one_are_found_and_that_one_is_named(imgs):
    for name in ("e.png", "f.bmp"):
        shapes(2).save(imgs / name)
    shutil.copyfile(imgs / "b.png", imgs / "g.png")
    message = {f.path.name: f.reason for f in findings(imgs, "duplicate")}
    assert message == dict.fromkeys(("e.png", "f.bmp", "g.png"), "has the same pixels as b.png")
    assert names(imgs, "near-duplicate") == set()  # they are reported once


def test_the_largest_near_duplicate_is_kept(imgs):
    shapes(7, (1024, 1024)).resize((900, 900)).save(imgs / "large.png")
    shapes(7, (1024, 1024)).resize((300, 300)).save(imgs / "tiny.jpg", quality=60)
    message = {f.path.name: f.reason for f in findings(imgs, "near-duplicate")}
    assert message == {"tiny.jpg": "looks like large.png, which is larger (900x900)"}


def test_copies_in_two_folders_are_named_with_their_folder(tmp_path):
    for concept in ("2_sks", "2_dog"):
        folder = sound(tmp_path / "train" / concept, 1 if concept == "2_sks" else 21)
        write_image(folder / "same.png", 50)
        caption(folder / "same.png", "sks, smile")
    message = [f.reason for f in findings(tmp_path, "duplicate")]
    assert message == ["has the same pixels as 2_dog/same.png"]


@pytest.mark.long
def test_text_is_reported_with_boxes_and_a_higher_score_finds_less(imgs):
    text_on(shapes(2)).save(imgs / "b.png")
    assert "1 line of text" in reason(imgs, "text")
    assert findings(imgs, "text", text=1.0) == ()


def test_a_hidden_background_is_reported_with_its_colour(imgs):
    transparent(imgs / "b.png", (255, 0, 0))
    assert reason(imgs, "alpha") == 'convert("RGB") shows #ff0000 in 50% of it'
    image = shapes(2).convert("RGBA")
    image.putalpha(Image.new("L", image.size))
    image.save(imgs / "b.png")
    assert "shows hidden pixels in" in reason(imgs, "alpha")


def test_a_soft_edge_is_not_a_hidden_background(imgs):
    image = shapes(2).convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.putpixel((5, 5), 0)
    image.putalpha(alpha)
    image.save(imgs / "b.png")
    assert findings(imgs, "alpha") == ()


def test_styles_and_regularisation_images_may_have_many_faces(imgs):
    astronauts(2).save(imgs / "b.png")
    assert reason(imgs, "faces") == "2 faces"
    assert findings(imgs, "faces", kind="style") == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotated_image_has_the_findings_of_the_upright_one_and_its_rotation(orientation, imgs):
    with_exif(imgs / "b.png", 1)
    upright = {
        (f.check, f.path.name, f.reason) for f in findings(imgs, *QUICK, upscale=1.0, blur=0.0)
    }
    turned = shapes(2).transpose(_BACK[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(imgs / "b.png", exif=exif)
    found = {
        (f.check, f.path.name, f.reason)
        for f in findings(imgs, *QUICK, "turned", upscale=1.0, blur=0.0)
    }
    message = f"EXIF orientation {orientation} is ignored: it is trained rotated or mirrored"
    assert found == upright | {("turned", "b.png", message)}


QUICK = (
    "small",
    "cut",
    "blurred",
    "duplicate",
    "near-duplicate",
    "alpha",
    "suffix",
    "format",
    "animated",
)
# What a viewer undoes: the transposition that makes the stored pixels of the upright ones.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 255))
def test_what_dropping_alpha_shows_is_what_differs_from_white(colour, alpha):
    image = Image.new("RGBA", (4, 4), (*colour, alpha))
    image.putpixel((0, 0), (0, 0, 0, 255))
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    gap = max(abs(int(a) - b) for a, b in zip(np.asarray(white)[1, 1], colour, strict=True))
    share, hidden = reveal(image)
    if abs(gap - 33) > 1:  # at the threshold itself rounding decides
        assert share == (15 / 16 if gap > 32 else 0.0)
        assert hidden == ("#{:02x}{:02x}{:02x}".format(*colour) if gap > 32 and alpha < 128 else "")
