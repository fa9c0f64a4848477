"""Predicates: compile a filter (captions/filters.py) into a function of one image's facts."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from datasetkit.captions.caption import normal_form
from datasetkit.captions.filters import And, Compare, Flag, Match, Node, Not, Or, Text, Wildcard
from datasetkit.captions.grammar import SEPARATOR

# Scores are compared as whole multiples of 1e-4, as they are stored.
SCORE_STEPS = 10_000
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<=": operator.le,
        ">=": operator.ge,
        "!=": operator.ne,
        "<": operator.lt,
        ">": operator.gt,
        "=": operator.eq,
    }
)


class Facts(Protocol):
    """The facts of an image that a filter can test.

    forms: the normal forms of its tags. text: the same, joined by `, `. name, path, concept: as
    returned by `folded`. scores: tagger scores by normal form, in units of 1e-4.
    """

    @property
    def forms(self) -> Collection[str]: ...
    @property
    def text(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def concept(self) -> str: ...
    @property
    def tags(self) -> int: ...
    @property
    def chars(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def repeats(self) -> int: ...
    @property
    def scores(self) -> Mapping[str, int]: ...
    @property
    def dup(self) -> bool: ...
    @property
    def edited(self) -> bool: ...


Predicate = Callable[[Facts], bool]


def folded(text: str) -> str:
    """Return the form in which names are compared: NFC, case-folded."""
    return unicodedata.normalize("NFC", text).casefold()


def predicate(node: Node | None) -> Predicate:
    """Return the function that tells whether an image passes a filter.

    Patterns are compiled once, and a tag is matched once for all images.
    """
    match node:
        case None:
            return lambda facts: True
        case Match(field, text):
            return _TEXTS[field](text)
        case Compare("score", sign, number, tag):
            return _score(COMPARISONS[sign], round(number * SCORE_STEPS), tag)
        case Compare(field, sign, number):
            compare, value = COMPARISONS[sign], operator.attrgetter(field)
            return lambda facts: compare(value(facts), number)
        case Flag(field, wanted):
            flag = operator.attrgetter(field)
            return lambda facts: bool(flag(facts)) is wanted
        case Not(part):
            inner = predicate(part)
            return lambda facts: not inner(facts)
        case And(parts):
            every = [predicate(part) for part in parts]
            return lambda facts: all(passes(facts) for passes in every)
        case Or(parts):
            some = [predicate(part) for part in parts]
            return lambda facts: any(passes(facts) for passes in some)


def _tag(text: Text) -> Predicate:
    """Match a whole tag in any spelling."""
    plain = _plain(text)
    if plain is not None:
        form = normal_form(plain)
        return lambda facts: form in facts.forms
    pattern = _pattern(text, normal_form, whole=True)
    # Captions share their tags: match each different tag once.
    fitting: set[str] = set()
    others: set[str] = set()

    def passes(facts: Facts) -> bool:
        forms = facts.forms
        if not fitting.isdisjoint(forms):
            return True
        if not others.issuperset(forms):
            for form in forms:
                (fitting if pattern.search(form) else others).add(form)
        return not fitting.isdisjoint(forms)

    return passes


def _caption(text: Text) -> Predicate:
    """Match a part of the caption, by the normal forms of its tags and sentences."""
    contains = _finder(text, caption_form)
    return lambda facts: contains(facts.text)


def caption_form(text: str) -> str:
    """Return a part of a caption in the form of `Facts.text`, with one space after each comma."""
    return ", ".join(map(normal_form, text.split(SEPARATOR)))


def _name(text: Text) -> Predicate:
    contains = _finder(text, folded)
    return lambda facts: contains(facts.name)


def _path(text: Text) -> Predicate:
    contains = _finder(text, folded)
    return lambda facts: contains(facts.path)


def _concept(text: Text) -> Predicate:
    pattern = _pattern(text, folded, whole=True)
    return lambda facts: pattern.search(facts.concept) is not None


def _anywhere(text: Text) -> Predicate:
    in_caption, in_name = _caption(text), _name(text)
    return lambda facts: in_caption(facts) or in_name(facts)


_TEXTS: Mapping[str, Callable[[Text], Predicate]] = {
    "tag": _tag,
    "caption": _caption,
    "name": _name,
    "path": _path,
    "concept": _concept,
    "": _anywhere,
}


def _score(compare: Callable[[float, float], bool], steps: int, tag: Text) -> Predicate:
    """Compare the score of a tag, or without a tag that of any tag in the caption."""
    if not tag:
        return lambda facts: any(
            form in scores and compare(scores[form], steps)
            for scores in (facts.scores,)
            for form in facts.forms
        )
    plain = _plain(tag)
    if plain is not None:
        form = normal_form(plain)
        return lambda facts: form in facts.scores and compare(facts.scores[form], steps)
    fits = _pattern(tag, normal_form, whole=True).search
    return lambda facts: any(
        compare(score, steps) and fits(form) for form, score in facts.scores.items()
    )


def _plain(text: Text) -> str | None:
    """Return a text without wildcards as a string, else None."""
    return (
        "".join(part for part in text if isinstance(part, str))
        if Wildcard.ANY not in text and Wildcard.ONE not in text
        else None
    )


def _finder(text: Text, fold: Callable[[str], str]) -> Callable[[str], bool]:
    plain = _plain(text)
    if plain is not None:
        wanted = fold(plain)
        return lambda within: wanted in within
    pattern = _pattern(text, fold, whole=False)
    return lambda within: pattern.search(within) is not None


# Noncharacters, which no text has, are placeholders for wildcards while a text is folded.
_ANY, _ONE = "\ufdd0", "\ufdd1"
_PLACEHOLDERS = {Wildcard.ANY: _ANY, Wildcard.ONE: _ONE}


def _pattern(text: Text, fold: Callable[[str], str], *, whole: bool) -> re.Pattern[str]:
    """Compile a text with wildcards. whole: match from end to end, else anywhere.

    The first match of a piece is as good as any later one, so atomic groups keep a pattern of many
    `*` linear.
    """
    form = fold(
        "".join(_PLACEHOLDERS[part] if isinstance(part, Wildcard) else part for part in text)
    )
    pieces = re.split(f"{_ANY}+", form if whole else f"{_ANY}{form}{_ANY}")
    first, *rest = [re.escape(piece).replace(_ONE, ".") for piece in pieces]
    if not rest:
        return re.compile(rf"\A{first}\Z", re.DOTALL)
    *middle, last = rest
    steps = "".join(f"(?>.*?{piece})" for piece in middle)
    return re.compile(rf"\A{first}{steps}.*{last}\Z", re.DOTALL)
