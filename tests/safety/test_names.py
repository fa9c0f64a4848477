"""Files of any name are processed or refused with a reason, and nothing unescaped reaches the
terminal.
"""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit
from tests.safety.datasets import FINDING, WRITING, caption, write_image
from tests.safety.harness import digest, files, is_image, strays, tree
from tests.safety.tagger import NAME

# Names as bytes, since not all of them are text; a slash cannot be in one, so `[/x].png` is a
# image `x].png` in `[`.
NAMES = [
    b"new\nline.png",
    b"tab\there.png",
    b"\xe2\x80\xaegnp.exe.png",  # U+202E reverses the text that follows
    "\U0001f600\u200d\U0001f525.png".encode(),
    b"-rf.png",
    b"--help.png",
    b"dot..png",
    b"space .png",
    b"CON.png",
    b"nul.png",
    b"x" * 251 + b".png",
    "\u00e9".encode() * 125 + b".png",
    b"bad\xff\xfe.png",
    b"[bold red]x.png",
    b"[/x].png".replace(b"/", b"\xe2\x88\x95"),
    b"%s%n%d.png",
    b"{0}{x}.png",
    b"\x1b[31mred\x1b[0m.png",
    b"\x1b]0;title\x07.png",
    b"back\x08space.png",
    b"$(touch pwned).png",
    b"`id`; rm -rf ~.png",
    "e\u0301.png".encode(),
    "\u00e9.png".encode(),
    b"two.dots.png",
    b"comma, in name.png",
    b"quote'\".png",
]


def awkward_set(folder: Path) -> None:
    """Make an image under each name, and one in a folder whose name looks like Rich markup."""
    folder.mkdir(parents=True)
    for n, name in enumerate(NAMES):
        write_image(folder / "plain.png", n)
        (folder / "plain.png").rename(folder / os.fsdecode(name))
    write_image(folder / "[" / "x].png", 99)


def dirty(text: str) -> set[str]:
    """Return the characters of an output that must not reach a terminal from a file name."""
    return {
        c
        for c in text
        if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    }


