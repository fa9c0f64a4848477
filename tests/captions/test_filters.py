"""Filters: what was read is written and read again as the same; what cannot be read says where;
logic holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from datasetkit.captions.caption import normal_form
from datasetkit.captions.filters import (
    FIELDS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_NUMBER,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    YES_NO_FIELDS,
    And,
    Compare,
    FilterError,
    Flag,
    Match,
    Node,
    Not,
    Or,
    Wildcard,
    exactly,
    parse,
    show,
)
from datasetkit.captions.predicates import COMPARISONS, folded, predicate


@dataclass
class Facts:
    """An image as filters see it, from its caption and its name."""

    caption: str = ""
    file: str = "p1.jpg"
    below: str = "train/10_sks girl/p1.jpg"
    concept: str = "sks girl"
    repeats: int = 10
    tokens: int = 5
    dup: bool = False
    edited: bool = False
    scores: dict[str, int] = field(default_factory=dict)

    @property
    def split(self) -> list[str]:
        return [tag.strip() for tag in self.caption.split(",") if tag.strip()]

    @property
    def forms(self) -> frozenset[str]:
        return frozenset(map(normal_form, self.split))

    @property
    def text(self) -> str:
        return ", ".join(map(normal_form, self.split))

    @property
    def tags(self) -> int:
        return len(self.split)

    @property
    def chars(self) -> int:
        return len(", ".join(self.split))

    @property
    def name(self) -> str:
        return folded(self.file)

    @property
    def path(self) -> str:
        return folded(self.below)


def passes(where: str, caption: str = "", **facts) -> bool:
    return predicate(parse(where))(Facts(caption, **facts))


def refusal(where: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        parse(where)
    return caught.value


# ---- what is read
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "read"),
    [
        ("tag:lips", Match("tag", ("lips",))),
        ("lips", Match("", ("lips",))),
        ("TAG:lips", Match("tag", ("lips",))),
        ('tag:"blue eyes"', Match("tag", ("blue eyes",))),
        ("tag:'blue eyes'", Match("tag", ("blue eyes",))),
        ("tag:*_hair", Match("tag", (Wildcard.ANY, "_hair"))),
        ("tag:?girl*", Match("tag", (Wildcard.ONE, "girl", Wildcard.ANY))),
        (r"tag:\?", Match("tag", ("?",))),
        (r'tag:"a \"b\" \\ \*"', Match("tag", ('a "b" \\ *',))),
        ("tag:don't", Match("tag", ("don't",))),
        (r"tag:hat_\(clothes\)", Match("tag", (r"hat_\(clothes\)",))),
        ("tag:hat_(clothes)", Match("tag", ("hat_(clothes)",))),
        ("(tag:hat_(clothes))", Match("tag", ("hat_(clothes)",))),
        ('tag:":)"', Match("tag", (":)",))),
        ("tag::d", Match("tag", (":d",))),
        ('"tag:lips"', Match("", ("tag:lips",))),
        ('"AND"', Match("", ("AND",))),
        ("ANDROID", Match("", ("ANDROID",))),
        ("tags:>=5", Compare("tags", ">=", 5)),
        ("tags:5", Compare("tags", "=", 5)),
        ("tags:==5", Compare("tags", "=", 5)),
        ("tokens:!=75", Compare("tokens", "!=", 75)),
        ("score:<0.4", Compare("score", "<", 0.4)),
        ("score:.4", Compare("score", "=", 0.4)),
        ("score:lips>=0.5", Compare("score", ">=", 0.5, ("lips",))),
        ("score:1girl>=0.5", Compare("score", ">=", 0.5, ("1girl",))),
        ("score:2.5d<=1", Compare("score", "<=", 1, ("2.5d",))),
        ('score:"blue eyes">=0.5', Compare("score", ">=", 0.5, ("blue eyes",))),
        ('score:">_<"<0.5', Compare("score", "<", 0.5, (">_<",))),
        ("score:*_hair>0.5", Compare("score", ">", 0.5, (Wildcard.ANY, "_hair"))),
        ("(score:1girl>0.5)", Compare("score", ">", 0.5, ("1girl",))),
        ("dup:yes", Flag("dup", True)),
        ("edited:NO", Flag("edited", False)),
        ("NOT tag:a", Not(Match("tag", ("a",)))),
        ("NOT NOT a", Not(Not(Match("", ("a",))))),
        ("NOT(a)", Not(Match("", ("a",)))),
        ("a AND(b)", And((Match("", ("a",)), Match("", ("b",))))),
        ("a AND (b AND c)", And((Match("", ("a",)), Match("", ("b",)), Match("", ("c",))))),
        ("  a\t\nOR  b ", Or((Match("", ("a",)), Match("", ("b",))))),
        ("", None),
        (" \t\n", None),
    ],
)
def test_a_filter_is_parsed_as_documented(where, read):
    assert parse(where) == read


def test_not_binds_tighter_than_and_which_binds_tighter_than_or():
    a, b, c, d = (Match("", (name,)) for name in "abcd")
    assert parse("a OR NOT b AND c OR d") == Or((a, And((Not(b), c)), d))
    assert parse("(a OR NOT b) AND (c OR d)") == And((Or((a, Not(b))), Or((c, d))))
    assert parse("NOT (a OR b) AND c") == And((Not(Or((a, b))), c))


# ---- reading and writing
# ----------------------------------------------------------------------------------------


def texts() -> st.SearchStrategy[tuple[str | Wildcard, ...]]:
    """Texts as a parser may give them: no two plain parts side by side, something to look for."""
    characters = st.text(
        st.one_of(st.characters(), st.sampled_from("*?\\\"' ()<>=_:")), min_size=1, max_size=6
    )
    parts = st.lists(st.one_of(characters, st.sampled_from(Wildcard)), min_size=1, max_size=5)

    def merged(several: list[str | Wildcard]) -> tuple[str | Wildcard, ...]:
        done: list[str | Wildcard] = []
        for part in several:
            if isinstance(part, str) and done and isinstance(done[-1], str):
                done[-1] += part
            else:
                done.append(part)
        return tuple(done)

    return parts.map(merged).filter(
        lambda text: any(isinstance(part, Wildcard) or part.strip() for part in text)
    )


def terms() -> st.SearchStrategy[Node]:
    operators = st.sampled_from(sorted(COMPARISONS))
    share = st.floats(0, 1, allow_subnormal=False)
    whole = st.sampled_from([name for name in NUMBER_FIELDS if name != "score"])
    return st.one_of(
        st.builds(Match, st.sampled_from([*TEXT_FIELDS, ""]), texts()),
        st.builds(Compare, whole, operators, st.integers(0, MAX_NUMBER)),
        st.builds(Compare, st.just("score"), operators, share, st.one_of(st.just(()), texts())),
        st.builds(Flag, st.sampled_from(YES_NO_FIELDS), st.booleans()),
    )


def nodes() -> st.SearchStrategy[Node]:
    """Trees as a parser may give them: no AND straight in an AND, no OR in an OR."""

    def joined(
        kind: type[And] | type[Or], inner: st.SearchStrategy[Node]
    ) -> st.SearchStrategy[Node]:
        others = inner.filter(lambda node: not isinstance(node, kind))
        return st.lists(others, min_size=2, max_size=3).map(lambda parts: kind(tuple(parts)))

    return st.recursive(
        terms(),
        lambda inner: st.one_of(inner.map(Not), joined(And, inner), joined(Or, inner)),
        max_leaves=8,
    )


@given(nodes())
def test_a_printed_filter_parses_to_the_same_tree(node):
    assert parse(show(node)) == node


@given(st.text(st.one_of(st.characters(), st.sampled_from("()*?\\\"'<>=:. ")), max_size=80))
@example("score:")
@example("score:1")
@example("tags:" + "9" * 400)
@example("tag:\\")
@example('"')
@example("NOT")
@example("tag:(")
@example("score:٣")
@example("tags:²")
def test_any_text_is_parsed_or_refused_with_a_position_and_a_hint(text):
    try:
        node = parse(text)
    except FilterError as error:
        assert 0 <= error.at <= len(text)
        assert error.hint and f"character {error.at + 1}:" in error.message
    else:
        assert parse(show(node)) == node
        assert predicate(node)(Facts("a, b")) in (True, False)


WORDS = [
    "NOT",
    "AND",
    "OR",
    "(",
    ")",
    "tag:a",
    "a",
    "tags:>=5",
    "score:a>0.5",
    '"a b"',
    "dup:yes",
    "not",
    "tag:",
    "*",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_any_order_of_words_is_parsed_or_refused(words):
    where = " ".join(words)
    try:
        node = parse(where)
    except FilterError as error:
        assert 0 <= error.at <= len(where)
    else:
        assert parse(show(node)) == node


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_tag_matches_the_filter_made_of_it(tag):
    assume(normal_form(tag) and "," not in tag)
    passing = predicate(parse(exactly(tag)))
    assert passing(Facts(tag))
    assert not passing(Facts("something else"))


# ---- what cannot be read
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "at", "expected"),
    [
        ("tagg:lips", 0, "did you mean tag:?"),
        ("a AND xyz:1", 6, "unknown field xyz:"),
        ("http://x", 0, "in quotes"),
        ("tag:", 4, "the text is empty"),
        ('tag:""', 4, "the text is empty"),
        ('caption:" "', 8, "the text is empty"),
        ("tag: lips", 4, "the text is empty"),
        ("tag:lips nose", 9, "AND or OR is missing before 'nose'"),
        ("tag:blue eyes", 9, 'tag:"blue eyes"'),
        ("lips and nose", 5, "for the operator write AND"),
        ("not lips", 0, "for the operator write NOT"),
        ("lips AND or nose", 9, 'for the text write "or"'),
        ("AND lips", 0, "nothing before AND"),
        ("lips AND", 8, "the filter is incomplete"),
        ("lips AND AND nose", 9, "nothing before AND"),
        ("NOT", 3, "the filter is incomplete"),
        ("(lips", 0, "unmatched ("),
        ("lips)", 4, "unmatched )"),
        ("()", 1, "the text is empty"),
        ("(lips nose)", 6, "AND or OR is missing before 'nose"),
        ('tag:"lips', 4, "unmatched quote"),
        ('tag:"a"b', 7, "a space is missing after the quote"),
        ("tag:>:(", 4, "unmatched ( in this text"),
        ("tags:many", 5, "takes a whole number"),
        ("tags:>=1.5", 7, "takes a whole number"),
        ("tags:> 5", 6, "without spaces"),
        ("tags:-1", 5, "takes a whole number"),
        ("tags:5x", 6, "a space is missing here"),
        (f"tags:{MAX_NUMBER + 1}", 5, "numbers up to 1,000,000,000"),
        ("score:lips", 10, "a number from 0 to 1"),
        ("score:", 6, "a number from 0 to 1"),
        ("score:>_<>0.5", 7, "a number from 0 to 1"),
        ("score:1.5", 6, "a score is a number from 0 to 1"),
        ("dup:maybe", 4, "takes yes or no"),
        ("edited:", 7, "takes yes or no"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, "longer than 10,000 characters"),
        ("NOT " * (MAX_DEPTH + 1) + "a", 4 * (MAX_DEPTH + 1), "simplify the filter"),
        ("(" * 200, MAX_DEPTH + 1, "simplify the filter"),
    ],
)
def test_an_invalid_filter_is_refused_with_the_position_and_a_hint(where, at, expected):
    error = refusal(where)
    assert error.at == at
    assert expected in error.message + " " + error.hint
    assert error.hint


def test_the_deepest_accepted_filter_can_be_evaluated():
    where = "(" * MAX_DEPTH + "tag:a" + ")" * MAX_DEPTH
    assert passes(where, "a")
    assert passes("NOT " * MAX_DEPTH + "tag:a", "a")
    assert passes(" OR ".join(["tag:b"] * 1000) + " OR tag:a", "a")


# ---- what passes
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "caption", "passed"),
    [
        ("tag:lips", "solo, lips", True),
        ("tag:lip", "solo, lips", False),
        ("tag:Blue_Eyes", "blue eyes", True),
        ('tag:"blue eyes"', "Blue_Eyes", True),
        ("tag:hat_(clothes)", r"hat \(clothes\)", True),
        (r"tag:hat_\(clothes\)", "hat (clothes)", True),
        ("tag:^_^", "^_^", True),
        ('tag:"^ ^"', "^_^", False),
        ("tag:*hair", "long hair", True),
        ("tag:*_hair", "hair", False),
        ("tag:?girls", "2girls", True),
        ("tag:?girls", "girls", False),
        ("tag:*", "", False),
        ("tag:*", "a", True),
        (r"tag:\*", "a, *", True),
        (r"tag:\*", "a", False),
        ("tag:.*", "lips", False),
        ("tag:[a-z]*", "lips", False),
        ("caption:lip", "solo, lips", True),
        ('caption:"solo, lips"', "solo, lips", True),
        ("caption:solo,lips", "solo,  lips", True),
        ('caption:"solo, ^_^"', "Solo, ^_^", True),
        ("caption:solo*hat", "solo, lips, hat", True),
        ("caption:hat*solo", "solo, lips, hat", False),
        ("lips", "solo, lips", True),
        ("P1", "solo", True),
        ("name:p?.jpg", "", True),
        ("name:p1", "", True),
        ("name:p2", "", False),
        ("path:10_*/p1", "", True),
        ("concept:sks*", "", True),
        ("concept:sks", "", False),
        ('concept:"SKS girl"', "", True),
        ("tags:2", "a, b", True),
        ("tags:>2", "a, b", False),
        ("chars:<=4", "a, b", True),
        ("chars:<4", "a, b", False),
        ("tokens:5", "", True),
        ("repeats:>=10", "", True),
        ("dup:no", "", True),
        ("edited:yes", "", False),
    ],
)
def test_images_pass_as_documented(where, caption, passed):
    assert passes(where, caption) is passed


@pytest.mark.parametrize(
    ("where", "passed"),
    [
        ("score:lips>=0.5", True),
        ("score:lips>0.5", False),
        ("score:lips=0.5", True),
        ("score:nose<0.5", True),
        ("score:hat<0.5", False),  # nobody gave it a score
        ("NOT score:hat>=0", True),
        ("score:n*<0.2", True),
        ("score:<0.5", False),  # of the tags in the caption, which are lips alone
        ("score:0.5", True),
        ("score:blue_eyes>=0.35", True),
        ("score:blue_eyes>0.35", False),
    ],
)
def test_scores_are_compared_in_whole_steps(where, passed):
    assert (
        passes(where, "lips, unknown", scores={"lips": 5000, "nose": 1000, "blue eyes": 3500})
        is passed
    )


@given(st.lists(st.sampled_from("ab*?"), max_size=10).map("".join), st.text("ab", max_size=12))
def test_wildcards_match_as_documented(pattern, name):
    assume(pattern)
    meant = pattern.replace("*", ".*").replace("?", ".")
    whole = predicate(parse(f'concept:"{pattern}"'))
    part = predicate(parse(f'name:"{pattern}"'))
    assert whole(Facts(concept=name)) is bool(re.fullmatch(meant, name))
    assert part(Facts(file=name)) is bool(re.search(meant, name))


def test_many_wildcards_are_fast():
    # Backtracking would take longer than the age of the world here.
    where = parse("caption:" + "*a" * 200 + "*b")
    assert predicate(where)(Facts("a" * 5000)) is False
    assert predicate(where)(Facts("a" * 5000 + "b")) is True


# ---- logic
# --------------------------------------------------------------------------------------------------

TAGS = st.lists(st.sampled_from(["a", "b", "c", "long hair", "^_^"]), max_size=4, unique=True).map(
    ", ".join
)
IMAGES = st.builds(
    Facts,
    TAGS,
    tokens=st.integers(0, 3),
    dup=st.booleans(),
    scores=st.dictionaries(st.sampled_from(["a", "b", "long hair"]), st.integers(0, 10_000)),
)


@given(nodes(), IMAGES)
def test_a_double_negation_changes_nothing(node, image):
    assert predicate(Not(Not(node)))(image) is predicate(node)(image)
    assert predicate(Not(node))(image) is not predicate(node)(image)


@given(nodes(), nodes(), IMAGES)
def test_de_morgan(one, other, image):
    both, any_of = predicate(And((one, other))), predicate(Or((one, other)))
    assert predicate(Not(Or((Not(one), Not(other)))))(image) is both(image)
    assert predicate(Not(And((Not(one), Not(other)))))(image) is any_of(image)
    assert both(image) is (predicate(one)(image) and predicate(other)(image))


@given(nodes(), IMAGES)
def test_a_printed_filter_passes_the_same_images(node, image):
    assert predicate(parse(show(node)))(image) is predicate(node)(image)


@given(
    st.sampled_from([name for name in NUMBER_FIELDS if name != "score"]),
    st.integers(0, 20),
    IMAGES,
)
def test_a_comparison_and_its_opposite_cover_all_images(name, number, image):
    below, equal, above = (passing(f"{name}:{sign}{number}", image) for sign in "<=>")
    assert [below, equal, above].count(True) == 1
    assert passing(f"{name}:<={number}", image) is (below or equal)
    assert passing(f"{name}:!={number}", image) is not equal


def passing(where: str, image: Facts) -> bool:
    return predicate(parse(where))(image)


def test_every_field_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "filters.md").read_text(
        encoding="utf-8"
    )
    assert [name for name in FIELDS if f"`{name}:" not in page] == []
