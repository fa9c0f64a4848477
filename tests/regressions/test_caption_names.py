"""Captions of a person under another name than `<stem>.txt` are kept and named, and --fix renames
them.
"""

from __future__ import annotations

import pytest

from datasetkit.captions.caption_names import caption_files
from tests.cli.conftest import write_image

NAMES = {
    "1.jpg": "1.caption",
    "2.jpg": "2.Txt",
    "3.jpg": "3.TXT",
    "4.jpg": "4.jpg.txt",
    "5.jpg": "5.Caption",
    "6.jpg": "6.jpg.caption",
    "7.JPG": "7.jpg.txt",
    "8.jpg": "8.txt.txt",
    "IMG_9.jpg": "img_9.txt",
    "10 \u00e9.jpg": "10 e\u0301.txt",
    "11.jpg": "11.text",
}


@pytest.fixture
def captioned(here):
    for n, (image, caption) in enumerate(NAMES.items()):
        write_image(here / "pp" / image, n)
        (here / "pp" / caption).write_text(f"sks, words of {n}\n", encoding="utf-8")
    return here / "pp"


def texts(folder):
    files = [path for path in folder.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in files if path.suffix.lower() != ".jpg"}


@pytest.mark.parametrize("existing", ["skip", "append", "prepend"])
def test_tag_keeps_and_names_them(existing, captioned, dsk, toy_tagger):
    before = texts(captioned)
    write_image(captioned / "bare.jpg", 50)
    result = dsk("tag", "pp", "--trigger", "sylvie", "--existing", existing)
    after = texts(captioned)
    assert after.pop("bare.txt")
    assert after == before
    assert f"{len(NAMES)} captions have a name that is not read" in " ".join(result.err.split())
    assert "dsk check pp --fix" in result.err


def test_tag_overwrites_none_of_them(captioned, dsk, toy_tagger):
    before = texts(captioned)
    dsk("tag", "pp", "--existing", "overwrite")
    after = texts(captioned)
    assert {name: after[name] for name in before} == before


def test_fix_renames_all_of_them_and_loses_nothing(captioned, dsk):
    before = texts(captioned)
    result = dsk("check", "pp", "--only", "caption-name", "--fix")
    assert f"{len(NAMES)} fixed" in result.out
    for n, image in enumerate(NAMES):
        text = (captioned / image).with_suffix(".txt").read_text(encoding="utf-8")
        assert text == f"sks, words of {n}\n"
    assert "0 findings" in dsk("check", "pp", "--only", "caption-name,caption-missing").out
    dsk("undo", "pp")
    assert texts(captioned) == before


def test_what_tag_suggests_leads_to_captions_that_are_used(captioned, dsk, toy_tagger):
    dsk("tag", "pp")
    dsk("check", "pp", "--fix")
    result = dsk("layout", "sylvie=pp")
    assert "without a caption" not in result.err and "not read" not in result.err


@pytest.mark.parametrize(
    "command",
    [
        ["layout", "sylvie=pp"],
        ["rules", "pp", "--exclude", "x"],
        ["resize", "pp"],
        ["export", "pp"],
    ],
)
def test_verbs_that_do_not_take_them_along_name_them(command, captioned, dsk):
    result = dsk(*command)
    assert "not read (" in " ".join(result.err.split()) and "dsk check pp --fix" in result.err


def test_the_proper_caption_of_one_image_is_no_other_image_s(tmp_path):
    paths = {name: tmp_path / name for name in ("a.jpg", "a.jpg.txt", "A.png", "A.txt", "a.TXT")}
    (tmp_path / "a.jpg.png").touch()
    images = [paths["a.jpg"], paths["A.png"], tmp_path / "a.jpg.png"]
    files = [paths["a.jpg.txt"], paths["A.txt"], paths["a.TXT"]]
    assert caption_files(images, files) == {
        paths["a.jpg"]: (paths["a.TXT"],),
        paths["A.png"]: (paths["A.txt"],),
        tmp_path / "a.jpg.png": (paths["a.jpg.txt"],),
    }


@pytest.mark.parametrize(
    ("text", "other", "step"),
    [
        ("sks, a", "sks, a", "dsk check d --fix"),
        ("sks, a", "sks, b", "trainers read the .txt: compare them"),
        (None, "", "write its text into 1.txt"),
    ],
)
def test_the_next_step_is_one_that_helps(text, other, step, here, dsk):
    write_image(here / "d" / "1.jpg")
    if text is not None:
        (here / "d" / "1.txt").write_text(text, encoding="utf-8")
    (here / "d" / "1.caption").write_text(other, encoding="utf-8")
    assert step in dsk("check", "d", "--only", "caption-name").out
    fixed = dsk("check", "d", "--only", "caption-name", "--fix").out
    assert ("1 fixed" in fixed) == ("--fix" in step)


TOML = """
[run]
steps = ["resize", "tag", "layout"]
[[concept]]
name = "sks"
folder = "pp"
[tag]
tagger = "basic"
existing = "{existing}"
"""


@pytest.mark.long
def test_a_run_stops_before_it_tags_images_that_have_such_captions(dsk, here, captioned):
    (here / "dsk.toml").write_text(TOML.format(existing="skip"), encoding="utf-8")
    before = texts(captioned)
    for arguments in (("run",), ("run", "--dry-run")):
        ended = dsk(*arguments)
        assert ended.code == 2 and "11 captions in pp would not be read" in ended.err
        assert texts(captioned) == before and not (here / "work").exists()
    assert dsk("check", "pp", "--fix").code == 0  # as the hint says
    assert dsk("run").code == 0
    for n, image in enumerate(NAMES):
        stem = image.rpartition(".")[0]
        assert (here / "work" / "sks" / f"{stem}.txt").read_text("utf-8") == f"sks, words of {n}\n"


def test_a_run_that_overwrites_captions_tags_them(dsk, here, captioned):
    (here / "dsk.toml").write_text(TOML.format(existing="overwrite"), encoding="utf-8")
    assert dsk("run").code == 0
