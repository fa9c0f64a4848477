"""Implications: general tags that a specific tag makes redundant, from the shipped table or a file
of the user.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from pathlib import Path

from datasetkit.captions.caption import normal_form
from datasetkit.core.errors import ConfigError
from datasetkit.core.toml_text import parse_toml

IMPLICATIONS_FILE = "implications.toml"
TABLE = "redundant"
_FORM_HINT = f'write a table [{TABLE}] of lines such as "hat" = ["baseball cap", "beret"]'

# (the specific tag, the general one that it makes redundant)
Pair = tuple[str, str]


def load_implications(spec: str) -> tuple[Pair, ...]:
    """Return the pairs (tag, implied) that `spec` names: "none", "common" (the shipped table), or
    the path of a TOML file.

    Raises ConfigError for a file that cannot be read or parsed.
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
            hint='give "common", "none" or the path of a TOML file',
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
    """Parse pairs from TOML, `[redundant]` with `"general" = ["specific", ...]`.

    source: the name of the file for errors.
    """
    document = parse_toml(text.removeprefix("\ufeff"), source=source, hint=_FORM_HINT)
    table = document.get(TABLE)
    if not isinstance(table, dict) or len(document) != 1:
        raise ConfigError(
            f"{source} must have one table, [{TABLE}], and nothing else", hint=_FORM_HINT
        )
    pairs: list[Pair] = []
    for general, specifics in table.items():
        if not isinstance(specifics, list) or not all(isinstance(tag, str) for tag in specifics):
            raise ConfigError(f"{source}: {general!r} must be a list of strings", hint=_FORM_HINT)
        if not all(normal_form(tag) for tag in (general, *specifics)):
            raise ConfigError(f"{source}: {general!r} has an empty tag", hint=_FORM_HINT)
        pairs += [(specific, general) for specific in specifics]
    return tuple(pairs)


def close_chains(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Return the transitive closure of the pairs: `black bikini` -> `bikini` -> `swimsuit` adds
    `black bikini` -> `swimsuit`.

    Without it, `swimsuit` would be kept in a caption whose `bikini` the tagger missed. Every pair
    is returned once. Raises ConfigError for a cycle: its tags would all drop each other.
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
        cycle = " -> ".join(spelling[form] for form in reversed(error.args[1]))
        raise ConfigError(
            f"circular implications: {cycle}", hint="remove one of these pairs from the table"
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
