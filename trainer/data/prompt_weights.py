"""Brackets: how `(red hair:1.3)` in a caption says what its parts weigh. No torch is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# What a round bracket multiplies by and a square one divides by.
STEP: Final = 1.1
_GIVEN: Final = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$")


@dataclass(frozen=True, slots=True)
class WeightedCaption:
    """A caption without its brackets, and the weight of each of its characters."""

    text: str
    weights: tuple[float, ...]


def parse(caption: str) -> WeightedCaption:
    r"""Read the brackets of a caption, as the web interfaces do.

    `(x)` multiplies by 1.1, `[x]` divides by 1.1, `(x:1.3)` multiplies by 1.3; they nest, and one
    that is not closed reaches to the end. A backslash makes a bracket, or itself, a plain
    character.
    """
    text: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for character, plain in _characters(caption):
        if not plain and character in opened:
            opened[character].append(len(text))
        elif not plain and character == ")" and opened["("]:
            start = opened["("].pop()
            given = _GIVEN.search("".join(text[start:]))
            if given:
                del text[start + given.start() :], weights[start + given.start() :]
            multiply(start, float(given[1]) if given else STEP)
        elif not plain and character == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / STEP)
        else:
            text.append(character)
            weights.append(1.0)
    for bracket, factor in (("(", STEP), ("[", 1 / STEP)):
        for start in opened[bracket]:
            multiply(start, factor)
    return WeightedCaption("".join(text), tuple(weights))


def _characters(caption: str) -> Iterator[tuple[str, bool]]:
    """Yield each character, and whether a backslash before it made it plain."""
    found = iter(caption)
    for character in found:
        after = next(found, "") if character == "\\" else ""
        if after and after in "()[]\\":
            yield after, True
            continue
        yield character, False
        if after:
            yield after, False
