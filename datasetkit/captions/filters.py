"""Filters: parse the expressions that select images (`tag:lips AND NOT name:01*`), and print them.

    or      = and { "OR" and }
    and     = not { "AND" not }
    not     = "NOT" not | "(" or ")" | term
    term    = [ field ":" ] text | number-field ":" [ comparison ] number | "score:" tag comparison
    number

A text with spaces needs quotes. `*` matches any text and `?` one character, also in quotes; a
backslash makes them literal. docs/concepts/filters.md explains the fields, captions/predicates.py
evaluates them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from datasetkit.core.errors import InputError
from datasetkit.core.suggest import did_you_mean

TEXT_FIELDS = ("tag", "caption", "name", "path", "concept")
NUMBER_FIELDS = ("tags", "chars", "tokens", "repeats", "score")
YES_NO_FIELDS = ("dup", "edited")
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, *YES_NO_FIELDS)
# Limits that no person reaches; deeper nesting would exhaust the stack.
MAX_LENGTH, MAX_DEPTH = 10_000, 50
# No image has more tags, characters, tokens or repeats.
MAX_NUMBER = 10**9

_KEYWORDS = ("NOT", "AND", "OR")
_QUOTES = "\"'"
_FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*):")
_COMPARISON = re.compile(r"<=|>=|!=|==|<|>|=")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
# In `score:1girl>=0.5` the tag is 1girl: a number must end where the term ends.
_BARE_SCORE = re.compile(rf"(?:{_COMPARISON.pattern})|(?:{_NUMBER.pattern})(?=[\s()]|\Z)")


class FilterError(InputError):
    """A filter cannot be parsed. at: the index of the offending character."""

    def __init__(self, message: str, at: int, *, hint: str = "") -> None:
        super().__init__(f"filter, character {at + 1}: {message}", hint=hint)
        self.at = at


class Wildcard(Enum):
    """A character of a text that matches others."""

    ANY = "*"
    ONE = "?"


Text = tuple[str | Wildcard, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A text in a field. field: one of TEXT_FIELDS; "" is the caption or the name."""

    field: str
    text: Text


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison with a number. tag: whose score is compared, () for any tag of the caption."""

    field: str
    operator: str
    number: float
    tag: Text = ()


@dataclass(frozen=True, slots=True)
class Flag:
    """A yes/no property. field: one of YES_NO_FIELDS."""

    field: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


Node = Match | Compare | Flag | Not | And | Or


# ---- reading
# --------------------------------------------------------------------------------------------------


def parse(text: str) -> Node | None:
    """Parse a filter; None for an empty one, which every image passes.

    Raises FilterError with the position.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(
            f"the filter is longer than {MAX_LENGTH:,} characters",
            MAX_LENGTH,
            hint="select images instead",
        )
    parser = _Parser(text)
    if parser.ended:
        return None
    node = parser.alternatives(0)
    if not parser.ended:
        raise parser.unexpected()
    return node


