"""Backgrounds: the plain colours put behind a cut-out subject, and the tags that name them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from datasetkit.captions.caption import normal_form
from datasetkit.captions.grammar import is_group
from datasetkit.captions.selectors import load_groups
from datasetkit.captions.vocabulary import load
from datasetkit.core.errors import ConfigError

Colour = tuple[int, int, int]

# Colours by name; `<name> background` is a tag of the vocabulary for each.
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
    """Raise ConfigError unless `bg` is a colour name, `random` or `#rrggbb`."""
    if bg not in NAMED and bg != RANDOM and not _HEX.fullmatch(bg):
        raise ConfigError(
            f"bg {bg!r} is not a colour", hint=f"one of: {', '.join(NAMED)}, {RANDOM}, or #rrggbb"
        )


def colour(bg: str, image: str) -> Colour:
    """Return the background colour of one image.

    image: its id; with `random` it seeds the choice, so that an image always gets one colour.
    """
    if bg == RANDOM:
        return NAMED[random.Random(image).choice(sorted(NAMED))]
    if bg in NAMED:
        return NAMED[bg]
    digits = bg.removeprefix("#")
    wide = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    return int(wide[:2], 16), int(wide[2:4], 16), int(wide[4:], 16)


def reworded(tags: Sequence[str], name: str) -> tuple[str, ...]:
    """Replace the background tags of a caption by `<name> background` and `simple background`.

    Every tag of the group @background is removed. The new tags take the position of the first
    removed one, else the end. A first tag that is not in the vocabulary is a trigger and is kept.
    So are wildcards.
    """
    group, vocabulary = load_groups()["background"], load()
    new = (f"{name} background", PLAIN)
    forms = {normal_form(tag) for tag in new}
    kept: list[str] = []
    position: int | None = None
    for n, tag in enumerate(tags):
        form = normal_form(tag)
        is_kept = (n == 0 and tag not in vocabulary) or is_group(tag)
        if not is_kept and (form in forms or group.matches(form, vocabulary.category(tag))):
            position = len(kept) if position is None else position
        else:
            kept.append(tag)
    at = len(kept) if position is None else position
    return (*kept[:at], *new, *kept[at:])
