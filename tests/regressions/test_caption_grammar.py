"""Captions with wildcards, lines, separators, weights, numbers and sentences, through the commands:
what no rule matches is left byte for byte, and nothing is read as a tag that is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.checks.sd_scripts import read_caption
from datasetkit.core.errors import Exit
from tests.checks.folders import write_image

WILDCARD = "enable_wildcard = true"
KEEP = 'keep_tokens_separator = "|||"'
BOTH = f'{KEEP}\nsecondary_separator = ";;;"'
WEIGHTED = "weighted_captions = true"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that makes a folder `p` of images with captions, and its dsk.toml."""
    monkeypatch.chdir(tmp_path)

    def make(*captions: bytes | str, train: str = "") -> Path:
        if train:
            Path("dsk.toml").write_text(f"[train]\n{train}\n", encoding="utf-8")
        for n, caption in enumerate(captions):
            write_image(Path("p") / f"{n}.png", n + 1, (64, 64))
            data = caption.encode() if isinstance(caption, str) else caption
            (Path("p") / f"{n}.txt").write_bytes(data)
        return Path("p")

    return make


def texts(folder: Path) -> list[str]:
    return [path.read_bytes().decode() for path in sorted(folder.glob("*.txt"))]


def found(folder: Path, *only: str, **options) -> dict[str, str]:
    result = api.check(folder, api.CheckOptions(only=only, **options))
    return {finding.path.name: finding.reason for finding in result.findings}


def fix(folder: Path, trigger: str) -> None:
    captions = ("bom", "lines", "separator", "tag-twice", "trigger-first", "trigger-twice")
    api.check(folder, api.CheckOptions(trigger=(trigger,), only=captions), fix=True)


KINDS = (
    "a crowd of 1,000 people, at 10,5 km, \"Hello, world\" on a sign",
    "a cat, and a dog, a cat, and, and a bird.\n",
    "solo, solo,  smile ,,hat\r\n",
    "one\r\n\r\ntwo\r\n",
    "\ufeffhat\n",
    "sylvie, {red dress, solo, smile|blue dress, solo, frown}",
    "a ||| b;;;c\n",
    r"red\, white, \(mage\)",
    "((solo)), [smile], <lora:x:0.8> BREAK",
    "  hat  \n\n",
)  # fmt: skip


@pytest.mark.parametrize("train", ["", WILDCARD, BOTH, WEIGHTED])
def test_rules_that_match_nothing_touch_no_file(train, folder):
    images = folder(*KINDS, train=train)
    before = texts(images)
    options = api.RulesOptions(
        exclude=("nothing like this", "zzz*"), replace=("no such=tag",), implies="none"
    )
    result = api.rules(images, options)
    assert result.changes == () and result.entry is None and texts(images) == before


@pytest.mark.parametrize("train", ["", WILDCARD, BOTH, WEIGHTED])
def test_the_second_run_of_rules_does_nothing(train, folder):
    images = folder(*KINDS, train=train)
    options = api.RulesOptions(trigger=("sks",), exclude=("smile", "b"), replace=("hat=cap",))
    assert api.rules(images, options).changes
    assert api.rules(images, options).changes == ()


def test_wildcards_are_left_alone(folder):
    alternatives = "sylvie, {red dress, solo, smile|blue dress, solo, frown}\n"
    sentence = "{a photo of sylvie, smiling|sylvie, 1girl, smile}, outdoors\n"
    images = folder(alternatives, sentence, train=WILDCARD)
    fix(images, "sylvie")
    api.rules(images, api.RulesOptions(trigger=("sylvie",), exclude=("1girl", "sol*")))
    assert texts(images) == [alternatives, sentence]
    assert found(images, "trigger-missing", "trigger-first", "tag-twice", "unknown") == {}


def test_with_wildcards_lines_stay_lines(folder):
    text = "a photo of sylvie smiling\nsylvie, 1girl, smile\n"
    images = folder(text, train=WILDCARD)
    assert found(images, "lines", "tag-twice", "trigger-missing", trigger=("sylvie",)) == {}
    fix(images, "sylvie")
    api.rules(images, api.RulesOptions(trigger=("sylvie",), exclude=("1girl",)))
    assert texts(images) == ["a photo of sylvie smiling\nsylvie, smile\n"]
    result = api.layout([f"2_sylvie={images}"], api.LayoutOptions(out="d"))
    assert texts(Path("d/train/2_sylvie")) == ["a photo of sylvie smiling\nsylvie, smile\n"]
    assert result.joined_lines == ()


def test_sd_scripts_reads_all_lines_with_wildcards(folder, dsk):
    images = folder("one\n\ntwo\n", train=WILDCARD)
    assert read_caption(images / "0.png", "", enable_wildcard=True).text == "one\ntwo"
    assert read_caption(images / "0.png", "").text == "one"
    ended = dsk("check", images, "--as", "sd-scripts")
    assert ended.code == 0 and "one" in ended.out and "two" in ended.out


def test_without_wildcards_a_layout_says_how_many_captions_had_lines(folder, dsk):
    folder("sylvie, 1girl\nsmile\n", "sylvie\n\n", "sylvie\r\nhat")
    ended = dsk("layout", "2_sylvie=p", "--out", "d")
    assert ended.code == 0
    assert "2 captions had several lines (0.png, 2.png), now one" in " ".join(ended.err.split())
    assert texts(Path("d/train/2_sylvie")) == [
        "sylvie, 1girl, smile\n",
        "sylvie\n\n",
        "sylvie, hat\n",
    ]


