"""Contradictions: tags that cannot both be true of one image, from the shipped table."""

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
    """Tags (normal forms) of which a caption should have at most one.

    unless: the group does not apply to captions with one of these; only_with: it applies only to
    captions with one of these, () to all.
    """

    tags: tuple[str, ...]
    unless: frozenset[str] = frozenset()
    only_with: frozenset[str] = frozenset()


def contradictions(
    forms: Collection[str], table: Sequence[ExclusiveTags]
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of tags of a caption that exclude each other, each pair once.

    forms: the tags of the caption in normal form.
    """
    yielded: set[tuple[str, str]] = set()
    for group in table:
        present = [tag for tag in group.tags if tag in forms]
        if (
            len(present) < 2
            or not group.unless.isdisjoint(forms)
            or (group.only_with and group.only_with.isdisjoint(forms))
        ):
            continue
        for pair in combinations(present, 2):
            if pair not in yielded:
                yielded.add(pair)
                yield pair


@cache
def load_contradictions() -> tuple[ExclusiveTags, ...]:
    """Return the shipped table (read once per process)."""
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
