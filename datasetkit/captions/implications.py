"""Implications: which general tags say nothing new beside a specific one, from the shipped table or
a person's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from pathlib import Path

from datasetkit.captions.caption import normal_form
from datasetkit.core.errors import ConfigError

IMPLICATIONS_FILE = "implications.toml"
TABLE = "redundant"
_FORM_HINT = f'write a table [{TABLE}] of lines such as "hat" = ["baseball cap", "beret"]'

# (the specific tag, the general one that it makes redundant)
Pair = tuple[str, str]


def load_implications(spec: str) -> tuple[Pair, ...]:
    """Return the pairs (tag, implied) of `spec`: "none", "common" (the shipped table), else a path
    to a TOML file.

    Raises ConfigError for a file that cannot be read or has another form.
    """
    if spec == "none":
        return ()
    if spec == "common":
        return _common()
    path = Path(spec)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(
            f"the implications {spec!r} cannot be read: {error}",
            hint='Give "common", "none" or the path of a TOML file.',
        ) from error
    return read_implications(text, source=path.name)


@cache
def _common() -> tuple[Pair, ...]:
    text = (
        resources.files("datasetkit")
        .joinpath("data", IMPLICATIONS_FILE)
        .read_text(encoding="utf-8")
    )
    return read_implications(text, source=IMPLICATIONS_FILE)


def read_implications(text: str, *, source: str) -> tuple[Pair, ...]:
    """Read pairs from TOML `[redundant] "general" = ["specific", ...]`; `source` names the file in
    errors.
    """
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: no TOML: {error}", hint=_FORM_HINT) from error
    table = document.get(TABLE)
    if not isinstance(table, dict) or len(document) != 1:
        raise ConfigError(
            f"{source}: it must hold one table [{TABLE}] and nothing else", hint=_FORM_HINT
        )
    pairs: list[Pair] = []
    for general, specifics in table.items():
        if not isinstance(specifics, list) or not all(isinstance(tag, str) for tag in specifics):
            raise ConfigError(f"{source}: {general!r} must be a list of strings", hint=_FORM_HINT)
        if not all(normal_form(tag) for tag in (general, *specifics)):
            raise ConfigError(f"{source}: {general!r} holds an empty tag", hint=_FORM_HINT)
        pairs += [(specific, general) for specific in specifics]
    return tuple(pairs)


def close_chains(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Add the pairs that follow: `black bikini` -> `bikini` -> `swimsuit` gives `black bikini` ->
    `swimsuit` as well.

    Otherwise `swimsuit` would stay in a caption whose `bikini` the tagger overlooked. Every pair
    comes once. Raises ConfigError where a chain returns to its start: all its tags would drop each
    other.
    """
    spelling: dict[str, str] = {}
    generals: dict[str, list[str]] = {}
    for tag, implied in pairs:
        form, implied_form = normal_form(tag), normal_form(implied)
        spelling.setdefault(form, tag)
        spelling.setdefault(implied_form, implied)
        generals.setdefault(form, []).append(implied_form)
    try:
        order = tuple(TopologicalSorter(generals).static_order())  # the general ones first
    except CycleError as error:
        ring = " -> ".join(spelling[form] for form in reversed(error.args[1]))
        raise ConfigError(
            f"the implications go round in a ring: {ring}",
            hint="take one of these pairs out of the table",
        ) from error
    closed: dict[str, dict[str, None]] = {}
    for form in order:
        reached: dict[str, None] = {}
        for general in generals.get(form, ()):
            reached |= {general: None, **closed[general]}
        closed[form] = reached
    return tuple(
        (spelling[form], spelling[general]) for form in generals for general in closed[form]
    )
