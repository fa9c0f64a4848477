"""`dsk faces`: where faces are, squares around them, and images without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from datasetkit import api
from datasetkit.checks.base import ImageRegion
from datasetkit.core.errors import ConfigError, InputError, PlanConflict
from datasetkit.figure_style import BOXES
from datasetkit.images import pixels as images
from datasetkit.stages.faces import FaceBoxes, hole, square
from datasetkit.vision import faces, inpaint
from tests.safety.datasets import caption, write_image
from tests.safety.finders import DETECTOR, MiddleFace
from tests.stages.test_cutout import ASSETS, text

SIZE = (200, 150)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Three images with a face in their middle, one of them as a BMP; and one without."""
    monkeypatch.setitem(faces.DETECTORS, DETECTOR, MiddleFace)
    several = [
        write_image(tmp_path / "imgs" / name, n, SIZE)
        for n, name in enumerate(("a.png", "b.jpg", "c.bmp"), 1)
    ]
    caption(several[0], "sks, smile, lips, brown eyes, watermark, hat\n")
    caption(several[1], "sks, forest\n")
    Image.new("RGB", SIZE).save(tmp_path / "imgs" / "d.png")
    caption(tmp_path / "imgs" / "d.png", "sks, lips\n")
    return tmp_path


def options(**given) -> api.FacesOptions:
    return api.FacesOptions(detector=DETECTOR, **given)


def crop(place, **given):
    return api.crop_faces(place / "imgs", place / "out", options(**{"min_size": 16, **given}))


def erase(place, **given):
    return api.erase_faces(place / "imgs", place / "out", options(**given))


# ---- squares and holes
# ----------------------------------------------------------------------------------------------


def fractions(low=0.0, high=1.0):
    return st.floats(low, high, allow_nan=False)


@given(
    fractions(),
    fractions(),
    fractions(0.01),
    fractions(0.01),
    st.integers(1, 4000),
    st.integers(1, 4000),
    fractions(0, 5),
)
def test_a_square_is_square_within_the_image_and_holds_the_face_where_it_can(
    x, y, w, h, width, height, margin
):
    face = ImageRegion(
        max(0.0, x - w / 2), max(0.0, y - h / 2), min(1.0, x + w / 2), min(1.0, y + h / 2), 0.9
    )
    left, top, right, bottom = square(face, width, height, margin)
    assert right - left == bottom - top >= 1
    assert left >= 0 and top >= 0 and right <= width and bottom <= height
    if right - left < min(width, height):  # it was not cut down
        assert left <= face.left * width + 1 and right >= face.right * width - 1
        assert top <= face.top * height + 1 and bottom >= face.bottom * height - 1


def test_a_square_by_hand():
    face = ImageRegion(0.4, 0.4, 0.6, 0.5, 0.9)  # 200 x 100 pixels around (500, 450)
    assert square(face, 1000, 1000, 0.5) == (300, 250, 700, 650)
    assert square(face, 1000, 1000, None) == (300, 250, 700, 650)
    assert square(ImageRegion(0, 0, 0.2, 0.2, 0.9), 1000, 1000, 0.5) == (0, 0, 400, 400)
    assert square(face, 1000, 300, 5) == (350, 0, 650, 300)


def test_a_hole_covers_the_face_with_room_and_a_line_of_text_whole():
    drawn = np.asarray(
        hole(
            FaceBoxes(
                (ImageRegion(0.4, 0.4, 0.6, 0.6, 0.9),), (ImageRegion(0.1, 0.8, 0.5, 0.9, 0.9),)
            ),
            (100, 100),
            None,
        )
    )
    assert drawn[50, 50] == drawn[37, 50] == 255 and drawn[37, 37] == 0 and drawn[30, 50] == 0
    assert (drawn[80:90, 10:50] == 255).all() and (drawn[78, 10:50] == 0).all()


# ---- filling
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def face():
    """A grey image whose middle has stripes, and the mask of the middle."""
    seen = Image.new("RGB", (120, 100), (120, 130, 140))
    pen = ImageDraw.Draw(seen)
    for x in range(45, 75, 2):
        pen.line((x, 30, x, 70), fill=(250, 10, 10))
    gone = Image.new("L", seen.size)
    ImageDraw.Draw(gone).rectangle((40, 25, 80, 75), fill=255)
    return seen, gone


