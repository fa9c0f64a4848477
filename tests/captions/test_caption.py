"""How caption text becomes tags and back, and when two spellings are one tag."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasetkit.captions.caption import KAOMOJI, dedupe, file_text, normal_form, parse, spell
from datasetkit.core.records import Caption

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    "ab_ ,\n\r\ufeff\\()@^", max_size=30
)


@given(texts)
@example("\\\ufeff\\,")  # without the mark one backslash escapes the other
@settings(max_examples=300, deadline=None)
def test_a_parsed_caption_survives_writing_and_reading(text):
    caption = parse(text)
    assert parse(file_text(caption)) == caption


@given(texts)
@settings(max_examples=300, deadline=None)
def test_no_parsed_tag_has_free_commas_line_breaks_or_outer_spaces(text):
    for tag in parse(text).tags:
        assert tag == tag.strip() != ""
        assert "," not in re.sub(r"\\\s*,|(?<=\d),(?=\d)|\{.*\}", "", tag)
        assert len(tag.splitlines()) == 1


@given(texts)
@settings(max_examples=300, deadline=None)
def test_the_normal_form_of_a_normal_form_is_itself(text):
    assert normal_form(normal_form(text)) == normal_form(text)


@pytest.mark.long
@given(st.lists(texts, max_size=12))
@settings(max_examples=200, deadline=None)
def test_dedupe_keeps_the_first_of_each_tag_in_order(tags):
    kept = dedupe(tags)
    forms = [normal_form(tag) for tag in tags]
    assert [normal_form(tag) for tag in kept] == list(dict.fromkeys(forms))
    assert all(tag == tags[forms.index(normal_form(tag))] for tag in kept)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff1girl, solo, smile\n",
        "1girl,solo,smile",
        "1girl, solo, smile\r\n",
        "1girl\nsolo\nsmile\n",
        "1girl\r\nsolo\r\n\r\nsmile",
        " 1girl ,, solo,\n , smile , ",
        "\ufeff1girl, \ufeffsolo,\tsmile",
    ],
)
def test_every_usual_caption_format_parses_the_same(text):
    assert parse(text) == Caption(("1girl", "solo", "smile"))


def test_a_caption_file_is_one_line_with_a_final_newline_and_no_byte_order_mark():
    assert file_text(parse("\ufeff1girl\nsolo\r\n")) == "1girl, solo\n"


def test_a_sentence_without_commas_is_one_tag():
    assert parse("a photo of  a cat.\n").tags == ("a photo of a cat.",)


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", " , ,\r\n"])
def test_text_without_tags_gives_an_empty_caption(text):
    assert parse(text) == Caption(())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("long_hair", "Long Hair"),
        (" long  hair ", "long hair"),
        (r"fate \(series\)", "fate_(series)"),
        ("caf\u00e9", "cafe\u0301"),
        ("X_X", "x_x"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_spellings_of_one_tag_have_one_normal_form(one, other):
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"), [("^_^", "^ ^"), ("red eyes", "covered eyes"), ("?", "??"), ("=_=", "= =")]
)
def test_different_tags_have_different_normal_forms(one, other):
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize("face", sorted(KAOMOJI))
def test_a_kaomoji_keeps_its_underscore(face):
    assert spell(face) == face
    assert normal_form(face) == face


def test_a_label_is_spelled_with_spaces():
    assert spell("double_\\m/") == "double \\m/"
    assert spell("hatsune_miku_(append)") == "hatsune miku (append)"
