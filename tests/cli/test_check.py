"""`dsk check` as a whole: what it prints, writes, remembers, and how it ends."""

import csv
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.checks import registry
from datasetkit.core.errors import Exit
from datasetkit.core.records import ImageRecord
from datasetkit.executors import local
from datasetkit.images.near_duplicates import FINGERPRINT_BYTES
from datasetkit.stages.check import open_measuring, unpack_looks
from tests.checks.folders import caption, encoded, laid_out, shapes, sound, text_on, write_image
from tests.checks.test_captions import PIXELS
from tests.cli.conftest import snapshot

# The checks that take next to no time.
QUICK = ("--skip", ",".join(PIXELS))


@pytest.fixture
def spoiled(here):
    """A set with a missing trigger, a mark, a tag that nobody knows and an image that cannot be
    read.
    """
    imgs = sound(here / "imgs")
    caption(imgs / "a.png", "1girl, smile")
    (imgs / "b.txt").write_bytes(b"\xef\xbb\xbfsks, 1girl, long hiar, smile, hat\n")
    (imgs / "e.jpg").write_bytes(b"nothing")
    return imgs


# ---- the screen
# --------------------------------------------------------------------------------------------------


def test_findings_are_shown_by_group_with_the_next_step(dsk, spoiled):
    ended = dsk("check", "imgs", "--skip", "text,faces")
    assert ended.code == Exit.DONE and ended.err == ""
    assert ended.out.index("Images") < ended.out.index("Captions")
    assert "Folders" not in ended.out
    for message in (
        "trigger-missing",
        "`long hiar` is not a tag",
        "long hair",
        "dsk check imgs --fix",
        "e.jpg",
        "unreadable",
    ):
        assert message in ended.out
    assert "5 images: 5 findings;" in ended.out
    assert "`sks` comes first in most captions" in ended.out
    assert len(ended.out.splitlines()) <= 40


def test_a_clean_dataset_is_one_line(dsk, here):
    laid_out(here / "set")
    ended = dsk("check", "set", *QUICK, "--trigger", "sks", "--strict")
    assert ended.code == Exit.DONE
    run = len(registry.CHECKS) - len(PIXELS)
    assert ended.out.splitlines() == [f"8 images: 0 findings; {run} checks found nothing"]


def test_strict_exits_with_20_until_nothing_is_left(dsk, spoiled):
    assert dsk("check", "imgs", *QUICK, "--strict").code == Exit.CHECK_FOUND
    assert dsk("check", "imgs", "--only", "bom", "--strict", "--fix").code == Exit.DONE
    assert dsk("check", "imgs", "--only", "bom", "--strict").code == Exit.DONE
    (spoiled / "dsk.toml").write_text("[check]\nstrict = true\n", encoding="utf-8")
    assert dsk("check", "imgs", *QUICK).code == Exit.CHECK_FOUND
    assert dsk("check", "imgs", *QUICK, "--no-strict").code == Exit.DONE


def test_fix_reports_what_it_fixed_and_how_to_undo_it(dsk, spoiled):
    ended = dsk("check", "imgs", *QUICK, "--fix")
    assert "1 fixed" in ended.out and "to undo: dsk undo imgs)" in ended.out
    assert dsk("undo", "imgs").code == 0
    assert (spoiled / "b.txt").read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_dry_run_of_fix_lists_the_files(dsk, spoiled):
    before = snapshot(spoiled)
    ended = dsk("check", "imgs", *QUICK, "--fix", "--dry-run")
    assert "write  b.txt" in ended.out and "would be fixed" in ended.out
    assert snapshot(spoiled) == before


def test_json_has_every_finding(dsk, spoiled):
    ended = dsk("check", "imgs", "--skip", "text,faces", "--json", "--strict")
    assert ended.code == Exit.CHECK_FOUND
    found = {(f["check"], f["group"], f["path"], f["subject"]) for f in ended.result["findings"]}
    assert ("unreadable", "image", "imgs/e.jpg", "") in found
    assert ("unknown", "caption", "imgs/b.png", "long hiar") in found
    assert ended.result["summaries"][0]["step"]