@pytest.mark.parametrize("fill", inpaint.FILLS)
def test_a_filled_place_shows_nothing_of_what_was_there_and_the_rest_stays(face, fill):
    seen, gone = face
    filled, inside = (
        np.asarray(inpaint.fill(seen, gone, fill), np.int16),
        np.asarray(gone) == 255,
    )
    assert (filled[~inside] == np.asarray(seen)[~inside]).all()
    middle = filled[35:65, 50:70]
    assert np.abs(np.diff(middle, axis=1)).max() <= 3
    wanted = {"white": (255, 255, 255), "paint": (120, 130, 140)}.get(fill)
    if wanted is not None:
        assert np.abs(filled[inside] - np.array(wanted)).max() <= 1


def test_paint_takes_the_colours_from_the_nearest_sides(face):
    seen, gone = Image.linear_gradient("L").resize((120, 100)).convert("RGB"), face[1]
    painted = np.asarray(inpaint.fill(seen, gone, "paint"), np.int16)
    assert painted[28, 60, 0] < painted[50, 60, 0] < painted[72, 60, 0]
    assert np.abs(painted - np.asarray(seen, np.int16)).max() < 60


@pytest.mark.parametrize("fill", inpaint.FILLS)
@pytest.mark.parametrize("value", [0, 255])
def test_nothing_and_everything_can_be_filled(fill, value):
    seen = Image.new("RGB", (7, 5), "red")
    filled = inpaint.fill(seen, Image.new("L", (7, 5), value), fill)
    assert filled.size == (7, 5) and (value or filled.tobytes() == seen.tobytes())


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_spread_colours_lie_between_the_known_ones(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    known = rng.random((height, width)) < 0.3
    known[rng.integers(height), rng.integers(width)] = True
    spread = inpaint.spread(pixels, known)
    assert np.abs(spread[known] - pixels[known]).max() < 0.01
    assert spread.min() >= pixels[known].min() - 0.01 and spread.max() <= pixels[known].max() + 0.01


# ---- the verbs
# --------------------------------------------------------------------------------------------------


def test_list_gives_boxes_in_pixels_and_scores(made):
    result = api.list_faces(made / "imgs", options())
    first, *_, last = result.images
    (found,) = first.faces
    assert (found.left, found.top, found.right, found.bottom) == (80, 45, 120, 90)
    assert found.score == pytest.approx(0.9, abs=1e-3) and (first.width, first.height) == SIZE
    assert last.path.name == "d.png" and last.faces == ()
    assert sorted(p.name for p in (made / "imgs").iterdir() if p.suffix != ".txt") == [
        ".dsk",
        "a.png",
        "b.jpg",
        "c.bmp",
        "d.png",
    ]


def test_faces_are_looked_for_once(made, monkeypatch):
    api.list_faces(made / "imgs", options())
    monkeypatch.setattr(MiddleFace, "find", None)
    assert len(api.list_faces(made / "imgs", options(threshold=0.6)).images) == 4
    assert api.list_faces(made / "imgs", options(threshold=0.95)).images[0].faces == ()


def test_crops_are_squares_named_after_their_images_with_their_captions(made):
    result = crop(made)
    assert sorted(
        p.name for p in (made / "out").iterdir() if p.suffix != ".txt" and p.is_file()
    ) == [
        "a.png",
        "b.jpg",
        "c.png",
    ]
    assert [d.value.sizes for d in result.report.done] == [(90,)] * 3
    assert images.load(made / "out" / "a.png").size == (90, 90)
    assert text(made / "out" / "a.txt") == "sks, smile, lips, brown eyes, watermark, hat"
    assert [s.record.path.name for s in result.report.skipped] == ["d.png"]
    assert not (made / "out" / "d.txt").exists()


def test_a_crop_is_shrunk_to_the_size_and_never_enlarged(made):
    assert {s for d in crop(made, size=64).report.done for s in d.value.sizes} == {64}
    assert {s for d in crop(made, size=512).report.done for s in d.value.sizes} == {90}


def test_faces_whose_crops_are_too_small_are_left_out_and_named(made):
    result = crop(made, min_size=100)
    assert [p.name for p in result.small] == [
        "a.png",
        "b.jpg",
        "c.bmp",
    ] and result.report.done == []


def test_several_faces_are_several_files_and_the_largest_can_be_had_alone(made, monkeypatch):
    two = (faces.Face(10, 10, 40, 40, 0.9), faces.Face(100, 20, 180, 110, 0.7))
    monkeypatch.setattr(MiddleFace, "find", lambda self, image, *, threshold: two)
    monkeypatch.setattr(
        "datasetkit.stages.check.join_mirrored", lambda ahead, back, width: tuple(ahead)
    )
    write_image(made / "imgs" / "a_2.png", 9, SIZE)
    crop(made)
    names = {p.name for p in (made / "out").iterdir() if p.suffix in (".png", ".jpg")}
    assert {"a.png", "a_2.png", "a_2_2.png", "a_2_3.png", "b.jpg", "b_2.jpg"} <= names
    assert text(made / "out" / "b_2.txt") == "sks, forest"
    again = crop(made)
    assert again.report.done == [] and again.entry is None
    only = crop(made, most=1)
    assert {len(d.value.paths) for d in only.report.done} == {1}
    assert images.load(made / "out" / "a.png").size == (150, 150)


def test_a_second_face_whose_name_is_too_long_leaves_no_first(made, monkeypatch):
    """The image's own name is as long as a name may be; `_2` makes it longer."""
    two = (faces.Face(10, 10, 40, 40, 0.9), faces.Face(100, 20, 180, 110, 0.7))
    monkeypatch.setattr(MiddleFace, "find", lambda self, image, *, threshold: two)
    monkeypatch.setattr(
        "datasetkit.stages.check.join_mirrored", lambda ahead, back, width: tuple(ahead)
    )
    long = write_image(made / "imgs" / ("x" * 251 + ".png"), 9, SIZE)
    result = crop(made)
    assert [(problem.path, "too long" in problem.error) for problem in result.report.failed] == [
        (long, True)
    ]
    made_of = {path.name for path in (made / "out").rglob("*") if path.name.startswith("x")}
    assert made_of == set() and (made / "out" / "b_2.jpg").exists()


def test_masks_are_cropped_alike(made):
    mask = Image.new("L", SIZE)
    mask.paste(255, (100, 0, 200, 150))
    (made / "imgs" / "masks").mkdir()
    mask.save(made / "imgs" / "masks" / "a.png")
    crop(made)
    seen = np.asarray(Image.open(made / "out" / "masks" / "a.png"))
    assert seen.shape == (90, 90) and (seen[:, :40] == 0).all() and (seen[:, 50:] == 255).all()


def test_erased_faces_are_white_their_masks_black_and_their_words_gone(made):
    result = erase(made)
    assert [(d.value.faces, d.value.text) for d in result.report.done] == [(1, 0)] * 3 + [(0, 0)]
    seen = np.asarray(images.load(made / "out" / "a.png"))
    mask = np.asarray(Image.open(made / "out" / "masks" / "a.png"))
    assert (seen[45:90, 95:105] == 255).all() and (mask[50:85, 90:110] == 0).all()
    kept = np.asarray(images.load(made / "imgs" / "a.png"))
    assert (seen[:30] == kept[:30]).all() and (mask[:30] == 255).all()
    assert text(made / "out" / "a.txt") == "sks, smile, watermark, hat"
    assert text(made / "out" / "b.txt") == "sks, forest"
    assert text(made / "out" / "d.txt") == "sks, lips"
    assert (
        images.load(made / "out" / "d.png").tobytes()
        == images.load(made / "imgs" / "d.png").tobytes()
    )
    assert not (made / "out" / "masks" / "d.png").exists()


def test_a_second_run_does_nothing_and_undo_takes_all_back(made):
    erase(made)
    again = erase(made)
    assert again.report.done == [] and again.entry is None and again.captions.changes == ()
    api.undo(made / "out", 1)
    assert [p for p in (made / "out").rglob("*") if p.is_file() and ".dsk" not in p.parts] == []


def test_a_dry_run_makes_nothing(made):
    result = api.erase_faces(made / "imgs", made / "out", options(), api.RunContext(dry_run=True))
    assert [c.removed for c in result.captions.changes] == [("lips", "brown eyes")]
    assert not (made / "out").exists() and not (made / "imgs" / ".dsk").exists()


def test_text_is_erased_too_with_its_words(made, monkeypatch):
    from datasetkit.vision.text import TextBox, TextFinder

    line = TextBox(
        10.0, 120.0, 60.0, 140.0, 0.9, ((10.0, 120.0), (60.0, 120.0), (60.0, 140.0), (10.0, 140.0))
    )
    monkeypatch.setattr(TextFinder, "__init__", lambda self, threads=1: None)
    monkeypatch.setattr(TextFinder, "find", lambda self, image, *, threshold: (line,))
    erase(made, text=True)
    assert (np.asarray(images.load(made / "out" / "a.png"))[121:139, 11:59] == 255).all()
    assert text(made / "out" / "a.txt") == "sks, smile, hat"
    assert text(made / "out" / "d.txt") == "sks, lips"  # there is text in it, and no face


def test_the_sheet_of_crop_shows_what_is_cut_out(made):
    orange = [int(BOXES["crop"][i : i + 2], 16) for i in (1, 3, 5)]
    drawn = {}
    for name, call in (
        ("list", lambda o: api.list_faces(made / "imgs", o)),
        ("crop", lambda o: api.crop_faces(made / "imgs", None, o)),
    ):
        call(options(review=str(made / f"{name}.png"), min_size=1))
        with Image.open(made / f"{name}.png") as sheet:
            drawn[name] = int((np.asarray(sheet.convert("RGB")) == orange).all(axis=2).sum())
    assert drawn["list"] == 0 < drawn["crop"]


@pytest.mark.parametrize("verb", [api.crop_faces, api.erase_faces])
def test_the_contact_sheet_comes_before_the_images_in_the_history(made, verb):
    given = options(review=str(made / "sheet.png"), min_size=1)
    result = verb(made / "imgs", made / "out", given)
    assert result.sheet == made / "sheet.png"
    newest = result.entry if result.captions.entry is None else result.captions.entry
    assert api.history(made / "out")[0].id == newest


def test_the_review_sheet_shows_every_image(made):
    result = api.list_faces(made / "imgs", options(review=str(made / "sheet.png")))
    with Image.open(made / "sheet.png") as sheet:
        assert sheet.width > 4 * 200
    assert result.sheet == made / "sheet.png"


def test_a_broken_image_costs_only_itself(made):
    (made / "imgs" / "e.png").write_bytes(b"nothing")
    whole = (made / "imgs" / "a.png").read_bytes()
    (made / "imgs" / "f.png").write_bytes(whole[: len(whole) - 40])
    for failed in (crop(made).report.failed, api.list_faces(made / "imgs", options()).failed):
        assert sorted(f.path.name for f in failed) == ["e.png", "f.png"]


def test_files_of_somebody_else_and_the_input_folder_are_no_outputs(made):
    write_image(made / "out" / "a.png", 99, SIZE)
    for verb in (crop, erase):
        with pytest.raises(PlanConflict, match="not made by dsk"):
            verb(made)
    with pytest.raises(InputError, match="the input folder itself"):
        api.crop_faces(made / "imgs", made / "imgs", options())


def test_an_unknown_detector_is_refused_with_the_known_ones(made):
    with pytest.raises(ConfigError, match="unknown face detector 'haar'") as raised:
        api.list_faces(made / "imgs", api.FacesOptions(detector="haar"))
    assert "blazeface" in raised.value.hint


# ---- the shipped detectors
# ------------------------------------------------------------------------------------------


def test_the_shipped_detector_finds_the_faces_of_photos_and_drawings(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for path in (*(ASSETS / "photos").iterdir(), ASSETS / "sylvie" / "sylvie_blue_smile.png"):
        images.save(images.load(path), folder / f"{path.stem}.png")
    found = {one.path.stem: one.faces for one in api.list_faces(folder, api.FacesOptions()).images}
    assert len(found["astronaut"]) == len(found["sylvie_blue_smile"]) == 1
    assert found["rocket"] == ()
    (face,) = found["astronaut"]
    assert 150 < (face.left + face.right) / 2 < 290 and 60 < (face.top + face.bottom) / 2 < 190
