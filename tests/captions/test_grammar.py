"""Where a caption's text has tags, and that a change of tags changes nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions import grammar, tokens
from datasetkit.captions.caption import (
    forms_of,
    laid_out_text,
    lines_of,
    name_in,
    parse,
    with_entries,
    with_source,
    with_tags,
)
from datasetkit.captions.grammar import is_group, is_prose, prompt_syntax, without_weights
from datasetkit.captions.rules import apply_to, build, load_groups
from datasetkit.captions.separators import at_any, other_separator
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError
from datasetkit.core.records import CaptionSyntax
from datasetkit.project.caption_syntax import syntax_of

VOCABULARY = load()
KEEP = CaptionSyntax(keep_tokens_separator="|||")
BOTH = CaptionSyntax(keep_tokens_separator="|||", secondary_separator=";;;")
LINES = CaptionSyntax(enable_wildcard=True)
WEIGHTED = CaptionSyntax(weighted_captions=True)
ALL = CaptionSyntax("|||", ";;;", True, True)
SYNTAXES = [CaptionSyntax(), KEEP, BOTH, LINES, WEIGHTED, ALL]

texts = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.text("ab1 ,\n\r\ufeff\\{}|;().", max_size=40)
    | st.lists(
        st.sampled_from(
            ["a", "solo", "1,000", "{a, b|c}", "(hat:1.2)", "|||", ";;;", ", ", ",", "\n", "\r\n",
             "  ", "\ufeff", "\\,", "a cat.", "sks", "{", "}", "((solo))"]
        ),
        max_size=14,
    ).map("".join)
)  # fmt: skip
syntaxes = st.sampled_from(SYNTAXES)


@given(texts, syntaxes)
@settings(max_examples=80, deadline=None)
def test_tags_and_gaps_give_the_text_back(text, syntax):
    spans = grammar.spans(text, syntax)
    tags = [text[start:end] for start, end in spans]
    gaps = grammar.gaps(text, spans)
    assert "".join(a + b for a, b in zip(gaps, [*tags, ""], strict=True)) == text
    assert all(tags)
    same = [(n, grammar.tag_text(tag)) for n, tag in enumerate(tags)]
    assert grammar.rewrite(text, same, syntax) == text


def caption_of(text, syntax):
    return with_source(parse(text, syntax), text)


def rules(**given_rules):
    return build(vocabulary=VOCABULARY, groups=load_groups(), **given_rules)


NO_MATCH = rules(
    exclude=["no such tag", "zzz*"], replace=["no such=thing"], implies=[("xyz", "zyx")]
)


@given(texts, syntaxes)
@settings(max_examples=80, deadline=None)
def test_rules_that_match_nothing_are_the_identity(text, syntax):
    caption = caption_of(text, syntax)
    result = apply_to(NO_MATCH, caption, category=VOCABULARY.category)
    assert result.caption is caption and result.fired == ()
    assert with_entries(caption, lambda tags: list(enumerate(tags))).source == text


@given(texts, syntaxes)
@settings(max_examples=80, deadline=None)
def test_a_second_run_of_rules_changes_nothing(text, syntax):
    ruled = rules(
        trigger=["sks"], additional=["photo"], exclude=["hat", "b"], replace=["solo=alone"]
    )
    once = apply_to(ruled, caption_of(text, syntax), category=VOCABULARY.category).caption
    read = caption_of(once.source, syntax)
    assert apply_to(ruled, read, category=VOCABULARY.category).caption is read


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a crowd of 1,000 people, at 10,5 km", ("a crowd of 1,000 people", "at 10,5 km")),
        ("1girl,2boys, 3girls,1other", ("1girl", "2boys", "3girls", "1other")),
        ("2023,1girl", ("2023", "1girl")),
        ("2022,2023", ("2022", "2023")),
        (r"red\, white, blue", (r"red\, white", "blue")),
        (r"a\\, b", (r"a\\", "b")),
        ("sylvie, {red dress, solo|blue dress, solo}, hat", None),
        ("{a, {b, c|d}|e}, f", ("{a, {b, c|d}|e}", "f")),
        ("{{a, b}}, c", ("{{a", "b}}", "c")),
        ("{a, b", ("{a", "b")),
        ("a}, {b", ("a}", "{b")),
        ("{}, a", ("{}", "a")),
    ],
)
def test_commas_that_separate(text, tags):
    expected = tags or ("sylvie", "{red dress, solo|blue dress, solo}", "hat")
    assert parse(text).tags == expected


def test_separators_of_the_options_are_boundaries():
    assert parse("sylvie ||| solo;;;hat ||| b", BOTH).tags == ("sylvie", "solo", "hat", "b")
    assert parse("sylvie|||solo", KEEP).tags == ("sylvie", "solo")
    assert parse("sylvie ||| solo, hat").tags == ("sylvie ||| solo", "hat")
    assert parse("a ||| b", KEEP) != parse("a, b", KEEP)
    assert parse("sylvie ||| solo", KEEP).text() == "sylvie ||| solo"


def test_with_wildcards_lines_are_captions_of_their_own():
    caption = parse("a photo of sylvie\r\n\r\nsylvie, 1girl,\n", LINES)
    assert lines_of(caption) == (("a photo of sylvie",), ("sylvie", "1girl"))
    assert caption.text() == "a photo of sylvie\nsylvie, 1girl"
    assert lines_of(parse("a\nb")) == (("a", "b"),)


@pytest.mark.parametrize(
    ("tag", "form"),
    [
        ("(long hair:1.2)", "long hair"),
        ("((solo))", "solo"),
        ("[smile]", "smile"),
        ("[(smile:0.8)]", "smile"),
        (r"sylvie \(mage\)", "sylvie (mage)"),
        ("fate (series)", "fate (series)"),
        ("(o)_(o)", "(o)_(o)"),
    ],
)
def test_tags_are_compared_without_weights(tag, form):
    assert forms_of(parse(tag, WEIGHTED)) == (form,)


def test_brackets_are_part_of_a_tag_without_weights():
    assert forms_of(parse("((solo))")) == ("((solo))",)


def test_a_weight_over_several_tags_is_one_piece():
    caption = parse("(long hair, solo:1.2), hat", WEIGHTED)
    assert caption.tags == ("(long hair, solo:1.2)", "hat")
    assert is_group(caption.tags[0], WEIGHTED) and not is_group("(solo:1.2)", WEIGHTED)


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("(long hair:1.2)", "(long hair:1.2)"),
        ("((solo))", "((solo))"),
        ("[smile]", "[smile]"),
        ("<lora:x:0.8>", "<lora:x:0.8>"),
        ("a BREAK b", "BREAK"),
        ("breaking", ""),
        ("fate (series)", ""),
        (r"\(solo\)", ""),
        (":(", ""),
        ("(o)_(o)", ""),
    ],
)
def test_syntax_of_prompts(tag, found):
    assert prompt_syntax(tag) == found
    if "solo" in tag or "hair" in tag:
        assert prompt_syntax(tag, WEIGHTED) == ""


@pytest.mark.parametrize(
    "text",
    [
        "a cat, and a dog, a cat, and, and a bird.",
        "A photo of sylvie, smiling.",
        "a photo of sylvie woman, wearing a hat",
        "雨の中に立つ少女。",
    ],
)
def test_prose(text):
    assert is_prose(parse(text).tags)


@pytest.mark.parametrize(
    "text", ["1girl, solo, !?", "...", "sks, c.c., solo", "1girl, looking at viewer, solo", ""]
)
def test_tags_are_no_prose(text):
    assert not is_prose(parse(text).tags)


def test_a_name_stands_inside_a_wildcard_or_a_sentence_but_not_inside_a_tag():
    assert name_in("sylvie", parse("{a photo of sylvie|Sylvie, 1girl}, outdoors").tags)
    assert name_in("sylvie woman", parse("a photo of sylvie woman, wearing a hat").tags)
    assert name_in("张娜英", ("a photo of", "雨の中に张娜英立つ。"))
    assert not name_in("sylvie", parse("sylvie dog, hat").tags)
    assert not name_in("syl", parse("a photo of sylvie.").tags)


# ---- rules on captions
# --------------------------------------------------------------------------------------------------

NAME = {"trigger": ["sylvie"]}
ONE = NAME | {"exclude": ["1girl"]}
TWO = NAME | {"exclude": ["smile", "1girl"]}
HAND = NAME | {"additional": ["hand"]}
GIRL = {"exclude": ["1girl"]}
LONG = {"exclude": ["long hair", "solo"]}
FOR_ALL = "a crowd of 1,000 people, at 10,5 km,  a crowd."
PHOTO = "a photo of sylvie smiling\n"


@pytest.mark.parametrize(
    ("text", "syntax", "given_rules", "expected"),
    [
        ("sylvie ||| solo, smile, 1girl\n", KEEP, TWO, "sylvie ||| solo\n"),
        ("sylvie, 1girl ||| smile, solo", KEEP, TWO, "sylvie ||| solo"),
        ("sylvie ||| solo, smile", KEEP, {"exclude": ["syl*"]}, "||| solo, smile"),
        ("a ||| b, c ||| d", KEEP, {"exclude": ["b", "c"]}, "a ||| d"),
        ("a ||| b", KEEP, {"exclude": ["b"]}, "a |||"),
        ("a ||| b", KEEP, {"trigger": ["sks"]}, "sks, a ||| b"),
        ("sks ||| b", KEEP, {"trigger": ["sks"], "additional": ["hand"]}, "sks, hand ||| b"),
        ("||| b", KEEP, {"trigger": ["sks"]}, "sks ||| b"),
        ("b ||| c ||| sks", KEEP, {"trigger": ["sks"]}, "sks, b ||| c |||"),
        ("red dress;;;white apron, solo", BOTH, {"exclude": ["white apron"]}, "red dress, solo"),
        ("a;;;b, c", BOTH, {"exclude": ["a"]}, "b, c"),
        ("{a sylvie|sylvie, 1girl}, 1girl", LINES, ONE, "{a sylvie|sylvie, 1girl}"),
        ("{sylvie|sylvie, 1girl}, hat", LINES, HAND, "{sylvie|sylvie, 1girl}, hand, hat"),
        ("{red dress|dress}, hat", LINES, {"exclude": ["*dress*"]}, "{red dress|dress}, hat"),
        ("{red|blue}, hat", LINES, {"exclude": ["{red|blue}"]}, "hat"),
        (f"{PHOTO}sylvie, 1girl, smile\n", LINES, ONE, f"{PHOTO}sylvie, smile\n"),
        ("solo\r\n1girl, solo\r\n", LINES, {"exclude": ["solo"]}, "1girl\r\n"),
        ("1girl\nsolo", LINES, {"exclude": ["solo"]}, "1girl"),
        ("1girl\nhat", LINES, {"trigger": ["sks"]}, "sks, 1girl\nsks, hat"),
        ("sks, a  b , 1girl ,hat,hat,\r\n", KEEP, GIRL, "sks, a  b , hat,hat,\r\n"),
        ("hat\nsolo\nsmile\n", KEEP, {"exclude": ["solo"]}, "hat\nsmile\n"),
        (FOR_ALL, KEEP, NAME, f"sylvie, {FOR_ALL}"),
        ("a photo of sylvie, smiling.", KEEP, NAME, "a photo of sylvie, smiling."),
        ("\ufeffhat, solo", KEEP, {"trigger": ["sks"]}, "\ufeffsks, hat, solo"),
        ("hat, SKS, solo", KEEP, {"trigger": ["sks"]}, "sks, hat, solo"),
        ("(long hair:1.2), ((solo)), [smile]", WEIGHTED, LONG, "[smile]"),
        ("((sks)), solo", WEIGHTED, {"trigger": ["sks"]}, "((sks)), solo"),
        ("(long hair, solo:1.2), solo", WEIGHTED, {"exclude": ["solo"]}, "(long hair, solo:1.2)"),
        ("x, photo, photo", KEEP, {"replace": ["x=photo"]}, "photo"),
        ("hat, hat, nose", KEEP, {"replace": ["nose=lips"]}, "hat, hat, lips"),
    ],
)  # fmt: skip
def test_a_rule_changes_what_it_matches(text, syntax, given_rules, expected):
    after = apply_to(rules(**given_rules), caption_of(text, syntax), category=VOCABULARY.category)
    assert after.caption.source == expected


def test_a_line_that_is_left_alone_may_be_all_of_a_caption():
    assert (
        apply_to(
            rules(exclude=["solo"]), caption_of("solo\n", LINES), category=VOCABULARY.category
        ).tags
        == ()
    )


@pytest.mark.parametrize("name", ["a\\", "a, b", "{a", "1,2"])
def test_a_tag_that_would_swallow_the_next_is_refused(name):
    if name in ("1,2", "{a"):
        rules(trigger=[name])
    else:
        with pytest.raises(ConfigError):
            rules(trigger=[name])


def test_other_tags_keep_their_text():
    caption = caption_of("a ,b,  c ||| d\r\n", KEEP)
    assert with_tags(caption, lambda _: ["a", "x", "c", "d"]).source == "a ,x,  c ||| d\r\n"


# ---- layouts, tokens, other separators
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "syntax", "expected"),
    [
        ("a ,b", KEEP, "a ,b"),
        ("\ufeffa, b\r\n", KEEP, "a, b\r\n"),
        ("a\nb\n", KEEP, "a, b\n"),
        ("a,\r\nb,", KEEP, "a, b\n"),
        ("a\nb\n", LINES, "a\nb\n"),
        ("\na\n", KEEP, "a\n"),
        (
            "First paragraph, about sylvie.\n\nSecond paragraph, with more.\n",
            KEEP,
            "First paragraph, about sylvie. Second paragraph, with more.\n",
        ),
    ],
)
def test_a_layout_keeps_the_text_of_a_line_and_joins_lines(text, syntax, expected):
    assert laid_out_text(caption_of(text, syntax)) == expected


def test_tokens_are_those_of_the_longest_option_without_weights():
    assert tokens.count_caption(parse("{a|a b c}, d", LINES)) == tokens.count("a b c, d")
    assert tokens.count_caption(parse("a\na b c", LINES)) == 3
    assert tokens.count_caption(parse("(long hair:1.2)", WEIGHTED)) == 2
    assert tokens.count_caption(parse("a ||| b", KEEP)) == tokens.count("a , b")


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("1girl hatsune_miku long_hair looking_at_viewer smile solo", " "),
        ("1girl solo smile", " "),
        ("sylvie，1girl，solo", "，"),
        ("sylvie、1girl", "、"),
        ("sylvie､1girl", "､"),
        ("sylvie، 1girl، solo", "،"),
        ("1girl / solo / smile", " "),
        ("1girl; solo; smile", ";"),
        ("1girl|solo", "|"),
        ("long hair", ""),
        ("a cat sitting on a chair", ""),
        ("a photo of sylvie smiling", ""),
        ("今日は、いい天気", ""),
        (";)", ""),
        ("{1girl|solo}", ""),
    ],
)
def test_other_separators_than_commas(text, separator):
    assert other_separator(parse(text).tags, VOCABULARY) == separator


def test_captions_are_split_at_other_separators():
    def split(text, syntax=KEEP):
        return at_any(caption_of(text, syntax), VOCABULARY).source

    assert split("1girl long_hair ^_^ sylvie\n") == "1girl, long hair, ^_^, sylvie\n"
    assert split("sylvie，1girl、 solo\n") == "sylvie, 1girl, solo\n"
    assert split("1girl / solo - long_hair + x") == "1girl, solo, long hair, x"
    assert split("sylvie، 1girl､solo") == "sylvie, 1girl, solo"
    assert split("sks, 1girl;solo, hat") == "sks, 1girl, solo, hat"
    assert split("a cat sitting on a chair") == "a cat sitting on a chair"


def test_without_weights_is_fast_on_hostile_text():
    hostile = "(" * 20_000 + "a" + ")" * 20_000
    assert without_weights(hostile) == hostile
    assert parse(hostile, ALL).tags and prompt_syntax(hostile) == ""
    assert len(parse("{" * 50_000 + "}" * 50_000, ALL).tags) == 1
    assert parse(" " * 500_000 + ",", ALL).tags == ()


# ---- the dsk.toml in force
# --------------------------------------------------------------------------------------------------


def test_the_syntax_is_that_of_the_nearest_dsk_toml(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert syntax_of(folder) == CaptionSyntax()
    (tmp_path / "dsk.toml").write_text('[train]\nkeep_tokens_separator = "|||"\n')
    assert syntax_of(folder) == KEEP
    (tmp_path / "a" / "dsk.toml").write_text("[train]\nenable_wildcard = true\n")
    assert syntax_of(folder) == LINES


@pytest.mark.parametrize(
    "text",
    ["[train", "train = 1", "[train]\nenable_wildcard = 1", '[train]\nkeep_tokens_separator=","'],
)
def test_a_dsk_toml_that_says_nothing_usable_changes_nothing(text, tmp_path):
    (tmp_path / "dsk.toml").write_text(text)
    assert syntax_of(tmp_path) == CaptionSyntax()
