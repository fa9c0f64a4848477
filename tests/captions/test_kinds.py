"""Captions that are sentences, or tags and sentences: a sentence is one piece, and stays whole."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasetkit.captions import tokens
from datasetkit.captions.caption import (
    caption_lines,
    file_text,
    laid_out_text,
    lines_of,
    names,
    one_line,
    parse,
    with_entries,
    with_sentence,
    with_source,
    with_tags_beside,
)
from datasetkit.captions.grammar import tag_text
from datasetkit.captions.rules import apply_to, build, load_groups
from datasetkit.captions.typography import with_plain_letters
from datasetkit.captions.vocabulary import load
from datasetkit.core.records import CaptionSyntax
from datasetkit.project.caption_syntax import syntax_of
from trainer.data.captions import CaptionSettings, longest, sample

VOCABULARY = load()
SENTENCE = CaptionSyntax(kind="sentence", leading=("kitsu",))
MIXED = CaptionSyntax(kind="mixed", leading=("kitsu",))
CLAUSES = (
    "A girl in a red scarf stands before a wall, smiling, and the wall is blue. "
    "She is, as ever, smiling."
)


def read(text, syntax):
    return with_source(parse(text, syntax), text)


def rules(**given_rules):
    return build(vocabulary=VOCABULARY, groups=load_groups(), **given_rules)


def ruled(caption, **given_rules):
    return apply_to(rules(**given_rules), caption, category=VOCABULARY.category).caption


@pytest.mark.parametrize(
    ("text", "syntax", "tags", "sentences"),
    [
        (CLAUSES, SENTENCE, (), (CLAUSES,)),
        (f"kitsu, {CLAUSES}\n", SENTENCE, ("kitsu",), (CLAUSES,)),
        (f"Kitsu , {CLAUSES}", SENTENCE, ("Kitsu",), (CLAUSES,)),
        ("kitsune, she smiles.", SENTENCE, (), ("kitsune, she smiles.",)),
        ("kitsu\n", SENTENCE, ("kitsu",), ()),
        ("kitsu, \n", SENTENCE, ("kitsu",), ()),
        ("", SENTENCE, (), ()),
        ("\ufeffA cat, asleep\r\nA dog, up\r\n", SENTENCE, (), ("A cat, asleep", "A dog, up")),
        (f"kitsu, 1girl, smile\n{CLAUSES}\n", MIXED, ("kitsu", "1girl", "smile"), (CLAUSES,)),
        (f"{CLAUSES}\nkitsu, 1girl\n", MIXED, ("kitsu", "1girl"), (CLAUSES,)),
        (f"kitsu, {CLAUSES}\n1girl, smile\n", MIXED, ("kitsu", "1girl", "smile"), (CLAUSES,)),
        ("kitsu, 1girl\na girl, with hat\n", MIXED, ("kitsu", "1girl"), ("a girl, with hat",)),
        ("1girl, solo\n", MIXED, ("1girl", "solo"), ()),
        (f"{CLAUSES}\n", MIXED, (), (CLAUSES,)),
        ("1girl\n\n猫がいる、窓の前に。\n", MIXED, ("1girl",), ("猫がいる、窓の前に。",)),
    ],
)  # fmt: skip
def test_tags_and_sentences_of_a_text(text, syntax, tags, sentences):
    caption = parse(text, syntax)
    assert (caption.tags, caption.sentences) == (tags, sentences)
    assert caption.is_empty == (not tags and not sentences)
    assert parse(caption.text(), syntax) == caption


def test_a_rule_that_matches_nothing_does_not_touch_a_sentence():
    text = f"kitsu, {CLAUSES}, 1girl\n"
    for syntax in (SENTENCE, MIXED, CaptionSyntax()):
        caption = read(text, syntax)
        assert ruled(caption, exclude=["smile"]) is caption


def test_rules_do_not_reach_into_a_sentence():
    caption = read(f"kitsu, smiling, 1girl\n{CLAUSES}\n", MIXED)
    after = ruled(caption, exclude=["1girl"], replace=["smiling=grinning"])
    assert after.source == f"kitsu, grinning\n{CLAUSES}\n"
    caption = read(CLAUSES, SENTENCE)
    assert ruled(caption, exclude=["*smil*", "@face"], replace=["smiling=grinning"]) is caption


@pytest.mark.parametrize(
    ("text", "syntax", "after"),
    [
        (CLAUSES, SENTENCE, f"kitsu, {CLAUSES}"),
        (f"kitsu, {CLAUSES}", SENTENCE, f"kitsu, {CLAUSES}"),
        ("A photo of kitsu, smiling.", SENTENCE, "A photo of kitsu, smiling."),
        (f"1girl\n{CLAUSES}\n", MIXED, f"kitsu, 1girl\n{CLAUSES}\n"),
        ("1girl\nA photo of kitsu, smiling.", MIXED, "kitsu, 1girl\nA photo of kitsu, smiling."),
        (f"{CLAUSES}\n", MIXED, f"kitsu, {CLAUSES}\n"),
        (f"{CLAUSES}\n1girl\n", MIXED, f"kitsu, {CLAUSES}\n1girl\n"),
        (
            f"1girl\n{CLAUSES}\n",
            replace(MIXED, enable_wildcard=True),
            f"kitsu, 1girl\nkitsu, {CLAUSES}\n",
        ),
    ],
)
def test_the_trigger_comes_first_once(text, syntax, after):
    once = ruled(read(text, syntax), trigger=["kitsu"])
    assert once.source == after
    again = read(once.source, syntax)
    assert ruled(again, trigger=["kitsu"]) is again


def test_an_undeclared_trigger_and_additional_tags_are_written_once():
    syntax = CaptionSyntax(kind="sentence")
    once = ruled(read(CLAUSES, syntax), trigger=["sks"], additional=["photo"])
    assert once.source == f"sks, photo, {CLAUSES}"
    again = read(once.source, syntax)
    assert ruled(again, trigger=["sks"], additional=["photo"]) is again


def test_a_declared_trigger_can_be_renamed_and_removed():
    caption = read(f"kitsu, {CLAUSES}\n", SENTENCE)
    assert ruled(caption, replace=["kitsu=sks"]).source == f"sks, {CLAUSES}\n"
    assert ruled(caption, exclude=["kitsu"]).source == f"{CLAUSES}\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_a_line_whose_tags_are_all_removed_goes(ending):
    text = f"smile, solo\n{CLAUSES}{ending}"
    after = ruled(read(text, MIXED), exclude=["smile", "solo"])
    assert after.source == f"{CLAUSES}{ending}"
    text = f"{CLAUSES}\nsmile, solo{ending}"
    after = ruled(read(text, MIXED), exclude=["smile", "solo"])
    assert after.source == f"{CLAUSES}{ending}"


def test_names_are_looked_for_in_sentences():
    assert names(parse("A photo of kitsu.", SENTENCE), "Kitsu")
    assert not names(parse("A photo of kitsune.", SENTENCE), "kitsu")
    assert names(parse(f"1girl\n{CLAUSES}", MIXED), "red scarf")


def test_lines_that_are_separate_captions():
    caption = parse(f"kitsu, 1girl\nkitsu, {CLAUSES}", replace(MIXED, enable_wildcard=True))
    assert lines_of(caption) == (("kitsu", "1girl"), ("kitsu",))
    assert caption_lines(caption)[1] == (("kitsu",), (CLAUSES,), True)


def test_a_sentence_is_written_behind_tags_or_before_them():
    tags = read("kitsu, 1girl\n", MIXED)
    assert with_sentence(tags, "A girl,\nasleep").source == "kitsu, 1girl\nA girl, asleep.\n"
    first = with_sentence(tags, "A girl, asleep", first=True)
    assert first.source == "A girl, asleep.\nkitsu, 1girl\n"
    assert first.sentences == ("A girl, asleep.",) and first.tags == tags.tags
    behind = with_sentence(tags, "A girl", first=True, words=("Kitsu", "fox"))
    assert behind.source == "Kitsu, fox, A girl.\n1girl\n"
    only = read("kitsu\na line without a full stop\n", MIXED)
    assert with_sentence(only, "Girl.", first=True, words=("kitsu",)).source == "kitsu, Girl.\n"
    replaced = with_sentence(first, "Another.")
    assert replaced.source == "kitsu, 1girl\nAnother.\n"
    new = with_sentence(parse("", SENTENCE), "A girl, asleep")
    assert new.source == "A girl, asleep\n"
    assert with_sentence(read("kitsu, A.\n", SENTENCE), "B, c.").source == "kitsu, B, c.\n"
    lines = read("kitsu, 1girl\nkitsu, A girl.\n", replace(MIXED, enable_wildcard=True))
    assert with_sentence(lines, "Fox.").source == "kitsu, 1girl\nFox.\n"
    with pytest.raises(ValueError, match="tags"):
        with_sentence(parse("a"), "A girl.")


def test_new_tags_leave_the_sentences():
    for before, after in [
        (f"a, b\n{CLAUSES}\n", f"kitsu, 1girl\n{CLAUSES}\n"),
        (f"{CLAUSES}\na\nb\n", f"{CLAUSES}\nkitsu, 1girl\n"),
        (f"kitsu, {CLAUSES}\n", f"kitsu, 1girl\n{CLAUSES}\n"),
    ]:
        assert with_tags_beside(read(before, MIXED), ("kitsu", "1girl")).source == after


def test_plain_letters_are_written_into_sentences():
    caption = read("1girl\nShe’s “happy”, and smiles.\n", MIXED)
    assert with_plain_letters(caption).source == '1girl\nShe\'s "happy", and smiles.\n'


def test_layouts_keep_the_lines_of_mixed_captions():
    mixed = read(f"kitsu\n{CLAUSES}\n", MIXED)
    assert laid_out_text(mixed) == mixed.source
    assert laid_out_text(read("A cat.\nA dog.\n", SENTENCE)) == "A cat. A dog.\n"
    assert one_line(mixed) == f"kitsu, {CLAUSES}"
    assert tokens.count_caption(mixed) == tokens.count(f"kitsu, {CLAUSES}")


CONFIG = """
[tag]
trigger = ["shared"]
[dataset]
captions = "mixed"
[run]
work = "out"
[[concept]]
name = "fox"
folder = "raw/fox"
trigger = ["kitsu"]
captions = "sentence"
[[concept]]
folder = "raw/cat"
captions = "tags"
[[concept]]
folder = "raw/dog"
trigger = ["rex"]
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("raw/fox", "sentence"),
        ("raw/fox/below", "sentence"),
        ("out/fox", "sentence"),
        ("out/.resize/fox", "sentence"),
        ("dataset/train/10_fox", "sentence"),
        ("raw/cat", "tags"),
        ("dataset/train/2_cat", "tags"),
        ("raw/dog", "mixed"),
        ("out/rex", "mixed"),
        ("other", "mixed"),
        ("dataset/reg/1_girl", "mixed"),
    ],
)
def test_the_kind_of_a_folder(tmp_path, folder, kind):
    (tmp_path / "dsk.toml").write_text(CONFIG)
    (tmp_path / folder).mkdir(parents=True)
    syntax = syntax_of(tmp_path / folder)
    assert syntax.kind == kind
    if kind == "sentence":
        assert syntax.leading == ("kitsu", "shared")


