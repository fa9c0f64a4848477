"""Filters: the expressions that choose images (`tag:lips AND NOT name:01*`), read into a tree and
written again.

    or      = and { "OR" and }
    and     = not { "AND" not }
    not     = "NOT" not | "(" or ")" | term
    term    = [ field ":" ] text | number-field ":" [ comparison ] number | "score:" tag comparison
    number

Texts with spaces stand in quotes. `*` is any text and `?` one sign, in quotes too; behind a
backslash they are plain. docs/concepts/filters.md explains the fields to people,
captions/predicates.py decides.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from datasetkit.core.errors import InputError

TEXT_FIELDS = ("tag", "caption", "name", "path", "concept")
NUMBER_FIELDS = ("tags", "chars", "tokens", "repeats", "score")
YES_NO_FIELDS = ("dup", "edited")
FIELDS = (*TEXT_FIELDS, *NUMBER_FIELDS, *YES_NO_FIELDS)
# Longer or deeper ones are no person's, and would exhaust the stack.
MAX_LENGTH, MAX_DEPTH = 10_000, 50
# No image has more tags, signs, tokens or repeats; a double holds all whole numbers up to here.
MAX_NUMBER = 10**9

_KEYWORDS = ("NOT", "AND", "OR")
_QUOTES = "\"'"
_FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*):")
_COMPARISON = re.compile(r"<=|>=|!=|==|<|>|=")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
# `score:1girl>=0.5` is of the tag 1girl: a number ends where the term ends.
_BARE_SCORE = re.compile(rf"(?:{_COMPARISON.pattern})|(?:{_NUMBER.pattern})(?=[\s()]|\Z)")


class FilterError(InputError):
    """A filter cannot be read. at: the index of the sign that is wrong, 0 for the first."""

    def __init__(self, message: str, at: int, *, hint: str = "") -> None:
        super().__init__(f"filter, character {at + 1}: {message}", hint=hint)
        self.at = at


class Wildcard(Enum):
    """What stands for other signs in a text."""

    ANY = "*"
    ONE = "?"


Text = tuple[str | Wildcard, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A text is looked for. field: one of TEXT_FIELDS; "" means the caption or the name."""

    field: str
    text: Text


@dataclass(frozen=True, slots=True)
class Compare:
    """A number is compared. tag: whose score it is; () means that of any tag in the caption."""

    field: str
    sign: str
    number: float
    tag: Text = ()