def test_the_view_of_sd_scripts_is_printed(dsk, spoiled):
    ended = dsk("check", "imgs", "--as", "sd-scripts")
    assert ended.code == Exit.DONE
    assert "512x512" in ended.out and "1girl, smile" in ended.out and r"\ufeffsks" in ended.out
    assert "5 images as sd-scripts reads them, 1 with problems" in ended.out
    assert len(dsk("check", "imgs", "--as", "sd-scripts", "--json").result["images"]) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere",), Exit.DATASET, "does not exist"),
        (("imgs", "--only", "blured"), Exit.USAGE, "did you mean 'blurred'"),
        (("imgs", "--blur", "2"), Exit.USAGE, "give a value from 0 to 1"),
        (("imgs", "--text", "0.1"), Exit.USAGE, "give a value from 0.6 to 1"),
        (("imgs", "--sheet", "imgs/sheet.png"), Exit.USAGE, "would be among the images"),
        (("imgs", "--sheet", "sheet.jpg"), Exit.USAGE, "name a .png file"),
        (("imgs", "--csv", "imgs/a.txt"), Exit.USAGE, "name a .csv file"),
        (("imgs", "--as", "sd-scripts", "--fix"), Exit.USAGE, "checks nothing"),
        (("imgs", "--as", "sd-scripts", "--strict"), Exit.USAGE, "checks nothing"),
        (("imgs", "--as", "onetrainer"), Exit.USAGE, "sd-scripts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_refused_with_a_message(arguments, code, message, dsk, spoiled):
    before = snapshot(spoiled)
    ended = dsk("check", *arguments)
    assert ended.code == code
    assert "error: " in ended.err and message in ended.err
    assert snapshot(spoiled) == before


# ---- the files
# --------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_finding(dsk, spoiled):
    assert dsk("check", "imgs", "--skip", "text,faces", "--csv", "out/found.csv", "--fix").code == 0
    rows = list(
        csv.DictReader(
            io.StringIO((spoiled.parent / "out" / "found.csv").read_text(encoding="utf-8"))
        )
    )
    assert [
        (r["group"], r["check"], r["path"], r["fixed"]) for r in rows if r["check"] != "singleton"
    ] == [
        ("image", "unreadable", "e.jpg", ""),
        ("caption", "bom", "b.png", "yes"),
        ("caption", "trigger-missing", "a.png", ""),
        ("caption", "unknown", "b.png", ""),
    ]
    assert rows[3]["concept"] == "imgs" and rows[3]["tag"] == "long hiar"


def test_the_contact_sheet_shows_the_flagged_images(dsk, spoiled, here):
    ended = dsk("check", "imgs", "--skip", "text,faces", "--sheet", "sheet.png")
    assert ended.code == 0 and "wrote sheet.png" in ended.out
    with Image.open(here / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 700  # three images beside each other
    dsk("undo", "imgs")
    assert not (here / "sheet.png").exists()


def test_undecodable_names_are_escaped_in_the_table(here):
    sound(here / "imgs")
    bad = (here / "imgs").joinpath("bad\udcff.png")
    bad.write_bytes(encoded(9))
    result = api.check(
        here / "imgs", api.CheckOptions(only=("unreadable",), csv=str(here / "found.csv"))
    )
    assert len(result.findings) == 1
    assert r"bad\xff.png" in (here / "found.csv").read_text(encoding="utf-8")


# ---- what is remembered
# ---------------------------------------------------------------------------------------------


def count_looks(monkeypatch) -> list[int]:
    """Count the images that are given to the stage."""
    seen: list[int] = []
    each = local.each

    def counting(function, items, *, name, **more):
        if name == "checking":
            seen.append(len(items))
        return each(function, items, name=name, **more)

    monkeypatch.setattr(local, "each", counting)
    return seen


def test_pixels_are_measured_once_also_for_a_renamed_image(here, monkeypatch):
    imgs = sound(here / "imgs")
    seen = count_looks(monkeypatch)
    options = api.CheckOptions(only=("blurred", "duplicate"))
    totals = []
    for change in (
        lambda: None,
        lambda: None,
        lambda: (imgs / "a.png").rename(imgs / "z.png"),
        lambda: write_image(imgs / "b.png", 50),
    ):
        change()
        api.check(imgs, options)
        totals.append(sum(seen))
    assert totals == [4, 4, 4, 5]


def test_other_thresholds_measure_nothing_again(here, monkeypatch):
    imgs = sound(here / "imgs")
    text_on(shapes(2)).save(imgs / "b.png")
    seen = count_looks(monkeypatch)
    found = [
        len(api.check(imgs, api.CheckOptions(only=("text",), text=least)).findings)
        for least in (0.6, 1.0)
    ]
    assert found == [1, 0] and seen == [4]


def test_onnxruntime_is_not_needed_without_detectors(here):
    measure = open_measuring(("looks",))
    assert measure.text is None and measure.faces is None


def test_measurements_survive_the_store(here):
    imgs = sound(here / "imgs")
    record = ImageRecord(imgs / "a.png", "0", 512, 512)
    row = open_measuring(("looks",))(record)["looks"]
    seen = unpack_looks(row)
    assert (seen.format, seen.frames, seen.orientation, seen.revealed, seen.hidden) == (
        "PNG",
        1,
        1,
        0.0,
        "",
    )
    assert 0 < seen.blur < 0.5 and len(seen.look) == FINGERPRINT_BYTES


def test_a_read_only_folder_can_be_checked(here, monkeypatch):
    imgs = sound(here / "imgs")
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    assert api.check(imgs, api.CheckOptions(only=("blurred",))).findings == ()
    assert not (imgs / ".dsk").exists()


def test_a_missing_folder_of_a_concept_is_named_as_by_other_commands(dsk, here):
    (here / "p").mkdir()
    (here / "p" / "dsk.toml").write_text('[[concept]]\nfolder = "nowhere"\n', encoding="utf-8")
    for command in ("check", "report"):
        ended = dsk(command, "p")
        assert ended.code == Exit.DATASET, command
        assert "nowhere does not exist" in ended.err and "hint: name the folder" in ended.err


def test_every_resolution_of_a_project_is_shown(dsk, here):
    write_image(here / "a.png", 1, (640, 480))
    (here / "b.png").write_bytes(b"nothing")
    (here / "dsk.toml").write_text("[train]\nresolutions = [768, 512]\n", encoding="utf-8")
    view = api.as_sd_scripts(Path(), api.CheckOptions(csv="view.csv"))
    assert view.resolutions == ((768, 768), (512, 512))
    assert [[b.bucket for b in p.buckets] for p in view.images] == [[(896, 640), (576, 448)], []]
    rows = list(csv.DictReader(io.StringIO(Path("view.csv").read_text("utf-8"))))
    assert [(r["path"], r["resolution"], r["bucket"]) for r in rows] == [
        ("a.png", "768x768", "896x640"), ("a.png", "512x512", "576x448"), ("b.png", "", ""),
    ]  # fmt: skip
    assert "896x640, 576x448  1.40, 0.93" in dsk("check", ".", "--as", "sd-scripts").out
    one = api.as_sd_scripts(Path(), api.CheckOptions(resolution=512)).images[0].buckets
    assert [b.bucket for b in one] == [(576, 448)]
