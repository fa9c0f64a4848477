"""Predicates: what a filter (captions/filters.py) asks, as a function of the facts of one
image.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Protocol

from datasetkit.captions.caption import SEPARATOR, normal_form
from datasetkit.captions.filters import And, Compare, Flag, Match, Node, Not, Or, Text, Wildcard

# Scores are compared in whole steps of 1e-4, as everywhere.
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
    """What a filter may ask of an image.

    forms: the normal forms of its tags. text: these, joined by `, `. name, path, concept: as
    `folded` gives them. scores: what the tagger gave, in steps of 1e-4, by normal form.
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
    """Bring a name to the form in which names are compared: NFC, one case."""
    return unicodedata.normalize("NFC", text).casefold()


def predicate(node: Node | None) -> Predicate:
    """Make a filter a function that tells whether an image passes. What one tag comes to is found
    out once.
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
            return lambda facts: all(one(facts) for one in every)
        case Or(parts):
            some = [predicate(part) for part in parts]
            return lambda facts: any(one(facts) for one in some)


def _tag(text: Text) -> Predicate:
    """A whole tag, whatever its spelling."""
    plain = _plain(text)
    if plain is not None:
        form = normal_form(plain)
        return lambda facts: form in facts.forms
    pattern = _pattern(text, normal_form, whole=True)
    # Ten thousand captions have the same few thousand tags.
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
    """A part of the caption, which is compared by the normal forms of its tags."""
    found = _finder(text, _caption_form)
    return lambda facts: found(facts.text)


def _caption_form(text: str) -> str:
    """Bring a part of a caption to the form of `Facts.text`, whatever stands around its commas."""
    return ", ".join(map(normal_form, text.split(SEPARATOR)))


def _name(text: Text) -> Predicate:
    found = _finder(text, folded)
    return lambda facts: found(facts.name)


def _path(text: Text) -> Predicate:
    found = _finder(text, folded)
    return lambda facts: found(facts.path)


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
    """The score of a tag, in the caption or not; without a tag, that of any tag in the caption."""
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
    """Return a text that has no wildcard, else None."""
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


# Noncharacters, which no text has, hold the wildcards' places while a text is folded.
_ANY, _ONE = "\ufdd0", "\ufdd1"
_PLACES = {Wildcard.ANY: _ANY, Wildcard.ONE: _ONE}


def _pattern(text: Text, fold: Callable[[str], str], *, whole: bool) -> re.Pattern[str]:
    """Compile a text with wildcards; one that is looked for anywhere has a `*` before it and behind
    it.

    The first place where a piece fits is as good as any later one: atomic groups keep many `*` from
    being quadratic.
    """
    form = fold("".join(_PLACES[part] if isinstance(part, Wildcard) else part for part in text))
    pieces = re.split(f"{_ANY}+", form if whole else f"{_ANY}{form}{_ANY}")
    first, *rest = [re.escape(piece).replace(_ONE, ".") for piece in pieces]
    if not rest:
        return re.compile(rf"\A{first}\Z", re.DOTALL)
    *middle, last = rest
    steps = "".join(f"(?>.*?{piece})" for piece in middle)
    return re.compile(rf"\A{first}{steps}.*{last}\Z", re.DOTALL)
