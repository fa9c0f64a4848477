"""Parse prompt weights such as `(red hair:1.3)` in a caption. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from datasetkit.captions.grammar import WEIGHT, characters

# `(` multiplies by this factor, `[` divides by it.
STEP: Final = 1.1
_EXPLICIT: Final = re.compile(WEIGHT + "$")


@dataclass(frozen=True, slots=True)
class WeightedCaption:
    """A caption without its brackets, and the weight of each of its characters."""

    text: str
    weights: tuple[float, ...]


def parse(caption: str) -> WeightedCaption:
    r"""Parse the brackets of a caption like the web interfaces.

    `(x)` multiplies by 1.1, `[x]` divides by 1.1, `(x:1.3)` multiplies by 1.3. Brackets nest, and
    an unclosed one extends to the end. A backslash escapes a bracket or another backslash.
    """
    text: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for character, escaped in characters(caption):
        if not escaped and character in opened:
            opened[character].append(len(text))
        elif not escaped and character == ")" and opened["("]:
            start = opened["("].pop()
            explicit = _EXPLICIT.search("".join(text[start:]))
            if explicit:
                del text[start + explicit.start() :], weights[start + explicit.start() :]
            multiply(start, float(explicit[1]) if explicit else STEP)
        elif not escaped and character == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / STEP)
        else:
            text.append(character)
            weights.append(1.0)
    for bracket, factor in (("(", STEP), ("[", 1 / STEP)):
        for start in opened[bracket]:
            multiply(start, factor)
    return WeightedCaption("".join(text), tuple(weights))
