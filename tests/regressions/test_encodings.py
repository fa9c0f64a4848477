"""Captions that are not UTF-8: named with a command that converts them, which loses nothing."""

from __future__ import annotations

import codecs

import pytest

from tests.cli.conftest import write_image

TEXT = "sks, caf\u00e9, smile"
MARKED = {
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-be": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "utf-32-be": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
}
NAMED = {
    "cp1252": TEXT.encode("cp1252"),
    "gbk": "sks, \u5fae\u4fe1".encode("gbk"),
    "shift_jis": "sks, \u30c6\u30b9\u30c8".encode("shift_jis"),
    "utf-16-le": TEXT.encode("utf-16-le"),  # without a mark, and so full of null characters
}
EVERY = MARKED | NAMED
SOME = ("utf-16", "cp1252", "utf-16-le")


def dataset(folder, data, name="1.txt"):
    write_image(folder / "1.png", 1)
    write_image(folder / "2.png", 2)
    (folder / name).write_bytes(data)
    (folder / "2.txt").write_text("sks, plain\n", encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["1.txt", "1.caption"])
@pytest.mark.parametrize("encoding", MARKED)
def test_fix_converts_a_caption_with_a_byte_order_mark(encoding, name, here, dsk):
    path = dataset(here / "p", EVERY[encoding], name)
    checks = ("--only", "caption-unreadable,caption-name")
    assert "fixed" in dsk("check", "p", "--fix", *checks).out
    assert (here / "p" / "1.txt").read_text(encoding="utf-8") == TEXT
    assert "0 findings" in dsk("check", "p", *checks).out
    dsk("undo", "p")
    assert path.read_bytes() == EVERY[encoding]


@pytest.mark.long
@pytest.mark.parametrize("encoding", NAMED)
def test_fix_converts_the_encoding_that_is_given(encoding, here, dsk):
    path = dataset(here / "p", EVERY[encoding])
    dsk("check", "p", "--fix")
    assert path.read_bytes() == EVERY[encoding], "without --encoding it is not guessed"
    dsk("check", "p", "--fix", "--encoding", encoding)
    assert path.read_text(encoding="utf-8") == EVERY[encoding].decode(encoding)
    dsk("undo", "p")
    assert path.read_bytes() == EVERY[encoding]


def test_no_command_is_named_for_a_text_that_is_cut_off(here, dsk):
    path = dataset(here / "p", EVERY["utf-16"][:-1])
    result = dsk("rules", "p", "--exclude", "plain")
    assert "1.txt is UTF-16 text, not UTF-8 (it is damaged: save it again as UTF-8)" in result.err
    checked = dsk("check", "p", "--fix", "--only", "caption-unreadable")
    assert "it is damaged: save it again as UTF-8" in checked.out
    assert path.read_bytes() == EVERY["utf-16"][:-1]


def test_a_wrong_encoding_converts_nothing(here, dsk):
    path = dataset(here / "p", b"sks, caf\xe9 \x81")  # 0x81 has no meaning in cp1252
    assert "fixed" not in dsk("check", "p", "--fix", "--encoding", "cp1252").out
    assert path.read_bytes() == b"sks, caf\xe9 \x81"


@pytest.mark.parametrize("name", ["nonsense", "rot13", "base64", "hex", "a\0b", "../x"])
def test_what_is_no_text_encoding_is_refused(name, here, dsk):
    dataset(here / "p", EVERY["utf-16"])
    result = dsk("check", "p", "--fix", "--encoding", name)
    assert result.code == 2 and "text encoding" in result.err


@pytest.mark.parametrize("encoding", SOME)
def test_tag_scores_the_image_and_overwrites_only_on_request(
    encoding,
    here,
    dsk,
    toy_tagger,
):
    path = dataset(here / "p", EVERY[encoding])
    result = dsk("tag", "p", "--existing", "append")
    assert result.code == 3 and "2 of 2 images needed inference" in " ".join(result.out.split())
    assert path.read_bytes() == EVERY[encoding]
    again = dsk("tag", "p", "--existing", "overwrite")
    assert again.code == 0 and "0 of 2 images needed" in " ".join(again.out.split())
    assert path.read_text(encoding="utf-8").startswith("1girl, solo")
    dsk("undo", "p")
    assert path.read_bytes() == EVERY[encoding]


@pytest.mark.long
@pytest.mark.parametrize("command", [["layout", "x=p"], ["rules", "p", "--exclude", "a"]])
@pytest.mark.parametrize("encoding", SOME)
def test_what_is_left_out_is_named_with_a_command_that_works(
    encoding,
    command,
    here,
    dsk,
):
    dataset(here / "p", EVERY[encoding])
    result = dsk(*command)
    shown = " ".join(result.err.split())
    fix = "dsk check p --fix" + ("" if encoding in MARKED else " --encoding NAME")
    assert result.code == 3 and "1.png" in shown and f"({fix} converts it to UTF-8)" in shown
    dsk(*fix.replace("NAME", encoding).split()[1:])
    assert dsk(*command).code == 0


@pytest.mark.parametrize("encoding", SOME)
def test_import_overwrites_a_caption_that_is_not_utf_8(encoding, here, dsk):
    path = dataset(here / "p", EVERY[encoding])
    (here / "p" / "1.png.txt").write_text("cat\n", encoding="utf-8")
    assert dsk("import", "p").code == 3 and path.read_bytes() == EVERY[encoding]
    assert dsk("import", "p", "--existing", "overwrite").code == 0
    assert path.read_text(encoding="utf-8") == "cat\n"
    dsk("undo", "p")
    assert path.read_bytes() == EVERY[encoding]