def test_separators_are_boundaries(folder):
    images = folder(
        "sylvie ||| solo, smile, 1girl\n",
        "sylvie, 1girl ||| smile, solo\n",
        "sylvie ||| smile;;;hat, solo\n",
        train=BOTH,
    )
    api.rules(images, api.RulesOptions(trigger=("sylvie",), exclude=("smile", "1girl", "syl*")))
    assert texts(images) == ["sylvie ||| solo\n", "sylvie ||| solo\n", "sylvie ||| hat, solo\n"]
    assert found(images, "trigger-missing", "trigger-first", trigger=("sylvie",)) == {}


def test_without_the_option_a_separator_is_text(folder):
    images = folder("sylvie ||| solo, smile\n")
    result = api.rules(images, api.RulesOptions(exclude=("solo",)))
    assert result.changes == ()


def test_weighted_tags_are_found_without_their_weights(folder):
    text = "(long hair:1.2), ((solo)), [smile]\n"
    images = folder(text, train=WEIGHTED)
    assert found(images, "prompt-syntax", "unknown") == {}
    api.rules(images, api.RulesOptions(exclude=("long hair", "solo")))
    assert texts(images) == ["[smile]\n"]


def test_a_replaced_tag_keeps_its_weight(folder):
    images = folder("sylvie, (smile:1.2), [[frown]], solo\n", train=WEIGHTED)
    api.rules(images, api.RulesOptions(replace=("smile=grin", "frown=scowl", "solo=1girl")))
    assert texts(images) == ["sylvie, (grin:1.2), [[scowl]], 1girl\n"]


def test_without_weights_check_finds_the_syntax_of_prompts(folder):
    images = folder(
        "(long hair:1.2), ((solo)), [smile], <lora:x:0.8>, a BREAK b\n", "fate (series)"
    )
    assert found(images, "prompt-syntax") == {
        "0.png": "has `(long hair:1.2)`, `((solo))`, `[smile]`, `<lora:x:0.8>`, `BREAK`"
    }


def test_a_sentence_is_neither_deduped_nor_split_at_numbers(folder):
    sentences = (
        "a crowd of 1,000 people, at 10,5 km, \"Hello, world\" on a sign",
        "a cat, and a dog, a cat, and, and a bird.",
        "a photo of sylvie woman, wearing a hat",
    )  # fmt: skip
    images = folder(*sentences)
    assert found(images, "tag-twice", "trigger-missing", trigger=("sylvie woman",)).keys() == {
        "0.png",
        "1.png",
    }
    api.rules(images, api.RulesOptions(trigger=("sylvie woman",)))
    assert texts(images) == [
        f"sylvie woman, {sentences[0]}",
        f"sylvie woman, {sentences[1]}",
        sentences[2],
    ]
    fix(images, "sylvie woman")
    assert texts(images)[1] == f"sylvie woman, {sentences[1]}"


@pytest.mark.parametrize("mode", ["append", "prepend"])
def test_tags_are_joined_with_a_caption_without_rewriting_it(mode, folder, toy_tagger, dsk):
    text = "my  own tag ,{a, b|c}, 1,000 things\n"
    images = folder(text)
    assert dsk("tag", images, "--trigger", "sks", "--existing", mode).code == 0
    (after,) = texts(images)
    assert text.strip() in after and after.startswith("sks, ")


# ---- other separators
# --------------------------------------------------------------------------------------------------


def test_wide_commas_are_fixed(folder):
    images = folder("sylvie，1girl，solo\n", "sylvie、smile、hat", "sylvie, hat")
    assert found(images, "separator").keys() == {"0.png", "1.png"}
    result = api.check(images, api.CheckOptions(only=("separator",)), fix=True)
    assert result.unfixed == 0
    assert texts(images) == ["sylvie, 1girl, solo\n", "sylvie, smile, hat", "sylvie, hat"]
    assert found(images, "separator") == {}


def test_tags_between_spaces_are_found_and_the_offered_command_splits_them(folder, dsk):
    images = folder("1girl hatsune_miku long_hair looking_at_viewer smile solo\n")
    assert api.check(images, api.CheckOptions(only=("separator",)), fix=True).unfixed == 1
    ended = dsk("check", images, "--only", "separator")
    assert "dsk rules p --split" in " ".join(ended.out.split())
    assert dsk("rules", images, "--split").code == Exit.DONE
    assert texts(images) == ["1girl, hatsune miku, long hair, looking at viewer, smile, solo\n"]
    assert found(images, "separator", "underscores") == {}


def test_underscores_are_found_and_the_offered_command_removes_them(folder, dsk):
    images = folder("my_own, long_hair,  ^_^\n")
    assert found(images, "underscores") == {"0.png": "has `long_hair`"}
    assert dsk("rules", images, "--underscores-to-spaces").code == Exit.DONE
    assert texts(images) == ["my_own, long hair,  ^_^\n"]
    assert found(images, "underscores") == {}


@pytest.mark.parametrize("comma", ["，", "、", ", "])
def test_options_split_at_commas_of_any_script(comma, folder, dsk):
    images = folder("hat, solo, smile\n")
    assert dsk("rules", images, "--exclude", f"solo{comma}smile").code == Exit.DONE
    assert texts(images) == ["hat\n"]


def test_a_wildcard_on_the_command_line_is_one_piece(folder, dsk):
    images = folder("hat, {a, b|c}, smile\n")
    assert dsk("rules", images, "--exclude", "{a, b|c},smile").code == Exit.DONE
    assert texts(images) == ["hat\n"]