def dsk(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run one command as a person does; a traceback would be raised here."""
    code = run(list(arguments))
    printed = capsys.readouterr()
    assert dirty(printed.out) == set()
    assert dirty(printed.err) == set()
    return code, printed.out, printed.err


@pytest.fixture
def awkward(workdir, monkeypatch):
    awkward_set(workdir / "imgs")
    monkeypatch.chdir(workdir)
    return workdir / "imgs"


def test_rename_gives_every_image_a_plain_name(awkward, capsys):
    before = sorted(digest(p) for p in files(awkward) if is_image(p))
    code, out, _ = dsk(capsys, "rename", "imgs", "p")
    assert code == Exit.DONE
    assert f"{len(NAMES)} images" in out
    assert sorted(digest(p) for p in files(awkward) if is_image(p)) == before
    names = {p.name for p in awkward.iterdir() if is_image(p)}
    assert names == {f"p_{n:03d}.png" for n in range(1, len(NAMES) + 1)}
    assert dsk(capsys, "undo", "imgs")[0] == Exit.DONE
    assert {os.fsencode(p.name) for p in awkward.iterdir() if is_image(p)} == set(NAMES)


def test_rename_shows_its_plan_safely(awkward, capsys):
    code, out, _ = dsk(capsys, "rename", "imgs", "p", "--dry-run")
    assert code == Exit.DONE
    assert r"\x1b[31mred" in out
    assert r"bad\xff\xfe" in out or "more" in out


UNREADABLE = sum(
    any(unicodedata.category(c) in ("Cc", "Cs") for c in os.fsdecode(name)) for name in NAMES
)


@pytest.mark.parametrize(
    "command",
    [
        ["tag", "imgs", "--tagger", NAME, "--recursive"],
        ["resize", "imgs", "out", "--max", "32", "--recursive"],
        ["rules", "imgs", "--trigger", "sks", "--recursive"],
        *([*command, "--recursive"] for command in FINDING.values()),
    ],
    ids=lambda command: " ".join(command).partition(" imgs")[0],
)
def test_images_of_any_name_are_processed_or_listed_as_failed(command, awkward, capsys):
    code, _, err = dsk(capsys, *command)
    assert code == Exit.SOME_FAILED
    assert err.count("is not printable UTF-8") == min(UNREADABLE, 20)
    assert strays(awkward.parent) == []
    assert not list(awkward.parent.rglob("pwned"))


@pytest.mark.parametrize("name", WRITING)
def test_all_others_get_a_new_image_of_the_same_name(name, awkward, capsys):
    assert dsk(capsys, *WRITING[name])[0] == Exit.SOME_FAILED
    made = {os.fsencode(p.name) for p in (awkward.parent / "out").iterdir() if is_image(p)}
    assert len(made) == len(NAMES) - UNREADABLE
    # The other "é", in two code points, is the same name on the disk of a Mac.
    assert made - {"é_2.png".encode()} < set(NAMES)
    assert dsk(capsys, "history", "out")[0] == Exit.DONE
    assert dsk(capsys, "undo", "out")[0] == Exit.DONE
    assert not [p for p in (awkward.parent / "out").iterdir() if is_image(p)]


def test_a_contact_sheet_of_faces_shows_images_of_any_name(awkward, capsys):
    code, out, _ = dsk(capsys, *FINDING["faces list"], "--recursive", "--review", "sheet.png")
    assert code == Exit.SOME_FAILED
    assert r"[bold red]x.png" in out
    with Image.open(awkward.parent / "sheet.png") as sheet:
        sheet.load()


def test_all_others_have_captions_then_tables_then_exports(awkward, capsys):
    assert dsk(capsys, "tag", "imgs", "--tagger", NAME)[0] == Exit.SOME_FAILED
    captions = [p for p in awkward.iterdir() if p.suffix == ".txt"]
    assert len(captions) == len(NAMES) - UNREADABLE
    code, out, _ = dsk(capsys, "report", "imgs", "--out", "report")
    assert code in (Exit.DONE, Exit.SOME_FAILED)
    assert "red theme" in out
    code, _, err = dsk(capsys, "layout", "3_sks=imgs", "--out", "dataset")
    assert code == Exit.SOME_FAILED
    # Of the two that differ only in how their letters are composed, one is left out.
    assert "on some disks it has the name of" in err
    laid_out = {
        os.fsencode(p.name)
        for p in (awkward.parent / "dataset" / "train" / "3_sks").iterdir()
        if is_image(p)
    }
    assert len(laid_out) == len(NAMES) - UNREADABLE - 1
    assert laid_out < set(NAMES)
    for form in ("kohya", "imagefolder", "meta"):
        out = "elsewhere" if form == "kohya" else "dataset"  # the others name images below a folder
        code, _, err = dsk(capsys, "export", "dataset", "--format", form, "--out", out)
        assert code == Exit.DONE, err
    assert dsk(capsys, "history", "dataset")[0] == Exit.DONE


@pytest.mark.long
def test_images_of_any_name_are_checked_and_drawn(awkward, capsys):
    more = ["--recursive", "--csv", "found.csv", "--sheet", "found.png"]
    code, out, err = dsk(capsys, "check", "imgs", *more)
    assert (code, err) == (Exit.DONE, "")
    assert "is not printable UTF-8" in out and f"{len(NAMES) + 1} images" in out
    rows = (awkward.parent / "found.csv").read_text(encoding="utf-8").splitlines()
    assert sum("is not printable UTF-8" in row for row in rows) == UNREADABLE
    assert not any(dirty(row) - {"\u202e", "\u200d"} for row in rows)
    assert dsk(capsys, "check", "imgs", "--as", "sd-scripts", "--csv", "view.csv")[0] == Exit.DONE
    assert dsk(capsys, "check", "imgs", "--fix")[0] == Exit.DONE
    assert not list(awkward.parent.rglob("pwned"))


@pytest.mark.parametrize("name", FINDING)
def test_json_of_detections_has_every_name_and_is_plain_ascii(name, awkward, capsys):
    code, out, _ = dsk(capsys, *FINDING[name], "--json")
    assert code == Exit.SOME_FAILED
    assert out.isascii()
    result = json.loads(out)["result"]
    told = (
        [*result["images"], *result["failed"]]
        if name == "faces list"
        else result["report"]["outcomes"]
    )
    assert len(told) == len(NAMES)


def test_json_has_every_name_and_is_plain_ascii(awkward, capsys):
    code, out, _ = dsk(capsys, "tag", "imgs", "--tagger", NAME, "--json")
    assert code == Exit.SOME_FAILED
    assert out.isascii()
    outcomes = json.loads(out)["result"]["report"]["outcomes"]
    assert len(outcomes) == len(NAMES)


def test_a_name_that_becomes_too_long_fails_that_image_only(workdir, capsys, monkeypatch):
    """`.bmp` becomes `.webp`: one byte more than a name can have."""
    monkeypatch.chdir(workdir)
    write_image(workdir / "imgs" / ("x" * 251 + ".bmp"), 1)
    write_image(workdir / "imgs" / "fine.bmp", 2)
    code, _, err = dsk(capsys, "resize", "imgs", "out", "--format", "webp")
    assert code == Exit.SOME_FAILED
    assert "the name is too long" in err
    assert (workdir / "out" / "fine.webp").is_file()


@pytest.mark.parametrize("name", ["resize", *WRITING])
def test_a_name_that_its_number_makes_too_long_fails_that_image_only(
    name, workdir, capsys, monkeypatch
):
    """Of two images of one stem the second gets `_2`: two bytes more than a name can have."""
    monkeypatch.chdir(workdir)
    for n, suffix in enumerate((".bmp", ".png")):
        caption(write_image(workdir / "imgs" / ("x" * 251 + suffix), n), "sks, lips, forest\n")
    caption(write_image(workdir / "imgs" / "fine.png", 2), "sks, lips, forest\n")
    code, _, err = dsk(capsys, *WRITING.get(name, ["resize", "imgs", "out", "--max", "32"]))
    assert code == Exit.SOME_FAILED
    assert "the name is too long" in err
    made = {p.name for p in (workdir / "out").iterdir() if is_image(p)}
    assert made == {"fine.png", "x" * 251 + ".png"}
    assert (workdir / "out" / "fine.txt").is_file()
    assert strays(workdir) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["rename", "imgs", "\x1b[31mred"],
        ["rename", "imgs", "\udcff"],
        ["rename", "imgs", "../up"],
        ["rename", "imgs", "-p"],
        ["rename", "imgs", "CON"],
        ["rename", "\x1b[2Jnowhere", "p"],
        ["tag", "no\nwhere", "--tagger", NAME],
        ["tag", "imgs", "--tagger", "\x1b[31mx"],
        ["tag", "imgs", "--threshold", "\x1b[31m"],
        ["resize", "imgs", "--max", "\x1b[31m"],
        ["rules", "imgs", "--exclude", "@\x1b[31m"],
        ["layout", "3_\x1b[31m=imgs"],
        ["undo", "imgs", "--to", "\x1b[31m"],
        ["tag", "imgs", "--\x1b[31m"],
        ["cutout", "imgs", "--bg", "\x1b[31m"],
        ["cutout", "imgs", "--model", "\x1b[31m"],
        ["cutout", "\x1b[2Jnowhere"],
        ["cutout", "imgs", "imgs"],
        ["faces", "list", "\x1b[2Jnowhere"],
        ["faces", "list", "imgs", "--detector", "\x1b[31m"],
        ["faces", "crop", "imgs", "--size", "\x1b[31m"],
        ["faces", "crop", "no\nwhere"],
        ["faces", "crop", "imgs", "imgs"],
        ["faces", "erase", "imgs", "--fill", "\x1b[31m"],
        ["faces", "erase", "imgs", "imgs/../imgs"],
        ["faces", "\x1b[31m", "imgs"],
        ["[/x]"],
    ],
    ids=lambda a: " ".join(a).encode("unicode_escape").decode(),
)
def test_awkward_arguments_are_refused_with_a_message(arguments, workdir, capsys, monkeypatch):
    monkeypatch.chdir(workdir)
    write_image(workdir / "imgs" / "a.png", 1)
    before = tree(workdir)
    code, out, err = dsk(capsys, *arguments)
    assert code in (Exit.USAGE, Exit.DATASET)
    assert tree(workdir) == before
    assert "error: " in err
    assert out == ""


@pytest.mark.parametrize("tag", ["\x1b[31mred", "a\u202eb", "bad\udcff"])
def test_awkward_tags_never_reach_a_caption_unescaped(tag, workdir, capsys, monkeypatch):
    """A caption must stay UTF-8 text that the next command can read."""
    monkeypatch.chdir(workdir)
    image = write_image(workdir / "imgs" / "a.png", 1)
    image.with_suffix(".txt").write_text("one, two\n", encoding="utf-8")
    run(["rules", "imgs", "--trigger", tag])
    capsys.readouterr()
    image.with_suffix(".txt").read_text(encoding="utf-8")
    code, _, _ = dsk(capsys, "rules", "imgs", "--additional", "three", "--dry-run")
    assert code in (Exit.DONE, Exit.USAGE)