# ---- training

KINDS = {"sentence": SENTENCE, "mixed": MIXED}


def options(kind, **more):
    return CaptionSettings(kind=kind, leading=("kitsu",), **more)


def draws(text, chosen, count=30):
    return {sample(text, chosen, 1, Random(seed)) for seed in range(count)}


def test_training_leaves_a_sentence_whole():
    shaken = {"shuffle_caption": True, "caption_tag_dropout_rate": 0.5, "keep_tokens": 1}
    assert draws(f"kitsu, {CLAUSES}", options("sentence", **shaken)) == {f"kitsu, {CLAUSES}"}
    texts = draws(f"kitsu, a, b, c\n{CLAUSES}", options("mixed", **shaken))
    assert len(texts) > 5
    for text in texts:
        tags = text.removesuffix(f", {CLAUSES}").split(", ")
        assert tags[0] == "kitsu" and set(tags[1:]) <= set("abc") and text.endswith(f", {CLAUSES}")


def test_kept_tags_are_counted_from_the_words_before_a_sentence():
    texts = draws(
        f"kitsu, {CLAUSES}\na, b, c", options("mixed", shuffle_caption=True, keep_tokens=2)
    )
    assert {text.removeprefix(f"kitsu, {CLAUSES} ") for text in texts} == {"a, b, c", "a, c, b"}