@dataclass(frozen=True, slots=True)
class Flag:
    """Something is asked for that is so or not. field: one of YES_NO_FIELDS."""

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
    """Read a filter; None for an empty one, which every image passes. Raises FilterError with the
    place.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(
            f"the filter is longer than {MAX_LENGTH:,} signs",
            MAX_LENGTH,
            hint="select images instead",
        )
    reader = _Parser(text)
    if reader.ended:
        return None
    node = reader.alternatives(0)
    if not reader.ended:
        raise reader.unexpected()
    return node


class _Parser:
    """Reads a filter from left to right; `at` is the place that it has reached."""

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
        """Return the AND, OR or NOT that stands here, or ""."""
        for word in _KEYWORDS:
            after = self.text[self.at + len(word) : self.at + len(word) + 1]
            if self.text.startswith(word, self.at) and (
                not after or after.isspace() or after in "()"
            ):
                return word
        return ""

    def take(self, sign: str) -> None:
        self.at += len(sign)
        self.skip_spaces()

    def unexpected(self) -> FilterError:
        """Word why what stands here cannot follow what was read."""
        if self.text[self.at] == ")":
            return FilterError(
                "this bracket closes nothing", self.at, hint="take it away, or open one before"
            )
        word = self.text[self.at :].split()[0]
        if word.upper() in _KEYWORDS:
            return self.in_capitals(word, self.at)
        hint = 'write AND or OR before it; a tag with spaces stands in quotes: tag:"blue eyes"'
        return FilterError(f"{word!r} follows without AND or OR", self.at, hint=hint)

    def in_capitals(self, word: str, at: int) -> FilterError:
        """Word that `and`, `or` or `not` is neither a keyword nor meant as a text."""
        hint = f'write {word.upper()} in capitals; the text itself is written "{word}"'
        return FilterError(f"{word!r} cannot stand here", at, hint=hint)

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
            inner for one in parts for inner in (one.parts if isinstance(one, kind) else (one,))
        ]
        return kind(tuple(flat)) if len(flat) > 1 else flat[0]

    def negation(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise FilterError(
                f"more than {MAX_DEPTH} brackets or NOTs in each other",
                self.at,
                hint="write it simpler",
            )
        if self.ended:
            raise FilterError(
                "something is missing at the end",
                self.at,
                hint='e.g. tag:lips, NOT tag:"blue eyes"',
            )
        if self.keyword == "NOT":
            self.take("NOT")
            return Not(self.negation(depth + 1))
        if self.keyword:
            raise FilterError(
                f"{self.keyword} has nothing before it",
                self.at,
                hint=f'a tag of that name is written "{self.keyword}"',
            )
        if self.text[self.at] != "(":
            return self.term()
        opened = self.at
        self.take("(")
        node = self.alternatives(depth + 1)
        if self.ended:
            raise FilterError("this bracket is not closed", opened, hint="add a )")
        if self.text[self.at] != ")":
            raise self.unexpected()
        self.take(")")
        return node

    def term(self) -> Node:
        start = self.at
        named = _FIELD.match(self.text, self.at)
        if named is None:
            text = self._filled(self.word(), start)
            bare = self.text[start : self.at].strip()
            if bare.upper() in _KEYWORDS:
                raise self.in_capitals(bare, start)
            return Match("", text)
        field = named[1].lower()
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, 1)
            meant = f"did you mean {near[0]}:? " if near else ""
            hint = (
                f"{meant}fields: {', '.join(f'{known}:' for known in FIELDS)}; for the text "
                "itself write quotes"
            )
            raise FilterError(f"there is no field {named[1]}:", start, hint=hint)
        self.at = named.end()
        if field in YES_NO_FIELDS:
            return self.flag(field)
        if field in NUMBER_FIELDS:
            return self.comparison(field)
        return Match(field, self._filled(self.word(), named.end()))

    def flag(self, field: str) -> Node:
        start = self.at
        word = written(self.word()).lower()
        if word not in ("yes", "no"):
            raise FilterError(f"{field}: takes yes or no", start, hint=f"{field}:yes")
        return Flag(field, word == "yes")

    def comparison(self, field: str) -> Node:
        start = self.at
        tag: Text = ()
        if field == "score" and not self.ended and not _BARE_SCORE.match(self.text, self.at):
            tag = self._filled(self.word(stop_at_comparison=True), start)
        sign = _COMPARISON.match(self.text, self.at)
        self.at = sign.end() if sign else self.at
        number = _NUMBER.match(self.text, self.at)
        whole = field != "score"
        if number is None or (tag and sign is None) or (whole and "." in number[0]):
            example = "score:<0.4 or score:lips>=0.5" if field == "score" else f"{field}:>=5"
            wanted = "a whole number" if whole else "a number from 0 to 1"
            raise FilterError(
                f"{field}: takes {wanted}", self.at, hint=f"e.g. {example}, without spaces"
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
                "a space is missing here", self.at, hint="a number ends with a space or a bracket"
            )
        self.skip_spaces()
        return Compare(field, (sign[0] if sign else "=").replace("==", "="), value, tag)

    def _filled(self, text: Text, start: int) -> Text:
        if not written(text).strip():
            hint = 'e.g. tag:lips; a tag with spaces stands in quotes: tag:"blue eyes"'
            raise FilterError("nothing to look for", start, hint=hint)
        return text

    def word(self, *, stop_at_comparison: bool = False) -> Text:
        """Read a text: in quotes, or up to the next space; brackets that open within it belong to
        it.
        """
        if not self.ended and self.text[self.at] in _QUOTES:
            return self._quoted(stop_at_comparison)
        start, depth = self.at, 0
        signs: list[str | Wildcard] = []
        while not self.ended and not self.text[self.at].isspace():
            sign = self.text[self.at]
            if (sign == ")" and depth == 0) or (sign == "(" and self.at == start):
                break
            if (
                stop_at_comparison
                and depth == 0
                and self.at > start
                and _COMPARISON.match(self.text, self.at)
            ):
                break
            depth += (sign == "(") - (sign == ")")
            signs.append(self._sign())
        if depth:
            raise FilterError(
                "a bracket in this text is not closed",
                start,
                hint='put the text in quotes: tag:">:("',
            )
        self.skip_spaces()
        return _merged(signs)

    def _quoted(self, stop_at_comparison: bool) -> Text:
        start, quote = self.at, self.text[self.at]
        self.at += 1
        signs: list[str | Wildcard] = []
        while not self.ended and self.text[self.at] != quote:
            signs.append(self._sign())
        if self.ended:
            raise FilterError("this quote is not closed", start, hint=f"add a {quote}")
        self.at += 1
        if not stop_at_comparison:
            if (
                not self.ended
                and not self.text[self.at].isspace()
                and self.text[self.at] not in "()"
            ):
                raise FilterError(
                    "a space is missing behind the quote",
                    self.at,
                    hint="or the quote closes too early",
                )
            self.skip_spaces()
        return _merged(signs)

    def _sign(self) -> str | Wildcard:
        """Take one sign of a text: a wildcard, one that a backslash makes plain, or itself."""
        sign = self.text[self.at]
        following = self.text[self.at + 1 : self.at + 2]
        if sign == "\\" and following and following in "*?\\\"'":
            self.at += 2
            return following
        self.at += 1
        return Wildcard(sign) if sign in "*?" else sign


def _merged(signs: list[str | Wildcard]) -> Text:
    """Join the plain signs between wildcards."""
    merged: list[str | Wildcard] = []
    for sign in signs:
        if isinstance(sign, str) and merged and isinstance(merged[-1], str):
            merged[-1] += sign
        else:
            merged.append(sign)
    return tuple(merged)


# ---- writing
# --------------------------------------------------------------------------------------------------


def written(text: Text) -> str:
    """Return a text without quotes, its plain `*`, `?`, quotes and backslashes marked by a
    backslash.
    """
    return "".join(
        part.value if isinstance(part, Wildcard) else re.sub(r"([*?\\\"'])", r"\\\1", part)
        for part in text
    )


def show(node: Node | None) -> str:
    """Return a filter in its plainest spelling; `parse` reads it back as the same tree."""
    match node:
        case None:
            return ""
        case Match(field, text):
            return f'{field}:"{written(text)}"' if field else f'"{written(text)}"'
        case Compare(field, sign, number, tag):
            of = f'"{written(tag)}"' if tag else ""
            # Digits alone, as short as they come back: no 1e-05, no 5.0.
            digits = str(int(number)) if number == int(number) else f"{Decimal(repr(number)):f}"
            return f"{field}:{of}{sign}{digits}"
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
    """Return the filter for the images that have a tag, whatever its spelling."""
    return show(Match("tag", (tag,)))
