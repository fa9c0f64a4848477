"""What sd-scripts reads of captions with sentences is what `dsk train` trains."""

import json
from random import Random

import pytest

from datasetkit.captions.caption import parse, with_source
from datasetkit.core.records import CaptionSyntax
from datasetkit.dataset.exports import ImageText, imagefolder_metadata, meta_json, sd_scripts_text
from trainer.data.captions import CaptionSettings, sample

SENTENCE = "A girl in a red scarf smiles, and the wall is blue."
MIXED = CaptionSyntax(kind="mixed", leading=("kitsu",))


def sd_scripts(line, keep_tokens, random):
    """Shuffle as sd-scripts does in `process_caption`: kept ||| shuffled ||| kept."""
    first, free, last = [], line, []
    if "|||" in line:
        fixed, free = line.split("|||", 1)
        if "|||" in free:
            free, suffix = free.split("|||", 1)
            last = [tag.strip() for tag in suffix.split(",") if tag.strip()]
        first = [tag.strip() for tag in fixed.split(",") if tag.strip()]
        tags = [tag.strip() for tag in free.split(",") if tag.strip()]
    else:
        tags = [tag.strip() for tag in free.split(",") if tag.strip()]
        first, tags = tags[:keep_tokens], tags[keep_tokens:]
    random.shuffle(tags)
    return ", ".join(first + tags + last)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"kitsu, 1girl, smile\n{SENTENCE}\n", f"kitsu ||| 1girl, smile ||| {SENTENCE}\n"),
        (f"kitsu, {SENTENCE}\n1girl, smile\n", f"kitsu, {SENTENCE} ||| 1girl, smile\n"),
        (f"{SENTENCE}\n", f"{SENTENCE} |||\n"),
        ("kitsu, 1girl\n", "kitsu ||| 1girl\n"),
    ],
)
def test_the_line_keeps_what_dsk_keeps(text, line):
    caption = with_source(parse(text, MIXED), text)
    assert sd_scripts_text(caption, keep_tokens=1, separator="|||") == line
    options = CaptionSettings(shuffle_caption=True, keep_tokens=1, kind="mixed", leading=("kitsu",))
    ours = {sample(text.strip(), options, 1, Random(n)).replace(". ", "., ") for n in range(20)}
    theirs = {sd_scripts(line.strip(), 1, Random(n)) for n in range(20)}
    assert {text.rstrip() for text in theirs} == ours


def test_without_shuffling_no_separator_is_written():
    text = f"kitsu, 1girl\n{SENTENCE}\n"
    caption = with_source(parse(text, MIXED), text)
    written = sd_scripts_text(caption, keep_tokens=1, separator="")
    assert written == f"kitsu, 1girl, {SENTENCE}\n"


def test_a_separator_of_the_caption_is_used():
    syntax = CaptionSyntax(kind="mixed", keep_tokens_separator="|||")
    text = f"kitsu ||| 1girl, smile ||| last\n{SENTENCE}\n"
    written = sd_scripts_text(
        with_source(parse(text, syntax), text), keep_tokens=0, separator="|||"
    )
    assert written == f"kitsu ||| 1girl, smile ||| last, {SENTENCE}\n"


def test_lines_that_are_captions_of_their_own_stay_lines():
    syntax = CaptionSyntax(kind="mixed", enable_wildcard=True)
    text = f"kitsu, 1girl\nkitsu, {SENTENCE}\n"
    written = sd_scripts_text(
        with_source(parse(text, syntax), text), keep_tokens=1, separator="|||"
    )
    assert written == f"kitsu ||| 1girl\nkitsu, {SENTENCE} |||\n"


def test_metadata_files_have_the_text_of_all_lines(tmp_path):
    items = [
        ImageText(tmp_path / "a.png", parse(f"kitsu, 1girl\n{SENTENCE}", MIXED)),
        ImageText(tmp_path / "b.png", parse(f"kitsu, {SENTENCE}", CaptionSyntax(kind="sentence"))),
    ]
    lines = imagefolder_metadata(items, tmp_path).splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert texts == [f"kitsu, 1girl, {SENTENCE}", f"kitsu, {SENTENCE}"]
    assert json.loads(meta_json(items, tmp_path)) == {
        "a": {"tags": "kitsu, 1girl", "caption": SENTENCE},
        "b": {"caption": f"kitsu, {SENTENCE}"},
    }
