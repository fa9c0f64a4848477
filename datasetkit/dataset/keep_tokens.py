"""keep_tokens: how many leading tags of all captions are fixed, and which captions lower it.

Trainers shuffle tags, except the first `keep_tokens` of every caption, which are the trigger. One
caption that begins with something else lowers the number for all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import normal_form
from datasetkit.captions.vocabulary import load
from datasetkit.core.files import display
from datasetkit.dataset.trigger import SHARE, KnownTrigger, Tags

# How many captions a line names.
_SHOWN = 3
# More leading tags than these are not counted.
_MOST = 65_535


@dataclass(frozen=True, slots=True)
class ConceptCaptions:
    """The captions of one concept as (image, tags) each, without empty ones and those whose fixed
    tags `keep_tokens_separator` marks. additional: tags that follow the trigger in each of them.
    """

    captions: Collection[tuple[Path, Tags]]
    trigger: KnownTrigger
    additional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepTokens:
    """value: how many leading tags of all captions are fixed. lowered_by: the images whose captions
    lower it; notes: one line about them for each concept.
    """

    value: int
    lowered_by: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def keep_tokens(concepts: Sequence[ConceptCaptions], *, given: int | None = None) -> KeepTokens:
    """Return how many leading tags are fixed: triggers and additional tags.

    Without a trigger they are the common start of all captions (at least two), up to the last tag
    that is not in the vocabulary: `sks, 1girl, solo` in all captions is one fixed tag. given: the
    number that an option sets; the captions that do not begin with so many fixed tags are named.
    """
    concepts = [concept for concept in concepts if concept.captions]
    forms = {normal_form(t) for c in concepts for t in (*c.trigger.words, *c.additional)}
    if not forms:
        value = _common_start(tags for c in concepts for _, tags in c.captions)
        return KeepTokens(value if given is None else given)
    counts = [array("H", (_leading(tags, forms) for _, tags in c.captions)) for c in concepts]
    usual = min(map(_usual, concepts, counts))
    value = min(map(min, counts))
    limit = usual if given is None else min(usual, given)
    notes: list[str] = []
    lowered_by: list[Path] = []
    for concept, each in zip(concepts, counts, strict=True):
        captions = zip(concept.captions, each, strict=True)
        images = [image for (image, _), n in captions if n < limit]
        if images:
            lowered_by += images
            notes.append(_note(concept, images, usual, given))
    return KeepTokens(value if given is None else given, tuple(lowered_by), tuple(notes))


def _note(concept: ConceptCaptions, images: Sequence[Path], usual: int, given: int | None) -> str:
    """Return the line about the captions of a concept that lower keep_tokens."""
    words = display(", ".join((*concept.trigger.words, *concept.additional)[:usual]))
    names = ", ".join(display(image.name) for image in images[:_SHOWN])
    names += ", ..." if len(images) > _SHOWN else ""
    of = f"{len(images):,} of {len(concept.captions):,} captions"
    does = "does not begin" if len(images) == 1 else "do not begin"
    effect = (
        f"keep_tokens would be {usual} without {'it' if len(images) == 1 else 'them'}"
        if given is None
        else f"keep_tokens = {given} keeps another tag there"
    )
    return f"{of} {does} with {words} ({names}): {effect}"


def _usual(concept: ConceptCaptions, counts: Sequence[int]) -> int:
    """Return how many fixed tags the captions of a concept begin with, without those that lower it:
    as much of the trigger as one of them has, and the additional tags that most have.
    """
    best = min(max(counts), len(concept.trigger.words))
    ordered = sorted(counts, reverse=True)
    most = ordered[max(0, -int(-SHARE * len(ordered) // 1) - 1)]
    return max(best, most)


def _leading(tags: Tags, forms: set[str]) -> int:
    leading = next((n for n, tag in enumerate(tags) if normal_form(tag) not in forms), len(tags))
    return min(leading, _MOST)


def _common_start(captions: Iterable[Tags]) -> int:
    """Return the length of the common start of captions, up to the last tag outside of the
    vocabulary.
    """
    remaining = iter(captions)
    first = next(remaining, ())
    forms = list(map(normal_form, first))
    is_alone = True
    for tags in remaining:
        is_alone = False
        alike = zip(forms, map(normal_form, tags), strict=False)
        del forms[next((n for n, (a, b) in enumerate(alike) if a != b), len(tags)) :]
    vocabulary = load()
    unknown = (n for n, tag in enumerate(first[: len(forms)], 1) if tag not in vocabulary)
    return max(unknown, default=0) if not is_alone else 0
