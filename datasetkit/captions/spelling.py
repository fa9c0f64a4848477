"""Spelling: which two tags of a dataset look like one tag that was written twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import combinations

from datasetkit.captions.caption import normal_form

_DIGITS = re.compile(r"\d+")
# Length of the shorter tag, in characters, from which one or two slips of the pen are likelier than
# another word.
_ONE_SLIP, _TWO_SLIPS = 4, 8
# Above these lengths fewer slips are looked for: the number of spellings to try grows with the
# square of the length.
_LONG, _SENTENCE = 32, 100


def near(left: str, right: str) -> bool:
    """Tell whether two different spellings probably mean one tag.

    They do when only case, `_`, spaces, hyphens or a plural set them apart, or one slip of the pen
    (two in tags of eight characters or more). Tags whose numbers differ (`outfit 1`, `outfit 2`)
    mean different things.
    """
    if left == right:
        return False
    return _bare(left) == _bare(right) or _slipped(normal_form(left), normal_form(right))


def near_pairs(tags: Collection[str], doubtful: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of near spellings, each once, sorted: slips of the pen only where one of the
    two is `doubtful`.

    Trying every pair would take minutes at thousands of tags; instead tags meet under the spellings
    that they share when a letter or two is left out (the symmetric-delete index of W. Garbe's
    SymSpell).
    """
    found = {
        pair
        for group in _grouped(tags, lambda tag: (_bare(tag),))
        for pair in combinations(group, 2)
    }
    wanted = set(doubtful)
    met: set[tuple[str, str]] = set()
    for group in _grouped(tags, lambda tag: _shortened(normal_form(tag))) if wanted else ():
        for tag in wanted.intersection(group):
            met.update((min(tag, other), max(tag, other)) for other in group if other != tag)
    yield from sorted(found | {pair for pair in met if near(*pair)})


def distance(left: str, right: str) -> int:
    """Count the slips between two words: a letter added, left out or changed, or two neighbours
    swapped.

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


def _slipped(left: str, right: str) -> bool:
    allowed = _slips(min(len(left), len(right)))
    if abs(len(left) - len(right)) > allowed or _DIGITS.findall(left) != _DIGITS.findall(right):
        return False
    return distance(left, right) <= allowed


def _slips(length: int) -> int:
    """Return how many slips are forgiven in a tag of so many characters."""
    if length < _ONE_SLIP or length > _SENTENCE:
        return 0
    return 1 if length < _TWO_SLIPS or length > _LONG else 2


def _bare(tag: str) -> str:
    """Return a tag without what spellings differ in most: case, `_`, spaces, hyphens, plurals."""
    plain = normal_form(tag)
    return "".join(_singular(word) for word in re.split(r"[ \-]+", plain)) or plain


def _singular(word: str) -> str:
    """Drop an English plural ending; short words and those in -ss keep theirs."""
    if len(word) < 4 or not word[:-1].isalnum() or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ses", "xes", "shes", "ches")) else word[:-1]


def _shortened(word: str) -> set[str]:
    """Return a word, and what is left of it when up to as many letters as it may have slips are
    taken out.
    """
    words = {word}
    for _ in range(_slips(len(word))):
        words |= {w[:i] + w[i + 1 :] for w in words for i in range(len(w))}
    return words


def _grouped(tags: Collection[str], keys: Callable[[str], Iterable[str]]) -> list[list[str]]:
    """Return the sorted groups of two and more tags that share a key."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(tags):
        for key in keys(tag):
            groups[key].append(tag)
    return [group for group in groups.values() if len(group) > 1]
