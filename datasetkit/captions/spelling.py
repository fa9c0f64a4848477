"""Spelling: pairs of tags of a dataset that are probably one tag in two spellings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import combinations

from datasetkit.captions.caption import normal_form

_DIGITS = re.compile(r"\d+")
# From these lengths of the shorter tag, in characters, one or two typing errors are likelier than
# another word.
_ONE_ERROR, _TWO_ERRORS = 4, 8
# Above these lengths fewer errors are searched for: the spellings to try grow with the square of
# the length.
_LONG, _SENTENCE = 32, 100


def near(left: str, right: str) -> bool:
    """Tell whether two different spellings probably mean one tag.

    They do when they differ only in case, `_`, spaces, hyphens or a plural, or in one typing error
    (two in tags of eight characters or more). Tags whose numbers differ (`outfit 1`, `outfit 2`)
    are different tags.
    """
    if left == right:
        return False
    return _bare(left) == _bare(right) or _misspelt(normal_form(left), normal_form(right))


def near_pairs(tags: Collection[str], doubtful: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of near spellings, each once, sorted; typing errors only where one of the two
    is `doubtful`.

    Comparing every pair would take minutes for thousands of tags, so tags are grouped by the
    spellings that they share when a letter or two is left out (the symmetric-delete index of
    W. Garbe's SymSpell).
    """
    variants = {
        pair
        for group in _grouped(tags, lambda tag: (_bare(tag),))
        for pair in combinations(group, 2)
    }
    suspects = set(doubtful)
    candidates: set[tuple[str, str]] = set()
    for group in _grouped(tags, lambda tag: _shortened(normal_form(tag))) if suspects else ():
        for tag in suspects.intersection(group):
            candidates.update((min(tag, other), max(tag, other)) for other in group if other != tag)
    yield from sorted(variants | {pair for pair in candidates if near(*pair)})


def distance(left: str, right: str) -> int:
    """Return the edit distance of two words: letters added, removed, changed or swapped with a
    neighbour.

    Optimal string alignment, the restricted Damerau-Levenshtein distance.
    """
    before: list[int] = []
    above = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]


def _misspelt(left: str, right: str) -> bool:
    allowed = _errors_allowed(min(len(left), len(right)))
    if abs(len(left) - len(right)) > allowed or _DIGITS.findall(left) != _DIGITS.findall(right):
        return False
    return distance(left, right) <= allowed


def _errors_allowed(length: int) -> int:
    """Return how many typing errors are tolerated in a tag of so many characters."""
    if length < _ONE_ERROR or length > _SENTENCE:
        return 0
    return 1 if length < _TWO_ERRORS or length > _LONG else 2


def _bare(tag: str) -> str:
    """Return a tag without case, `_`, spaces, hyphens and plurals."""
    plain = normal_form(tag)
    return "".join(_singular(word) for word in re.split(r"[ \-]+", plain)) or plain


def _singular(word: str) -> str:
    """Drop an English plural ending; short words and words in -ss keep theirs."""
    if len(word) < 4 or not word[:-1].isalnum() or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ses", "xes", "shes", "ches")) else word[:-1]


def _shortened(word: str) -> set[str]:
    """Return a word, and the word without up to as many letters as it may have typing errors."""
    words = {word}
    for _ in range(_errors_allowed(len(word))):
        words |= {w[:i] + w[i + 1 :] for w in words for i in range(len(w))}
    return words


def _grouped(tags: Collection[str], keys: Callable[[str], Iterable[str]]) -> list[list[str]]:
    """Return the groups of two or more tags that share a key, each sorted."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(tags):
        for key in keys(tag):
            groups[key].append(tag)
    return [group for group in groups.values() if len(group) > 1]