def test_caption_dropout_and_affixes():
    assert draws(CLAUSES, options("sentence", caption_dropout_rate=1.0)) == {""}
    around = options("mixed", caption_prefix="photo of", caption_suffix="end")
    assert draws("kitsu, a\nA cat.", around) == {"photo of kitsu, a, A cat. end"}
    assert longest("kitsu, a\nA cat.", around, len) == "photo of kitsu, a, A cat. end"


def test_one_line_at_random():
    lines = options("mixed", enable_wildcard=True, shuffle_caption=True)
    texts = draws(f"a, b\n{CLAUSES}", lines)
    assert texts == {"a, b", "b, a", CLAUSES}
    assert longest(f"a, b\n{CLAUSES}", lines, len) == CLAUSES
    assert draws("A {red|blue} cat, asleep.", options("sentence", enable_wildcard=True)) == {
        "A red cat, asleep.",
        "A blue cat, asleep.",
    }


# ---- whatever the text

texts = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.text("ab1 ,.\n\r\ufeff\\{}|;()", max_size=40)
    | st.lists(
        st.sampled_from(
            ["kitsu", "1girl", "solo", "smiling", ", ", ",", "\n", "\r\n", " ", "\ufeff",
             "A cat, asleep.", "She is, as ever, smiling.", "a girl, with a scarf", "|||",
             "{a, b|c}", "(hat:1.2)", "。"]
        ),
        max_size=14,
    ).map("".join)
)  # fmt: skip
syntaxes = st.sampled_from(
    [
        replace(kind, enable_wildcard=lines, weighted_captions=weights, keep_tokens_separator=keep)
        for kind in KINDS.values()
        for lines in (False, True)
        for weights in (False, True)
        for keep in ("", "|||")
    ]
)
NO_MATCH = rules(
    exclude=["no such tag", "zzqx*"], replace=["no such=thing"], implies=[("xyz", "zyx")]
)


