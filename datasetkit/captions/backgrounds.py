"""Backdrops: the plain colours that stand behind a cut-out subject, and what its caption says of
them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from datasetkit.captions.caption import normal_form
from datasetkit.captions.selectors import load_groups
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError

Colour = tuple[int, int, int]

# Colours by name; each has its tag, `<name> background`, in the vocabulary.
NAMED: dict[str, Colour] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (200, 60, 60),
    "orange": (235, 150, 70),
    "yellow": (240, 220, 90),
    "green": (90, 160, 90),
    "blue": (80, 120, 200),
    "purple": (140, 95, 175),
    "pink": (240, 165, 190),
    "brown": (135, 95, 65),
}
RANDOM = "random"
PLAIN = "simple background"
_HEX = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE)


def require(bg: str) -> None:
    """Raise ConfigError for what is no backdrop: a name, `random`, or `#rrggbb`."""
    if bg not in NAMED and bg != RANDOM and not _HEX.fullmatch(bg):
        raise ConfigError(
            f"bg {bg!r} is no colour", hint=f"one of: {', '.join(NAMED)}, {RANDOM}, or #rrggbb"
        )


def colour(bg: str, image: str) -> Colour:
    """Return the colour behind one image. image: its id, which decides what is `random`: always
    the same.
    """
    if bg == RANDOM:
        return NAMED[random.Random(image).choice(sorted(NAMED))]
    if bg in NAMED:
        return NAMED[bg]
    digits = bg.removeprefix("#")
    wide = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    return int(wide[:2], 16), int(wide[2:4], 16), int(wide[4:], 16)


def reworded(tags: Sequence[str], name: str) -> tuple[str, ...]:
    """Return a caption's tags for a subject before a plain backdrop: `<name> background`, `simple
    background`.

    What else says something of a background or a place (the group @background) goes. The new tags
    stand where the first of the old ones stood, else last. A first tag that the vocabulary does not
    know is a trigger, and stays.
    """
    group, vocabulary = load_groups()["background"], load()
    new = (f"{name} background", PLAIN)
    forms = {normal_form(tag) for tag in new}
    kept: list[str] = []
    place: int | None = None
    for n, tag in enumerate(tags):
        form = normal_form(tag)
        is_trigger = n == 0 and tag not in vocabulary
        if not is_trigger and (form in forms or group.matches(form, vocabulary.category(tag))):
            place = len(kept) if place is None else place
        else:
            kept.append(tag)
    at = len(kept) if place is None else place
    return (*kept[:at], *new, *kept[at:])
