"""One look for every image that dsk draws: a system's font for what DejaVu Sans does not have, and
headings with counts.
"""

import warnings
from io import BytesIO

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from datasetkit import figure_style
from datasetkit.images import contact_sheet
from datasetkit.images.contact_sheet import SheetCell, without_shared_folder
from tests.checks.folders import write_image

CJK = "張娜英"


@pytest.fixture(autouse=True)
def fresh():
    """Forget what was found of the system's fonts, before and after."""
    cached = (figure_style.font_of, figure_style.system_fonts, figure_style._family)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system whose only font has three characters: full squares."""
    pen = TTGlyphPen(None)
    for point, draw in (((0, 0), pen.moveTo), ((0, 900), pen.lineTo), ((900, 900), pen.lineTo),
                        ((900, 0), pen.lineTo)):  # fmt: skip
        draw(point)
    pen.closePath()
    box, names = pen.glyph(), [".notdef", "box"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): "box" for character in CJK})
    builder.setupGlyf(dict.fromkeys(names, box))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    path = tmp_path / "squares.ttf"
    builder.save(path)
    files = [str(tmp_path / "none.ttf"), str(path)]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    return path


@pytest.fixture
def bare(monkeypatch):
    """A system without fonts."""
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)


def dark(image: Image.Image) -> float:
    return float((np.asarray(image.convert("L")) < 128).mean())


def test_characters_are_drawn_in_a_font_of_the_system(system):
    assert figure_style.legible(f"sks {CJK}.png") == f"sks {CJK}.png"
    assert figure_style.families(f"a{CJK}") == ["DejaVu Sans", "Squares"]
    font = figure_style.TextFont(20)
    assert font.getlength(CJK) == pytest.approx(60, abs=1)
    sheet = Image.new("RGB", (64, 24), "white")
    font.draw(ImageDraw.Draw(sheet), (0, 0), CJK, "black")
    assert dark(sheet) > 0.5  # three squares
    assert figure_style.legible("漢") == r"\u6f22"  # not in that font


def test_without_such_a_font_characters_are_spelled_out(bare):
    assert figure_style.legible(f"sks {CJK}") == r"sks \u5f35\u5a1c\u82f1"
    assert figure_style.legible("Юля — “é”") == "Юля — “é”"
    assert figure_style.legible("a\x1b[31m\u202eb") == r"a\x1b[31m\u202eb"


def test_charts_and_sheets_draw_such_names_without_a_warning(system, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure_style.heading(figure, f"run {CJK} $x$", "3 images")
        figure_style.plain_axes(figure.subplots())
        file = BytesIO()
        figure.savefig(file, format="png")
    path = write_image(tmp_path / "a.png", 1)
    for title in ("x" * 3, CJK):
        png = contact_sheet.draw([SheetCell(path, f"{title}.png")], title, "1 image")
        with Image.open(BytesIO(png)) as sheet:
            area = sheet.convert("L").crop((20, 8, 80, 32))
            assert (dark(area) > 0.4) == (title == CJK)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["train/20_x/a.png", "train/20_x/b.png"], ["a.png", "b.png"]),
        (["train/20_x/a.png", "train/5_y/b.png"], ["20_x/a.png", "5_y/b.png"]),
        (["a.png", "sub/b.png"], ["a.png", "sub/b.png"]),
        (["train/20_x/a.png"], ["a.png"]),
        (["a/b/c.png", "a/c.png"], ["b/c.png", "c.png"]),
        ([], []),
    ],
)
def test_names_are_written_without_the_folder_that_all_share(names, shown):
    assert without_shared_folder(names) == shown


def test_text_without_spaces_is_broken_between_its_characters(monkeypatch):
    monkeypatch.setattr(contact_sheet, "legible", str)  # no font is needed here
    face = figure_style.TextFont(20)
    monkeypatch.setattr(figure_style.TextFont, "getlength", lambda _, text: 20 * len(text))
    text = "一张照片，长发女孩。photo of her"
    lines = contact_sheet.wrap_text(text, face, 120)
    assert lines == ["一张照片，长", "发女孩。", "photo", "of her"]
    assert len(contact_sheet.wrap_text(text, face, 120, most=2)) == 2
    assert not any(line[0] in "，。" for line in contact_sheet.wrap_text(text, face, 60))
    assert contact_sheet.wrap_text("a photo of her", face, 160) == ["a photo", "of her"]


@pytest.mark.parametrize(
    "name",
    ["NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "PingFang.ttc", "msyh.ttc", "STHeiti Light.ttc"],
)
def test_fonts_of_every_system_come_before_others(monkeypatch, name):
    fonts = ["/f/aaa.ttf", f"/f/{name}", "/f/DejaVuSans.ttf"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: fonts)
    assert figure_style.system_fonts()[0].name == name