class _Parser:
    """A recursive-descent parser; `at` is the current position."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.skip_spaces()

    def skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    @property
    def ended(self) -> bool:
        return self.at >= len(self.text)

    @property
    def keyword(self) -> str:
        """Return the AND, OR or NOT at the current position, or ""."""
        for word in _KEYWORDS:
            after = self.text[self.at + len(word) : self.at + len(word) + 1]
            if self.text.startswith(word, self.at) and (
                not after or after.isspace() or after in "()"
            ):
                return word
        return ""

    def take(self, token: str) -> None:
        self.at += len(token)
        self.skip_spaces()

    def unexpected(self) -> FilterError:
        """Return the error for text that cannot follow what was parsed."""
        if self.text[self.at] == ")":
            return FilterError("unmatched )", self.at, hint="remove it, or add a ( before it")
        word = self.text[self.at :].split()[0]
        if word.upper() in _KEYWORDS:
            return self.in_capitals(word, self.at)
        hint = 'write AND or OR before it; a tag with spaces needs quotes: tag:"blue eyes"'
        return FilterError(f"AND or OR is missing before {word!r}", self.at, hint=hint)

    def in_capitals(self, word: str, at: int) -> FilterError:
        """Return the error for `and`, `or` or `not` in lower case, which is ambiguous."""
        hint = f'for the operator write {word.upper()}; for the text write "{word}"'
        return FilterError(f"{word!r} is not allowed here", at, hint=hint)

    def alternatives(self, depth: int) -> Node:
        return self._joined("OR", Or, self.conjunction, depth)

    def conjunction(self, depth: int) -> Node:
        return self._joined("AND", And, self.negation, depth)

    def _joined(
        self, word: str, kind: type[And] | type[Or], part: Callable[[int], Node], depth: int
    ) -> Node:
        parts = [part(depth)]
        while self.keyword == word:
            self.take(word)
            parts.append(part(depth))
        # `a AND (b AND c)` is `a AND b AND c`.
        flat = [
            inner for node in parts for inner in (node.parts if isinstance(node, kind) else (node,))
        ]
        return kind(tuple(flat)) if len(flat) > 1 else flat[0]

    def negation(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise FilterError(
                f"brackets or NOTs nested more than {MAX_DEPTH} deep",
                self.at,
                hint="simplify the filter",
            )
        if self.ended:
            raise FilterError(
                "the filter is incomplete",
                self.at,
                hint='e.g. tag:lips, NOT tag:"blue eyes"',
            )
        if self.keyword == "NOT":
            self.take("NOT")
            return Not(self.negation(depth + 1))
        if self.keyword:
            raise FilterError(
                f"nothing before {self.keyword}",
                self.at,
                hint=f'for a tag of that name write "{self.keyword}"',
            )
        if self.text[self.at] != "(":
            return self.term()
        opened = self.at
        self.take("(")
        node = self.alternatives(depth + 1)
        if self.ended:
            raise FilterError("unmatched (", opened, hint="add a )")
        if self.text[self.at] != ")":
            raise self.unexpected()
        self.take(")")
        return node

    def term(self) -> Node:
        start = self.at
        prefix = _FIELD.match(self.text, self.at)
        if prefix is None:
            text = self._filled(self.word(), start)
            bare = self.text[start : self.at].strip()
            if bare.upper() in _KEYWORDS:
                raise self.in_capitals(bare, start)
            return Match("", text)
        field = prefix[1].lower()
        if field not in FIELDS:
            fields = ", ".join(f"{name}:" for name in FIELDS)
            otherwise = f"fields: {fields}; put a text with a colon in quotes"
            hint = did_you_mean(field, FIELDS, otherwise, form="{}:")
            raise FilterError(f"unknown field {prefix[1]}:", start, hint=hint)
        self.at = prefix.end()
        if field in YES_NO_FIELDS:
            return self.flag(field)
        if field in NUMBER_FIELDS:
            return self.comparison(field)
        return Match(field, self._filled(self.word(), prefix.end()))

    def flag(self, field: str) -> Node:
        start = self.at
        word = written(self.word()).lower()
        if word not in ("yes", "no"):
            raise FilterError(f"{field}: takes yes or no", start, hint=f"e.g. {field}:yes")
        return Flag(field, word == "yes")

    def comparison(self, field: str) -> Node:
        start = self.at
        tag: Text = ()
        if field == "score" and not self.ended and not _BARE_SCORE.match(self.text, self.at):
            tag = self._filled(self.word(stop_at_comparison=True), start)
        operator = _COMPARISON.match(self.text, self.at)
        self.at = operator.end() if operator else self.at
        value = self._number(field, allowed=operator is not None or not tag)
        self.skip_spaces()
        return Compare(field, (operator[0] if operator else "=").replace("==", "="), value, tag)

    def _number(self, field: str, *, allowed: bool) -> float:
        """Parse the number of a field: a whole one, for a score one from 0 to 1."""
        number = _NUMBER.match(self.text, self.at)
        whole = field != "score"
        if number is None or not allowed or (whole and "." in number[0]):
            example = "score:<0.4 or score:lips>=0.5" if field == "score" else f"{field}:>=5"
            expected = "a whole number" if whole else "a number from 0 to 1"
            raise FilterError(
                f"{field}: takes {expected}", self.at, hint=f"e.g. {example}, without spaces"
            )
        value = float(number[0])
        if not whole and value > 1:
            raise FilterError("a score is a number from 0 to 1", self.at, hint="e.g. score:<0.4")
        if value > MAX_NUMBER:
            raise FilterError(
                f"{field}: takes numbers up to {MAX_NUMBER:,}", self.at, hint=f"e.g. {field}:>=5"
            )
        self.at = number.end()
        if not self.ended and not self.text[self.at].isspace() and self.text[self.at] not in "()":
            raise FilterError(
                "a space is missing here", self.at, hint="put a space or a bracket after a number"
            )
        return value

    def _filled(self, text: Text, start: int) -> Text:
        if not written(text).strip():
            hint = 'e.g. tag:lips; a tag with spaces needs quotes: tag:"blue eyes"'
            raise FilterError("the text is empty", start, hint=hint)
        return text

    def word(self, *, stop_at_comparison: bool = False) -> Text:
        """Parse a text: in quotes, or up to the next space, with the brackets that open in it."""
        if not self.ended and self.text[self.at] in _QUOTES:
            return self._quoted(stop_at_comparison)
        start, depth = self.at, 0
        characters: list[str | Wildcard] = []
        while not self.ended and not self.text[self.at].isspace():
            character = self.text[self.at]
            if (character == ")" and depth == 0) or (character == "(" and self.at == start):
                break
            if (
                stop_at_comparison
                and depth == 0
                and self.at > start
                and _COMPARISON.match(self.text, self.at)
            ):
                break
            depth += (character == "(") - (character == ")")
            characters.append(self._character())
        if depth:
            raise FilterError(
                "unmatched ( in this text",
                start,
                hint='put the text in quotes: tag:">:("',
            )
        self.skip_spaces()
        return _merged(characters)

    def _quoted(self, stop_at_comparison: bool) -> Text:
        start, quote = self.at, self.text[self.at]
        self.at += 1
        characters: list[str | Wildcard] = []
        while not self.ended and self.text[self.at] != quote:
            characters.append(self._character())
        if self.ended:
            raise FilterError("unmatched quote", start, hint=f"add a {quote}")
        self.at += 1
        if not stop_at_comparison:
            if (
                not self.ended
                and not self.text[self.at].isspace()
                and self.text[self.at] not in "()"
            ):
                raise FilterError(
                    "a space is missing after the quote",
                    self.at,
                    hint="add it, or check where the quote should close",
                )
            self.skip_spaces()
        return _merged(characters)

    def _character(self) -> str | Wildcard:
        """Take one character of a text: a wildcard, an escaped character, or the character."""
        character = self.text[self.at]
        following = self.text[self.at + 1 : self.at + 2]
        if character == "\\" and following and following in "*?\\\"'":
            self.at += 2
            return following
        self.at += 1
        return Wildcard(character) if character in "*?" else character


def _merged(characters: list[str | Wildcard]) -> Text:
    """Join the literal characters between wildcards."""
    merged: list[str | Wildcard] = []
    for character in characters:
        if isinstance(character, str) and merged and isinstance(merged[-1], str):
            merged[-1] += character
        else:
            merged.append(character)
    return tuple(merged)


# ---- writing
# --------------------------------------------------------------------------------------------------


def written(text: Text) -> str:
    """Return a text as a filter writes it: without quotes, special characters escaped."""
    return "".join(
        part.value if isinstance(part, Wildcard) else re.sub(r"([*?\\\"'])", r"\\\1", part)
        for part in text
    )


def show(node: Node | None) -> str:
    """Return a filter in canonical form; `parse` returns the same tree for it."""
    match node:
        case None:
            return ""
        case Match(field, text):
            return f'{field}:"{written(text)}"' if field else f'"{written(text)}"'
        case Compare(field, operator, number, tag):
            of = f'"{written(tag)}"' if tag else ""
            # The shortest digits that parse to the same number: no 1e-05, no 5.0.
            digits = str(int(number)) if number == int(number) else f"{Decimal(repr(number)):f}"
            return f"{field}:{of}{operator}{digits}"
        case Flag(field, wanted):
            return f"{field}:{'yes' if wanted else 'no'}"
        case Not(part):
            return f"NOT {_bracketed(part)}"
        case And(parts):
            return " AND ".join(map(_bracketed, parts))
        case Or(parts):
            return " OR ".join(show(p) if isinstance(p, And) else _bracketed(p) for p in parts)


def _bracketed(node: Node) -> str:
    return f"({show(node)})" if isinstance(node, And | Or) else show(node)


def exactly(tag: str) -> str:
    """Return the filter for the images that have a tag in any spelling."""
    return show(Match("tag", (tag,)))
