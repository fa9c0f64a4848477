"""Contact sheets: every image has its place, its name and its reasons, and nothing breaks
them.
"""

import io

import numpy as np
import pytest
from PIL import Image

from datasetkit.figure_style import font
from datasetkit.images import contact_sheet
from datasetkit.images.contact_sheet import SheetBox, SheetCell
from tests.checks.folders import write_image


def drawn(entries, title: str = "imgs", facts: str = "3 flagged images") -> Image.Image:
    return Image.open(io.BytesIO(contact_sheet.draw(entries, title, facts))).convert("RGB")


@pytest.fixture
def path(tmp_path):
    return write_image(tmp_path / "a.png", 1)


def test_a_sheet_grows_by_rows_of_five(path):
    one, five, six = (drawn([SheetCell(path, "a.png")] * n) for n in (1, 5, 6))
    assert one.width < five.width == six.width
    assert one.height == five.height < six.height


def test_reasons_make_a_cell_taller_and_many_are_cut(path):
    plain = drawn([SheetCell(path, "a.png")])
    two = drawn([SheetCell(path, "a.png", ("one", "two"))])
    many = drawn([SheetCell(path, "a.png", tuple(f"reason {n}" for n in range(30)))])
    assert plain.height < two.height < many.height < 2 * plain.height


def test_boxes_are_drawn_round_what_was_found(path):
    plain = np.asarray(drawn([SheetCell(path, "a.png")]))
    boxed = np.asarray(
        drawn([SheetCell(path, "a.png", (), (SheetBox("text", 0.25, 0.25, 0.75, 0.75),))])
    )
    rows, columns = np.nonzero((plain != boxed).any(axis=2))
    changed = boxed[rows, columns]
    assert {tuple(pixel) for pixel in changed.tolist()} == {(0xDC, 0x26, 0x26)}
    assert rows.max() - rows.min() == pytest.approx(
        124 + 4, abs=2
    )  # half of a cell of 248, and the line


@pytest.mark.parametrize(
    "box",
    [
        SheetBox("faces", 0, 0, 1, 1),
        SheetBox("text", 0.5, 0.5, 0.5, 0.5),
        SheetBox("other", -1, -1, 2, 2),
    ],
)
def test_boxes_at_the_edge_are_no_trouble(box, path):
    assert (
        drawn([SheetCell(path, "a.png", (), (box,))]).size == drawn([SheetCell(path, "a.png")]).size
    )


@pytest.mark.parametrize(
    "name",
    ["x" * 300 + ".png", "漢字\U0001f600.png", "\x1b[31mred.png", "bad\udcff.png", "[/x].png"],
)
def test_any_name_can_be_drawn(name, path):
    plain = drawn([SheetCell(path, "a.png")])
    assert drawn([SheetCell(path, name, (name,))]).width == plain.width


def test_a_image_that_cannot_be_read_is_an_empty_cell(tmp_path, path):
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    sheet = drawn(
        [SheetCell(path, "a.png"), SheetCell(tmp_path / "b.jpg", "b.jpg", ("not a whole image",))]
    )
    assert sheet.height == drawn([SheetCell(path, "a.png", ("x",))]).height


def test_many_reasons_of_a_low_image_stay_above_the_next_row(tmp_path, path):
    low = SheetCell(
        write_image(tmp_path / "low.png", 2, (512, 100)), "low.png", ("one", "two", "three")
    )
    square = SheetCell(path, "a.png", ("one", "two", "three"))
    assert drawn([low, SheetCell(path, "a.png")]).height == drawn([square]).height


def test_a_sheet_says_that_it_does_not_show_all(path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MOST", 2)
    assert (
        drawn([SheetCell(path, "a.png")] * 9).width == drawn([SheetCell(path, "a.png")] * 2).width
    )


def test_no_images_make_an_empty_sheet():
    assert drawn([]).height < 100


def test_text_is_cut_at_its_end_or_in_its_middle_and_fits():
    face = font(12)
    long = "a photo of a castle on a hill, " * 8 + "photo_017.png"
    for keep_end in (False, True):
        cut = contact_sheet.fit_text(long, face, 200, keep_end=keep_end)
        assert face.getlength(cut) <= 200 and cut.startswith("a photo") and "…" in cut
        assert cut.endswith("017.png") == keep_end
    assert contact_sheet.fit_text("short", face, 200) == "short"


def test_text_is_wrapped_between_words_and_the_last_line_is_cut():
    face = font(12)
    text = " ".join(f"word{n}" for n in range(40))
    lines = contact_sheet.wrap_text(text, face, 150)
    assert " ".join(lines) == text and all(face.getlength(line) <= 150 for line in lines)
    cut = contact_sheet.wrap_text(text, face, 150, most=3)
    assert cut[:2] == lines[:2] and len(cut) == 3 and cut[2].endswith("…")
    assert contact_sheet.wrap_text("", face, 150) == []
