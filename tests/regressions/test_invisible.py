"""Zero-width and control characters do not make another word of a tag: commands compare tags
without them, `dsk check` names and removes them, no trigger or folder gets one. Emoji and scripts
that need them keep them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datasetkit.captions.caption import normal_form, parse
from datasetkit.captions.invisible import invisible, without_invisible
from tests.cli.conftest import images

HIDDEN = [
    "\u200b", "\u200c", "\u200d", "\u200e", "\u2060", "\xad", "\x00", "\x07", "\x7f", "\x9c",
    "\u202e", "\u2066", "\u034f", "\u3164", "\ufff9", "\U000e0041",
]  # fmt: skip
# Emoji of a family, of a woman with a skin tone, of a heart on fire, of England; Persian, Hindi,
# Sinhala, Mongolian, Thai and Khmer words.
NEEDED = [
    "👨\u200d👩\u200d👧", "👩🏽\u200d🎤", "❤️\u200d🔥", "🏳️\u200d🌈",
    "🏴\U000e0067\U000e0062\U000e007f",
    "می\u200cخواهم", "क्\u200dष", "ශ්\u200dරී", "ᠮ\u180eᠠ", "ภาษา\u200bไทย", "ភាសា\u200bខ្មែរ",
]  # fmt: skip


def captioned(here: Path, *texts: str) -> Path:
    for image, text in zip(images(here / "imgs", len(texts)), texts, strict=True):
        image.with_suffix(".txt").write_bytes(text.encode())
    return here / "imgs"


def texts(folder: Path) -> list[str]:
    return [path.read_bytes().decode() for path in sorted(folder.glob("*.txt"))]


@pytest.mark.parametrize("character", HIDDEN, ids=ascii)
@pytest.mark.parametrize("text", ["sylvie{}", "{}sylvie", "syl{}vie", "{0}syl{0}vie{0}"])
def test_a_tag_with_an_invisible_character_is_the_same_tag(character, text):
    text = text.format(character)
    assert normal_form(text) == "sylvie"
    assert parse(f"{text}, {character}, smile {character}").tags == ("sylvie", "smile")
    assert without_invisible(text) == "sylvie" and len(invisible(text)) == 1


@pytest.mark.parametrize("text", NEEDED, ids=ascii)
def test_emoji_and_scripts_that_need_them_keep_them(text, dsk, here):
    assert without_invisible(text) == text and invisible(text) == ()
    assert parse(f"smile, {text}").tags == ("smile", text)
    folder = captioned(here, f"sks, {text}\n")
    assert dsk("check", "imgs", "--only", "invisible", "--json").result["findings"] == []
    assert dsk("rules", "imgs", "--trigger", text).code == 0
    assert texts(folder) == [f"{text}, sks\n"]


def test_rules_find_such_a_tag_and_touch_no_other(dsk, here):
    folder = captioned(here, "sks, long\u200b hair, blue\u00ad eyes\n", "sks\u200b, smile\n")
    assert dsk("rules", "imgs", "--exclude", "long hair", "--trigger", "sks").code == 0
    assert texts(folder) == ["sks, blue\u00ad eyes\n", "sks\u200b, smile\n"]


def test_check_names_them_and_removes_them(dsk, here):
    folder = captioned(
        here,
        "sks\u200b, 1girl\n",
        "sks, smile\x00, \u200b\n",
        "a girl\u200d sits.\n",
        "sks, solo\n",
    )
    ended = dsk("check", "imgs", "--only", "invisible", "--json")
    assert {finding["reason"] for finding in ended.result["findings"]} == {
        "`sks\\u200b` has U+200B ZERO WIDTH SPACE",
        "`smile\\x00` has U+0000 control character, U+200B ZERO WIDTH SPACE",
        "`a girl\\u200d sits.` has U+200D ZERO WIDTH JOINER",
    }
    assert dsk("check", "imgs", "--only", "invisible", "--fix").code == 0
    assert texts(folder) == ["sks, 1girl\n", "sks, smile, \n", "a girl sits.\n", "sks, solo\n"]
    assert dsk("undo", "imgs").code == 0
    assert texts(folder)[0] == "sks\u200b, 1girl\n"


def test_a_layout_has_none(dsk, here):
    captioned(here, "sks\u200b, می\u200cخواهم\n")
    assert dsk("layout", "2_sks=imgs").code == 0
    assert texts(here / "dataset" / "train" / "2_sks") == ["sks, می\u200cخواهم\n"]
    assert "differs" not in dsk("check", "dataset").out


@pytest.mark.parametrize("character", [c for c in HIDDEN if c != "\x00"], ids=ascii)
def test_no_trigger_and_no_folder_gets_one(character, dsk, here):
    folder = captioned(here, "solo\n")
    name = f"syl{character}vie"
    for command in (
        ("rules", "imgs", "--trigger", name),
        ("rules", "imgs", "--additional", name),
        ("tag", "imgs", "--trigger", name),
        ("layout", f"2_{name}=imgs"),
        ("rename", "imgs", name),
    ):
        ended = dsk(*command)
        assert ended.code == 2 and "hint: " in ended.err, command
    assert texts(folder) == ["solo\n"] and not (here / "dataset").exists()
