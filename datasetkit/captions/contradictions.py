"""Contradictions: which tags cannot both be true of an image, from the shipped table."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import combinations

from datasetkit.captions.caption import normal_form

CONTRADICTIONS_FILE = "contradictions.toml"


@dataclass(frozen=True, slots=True)
class ExclusiveTags:
    """Tags (normal forms) of which a caption holds at most one.

    unless: none of these is in it; only_with: one of these is in it, () for any caption.
    """

    tags: tuple[str, ...]
    unless: frozenset[str] = frozenset()
    only_with: frozenset[str] = frozenset()


def contradictions(
    forms: Collection[str], table: Sequence[ExclusiveTags]
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of tags of a caption that exclude each other, each once. forms: its tags in
    normal form.
    """
    said: set[tuple[str, str]] = set()
    for one in table:
        there = [tag for tag in one.tags if tag in forms]
        if (
            len(there) < 2
            or not one.unless.isdisjoint(forms)
            or (one.only_with and one.only_with.isdisjoint(forms))
        ):
            continue
        for pair in combinations(there, 2):
            if pair not in said:
                said.add(pair)
                yield pair


@cache
def load_contradictions() -> tuple[ExclusiveTags, ...]:
    """Return the table that the package ships; read once a process."""
    text = (
        resources.files("datasetkit")
        .joinpath("data", CONTRADICTIONS_FILE)
        .read_text(encoding="utf-8")
    )
    return tuple(
        ExclusiveTags(
            tuple(map(normal_form, table["tags"])),
            frozenset(map(normal_form, table.get("unless", ()))),
            frozenset(map(normal_form, table.get("only-with", ()))),
        )
        for table in tomllib.loads(text)["one-of"]
    )