@given(texts, syntaxes)
@settings(max_examples=150, deadline=None)
def test_what_no_rule_matches_is_not_touched(text, syntax):
    caption = read(text, syntax)
    result = apply_to(NO_MATCH, caption, category=VOCABULARY.category)
    assert result.caption is caption and result.fired == ()
    assert with_entries(caption, lambda tags: list(enumerate(tags))).source == text
    if not syntax.keep_tokens_separator:
        assert parse(caption.text(), syntax) == caption


@pytest.mark.parametrize(
    ("text", "given_rules", "changed"),
    [
        ("solo, robert jr., smiling\nA boy", {"exclude": ["smiling"]}, "robert jr., solo\nA boy"),
        ("00.,KITSU\nKITSU", {"trigger": ["kitsu"]}, "00., kitsu\nKITSU"),
        ("robert jr., smiling\nA boy.", {"exclude": ["smiling"]}, "robert jr.\nA boy."),
        ("solo\nA boy.", {"replace": ["solo=only jr."]}, "only jr.\nA boy."),
    ],
)
def test_a_line_of_tags_does_not_become_a_sentence(text, given_rules, changed):
    """A tag that ends with a full stop is not the last one of its line, where another can be."""
    caption = read(text, CaptionSyntax(kind="mixed", leading=("kitsu",)))
    after = ruled(caption, **given_rules)
    assert after.source == changed
    if "," in changed:
        assert read(changed, caption.syntax).sentences == caption.sentences
    assert ruled(read(changed, caption.syntax), **given_rules).source == changed


@given(texts, syntaxes)
@example("00.,KITSU\rKITSU", replace(MIXED, leading=("kitsu",)))
@settings(max_examples=150, deadline=None)
def test_rules_run_twice_change_nothing_and_keep_every_sentence(text, syntax):
    ruled_by = rules(trigger=["kitsu"], exclude=["smiling", "b"], replace=["solo=alone"])
    caption = read(text, syntax)
    once = apply_to(ruled_by, caption, category=VOCABULARY.category).caption
    again = read(once.source, syntax)
    assert apply_to(ruled_by, again, category=VOCABULARY.category).caption is again
    for sentence in caption.sentences:
        assert sentence in parse(file_text(once), CaptionSyntax(kind="sentence")).text()


@given(texts, st.sampled_from(["sentence", "mixed"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_training_trains_every_sentence(text, kind, lines):
    chosen = options(kind, shuffle_caption=True, enable_wildcard=lines)
    syntax = chosen.syntax
    trained = draws(text, chosen, 8)
    for caption in trained if not lines else ():
        for sentence in parse(text, syntax).sentences:
            assert tag_text(sentence.strip(" ,")) in tag_text(caption)
