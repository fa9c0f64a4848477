"""Hints for a name that is not known: the nearest name that is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from datasetkit.core.files import display


def nearest(name: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the choice that a name is probably a misspelling of, or None.

    cutoff: the least similarity, from 0 to 1 (`difflib.get_close_matches`).
    """
    return next(iter(difflib.get_close_matches(name, list(choices), 1, cutoff)), None)


def did_you_mean(
    name: str, choices: Iterable[str], otherwise: str, *, form: str = "{}", cutoff: float = 0.6
) -> str:
    """Return "did you mean X?" with the nearest choice, or `otherwise` if none is near.

    form: how a choice is written, e.g. "--{}".
    """
    choice = nearest(name, choices, cutoff=cutoff)
    return otherwise if choice is None else f"did you mean {form.format(display(choice))}?"
