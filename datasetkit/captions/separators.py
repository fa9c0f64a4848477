"""Captions whose tags are not separated by commas, or have underscores: find and correct them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from datasetkit.captions.caption import spell, with_entries
from datasetkit.captions.grammar import (
    Entry,
    begins_as_sentence,
    ends_as_sentence,
    is_group,
)
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.records import Caption
from datasetkit.core.words import WIDE_COMMAS

_OTHERS: Final = ";|；｜"
# The share of tags among the words of a caption without commas from which on they are tags.
_SPACED_SHARE: Final = 0.6


def other_separator(tags: Sequence[str], vocabulary: Vocabulary) -> str:
    """Return what separates tags inside one of the tags, "" if nothing does: two of the parts are
    tags of the vocabulary, beside a comma of another script one.
    """
    for tag in tags:
        if character := separator_in(tag, vocabulary):
            return character
    if len(tags) != 1 or tags[0] in vocabulary or is_group(tags[0]):
        return ""
    words = _words(tags[0], vocabulary)
    known = [word for word in words if word in vocabulary]
    has_underscore = any("_" in word for word in known)
    is_prose = ends_as_sentence(tags) or begins_as_sentence(tags[0])
    is_likely = len(known) / len(words) >= _SPACED_SHARE and not is_prose
    return " " if len(known) >= 2 and (has_underscore or is_likely) else ""


def separator_in(tag: str, vocabulary: Vocabulary) -> str:
    """Return the character other than a space that separates tags in a tag, "" if none does."""
    if tag in vocabulary or is_group(tag):
        return ""
    for character in WIDE_COMMAS + _OTHERS:
        if character not in tag:
            continue
        parts = _parts(tag, character)
        known = sum(part in vocabulary for part in parts)
        if len(parts) > 1 and known >= (1 if character in WIDE_COMMAS else 2):
            return character
    return ""


def at_wide_commas(caption: Caption, vocabulary: Vocabulary) -> Caption:
    """Return a caption with `，` and `、` between tags replaced by commas."""

    def change(tags: tuple[str, ...]) -> list[Entry]:
        return _split(tags, vocabulary, WIDE_COMMAS)

    return with_entries(caption, change)


def at_any(caption: Caption, vocabulary: Vocabulary) -> Caption:
    """Return a caption split into tags wherever `other_separator` finds that they are separated by
    something else than commas. Of words between spaces the underscores become spaces.
    """

    def change(tags: tuple[str, ...]) -> list[Entry]:
        entries = _split(tags, vocabulary, WIDE_COMMAS + _OTHERS)
        if other_separator([tag for _, tag in entries], vocabulary) != " ":
            return entries
        return [(None, spell(word)) for word in _words(entries[0][1], vocabulary)]

    return with_entries(caption, change)


def _split(tags: Sequence[str], vocabulary: Vocabulary, characters: str) -> list[Entry]:
    """Split the tags that one of the characters separates."""
    entries: list[Entry] = []
    for n, tag in enumerate(tags):
        character = separator_in(tag, vocabulary)
        if character and character in characters:
            entries += [(None, part) for part in _parts(tag, characters)]
        else:
            entries.append((n, tag))
    return entries


def _parts(tag: str, characters: str) -> list[str]:
    for character in characters[1:]:
        tag = tag.replace(character, characters[0])
    return [part for piece in tag.split(characters[0]) if (part := piece.strip())]


def _words(tag: str, vocabulary: Vocabulary) -> list[str]:
    """Return the words between spaces; a `/` or `-` between two of them is not a word."""
    return [word for word in tag.split() if len(word) > 1 or word.isalnum() or word in vocabulary]


def has_underscores(tag: str, vocabulary: Vocabulary) -> bool:
    """Tell whether a tag of the vocabulary is written with underscores where it has spaces."""
    spelling = vocabulary.spelling(tag) if "_" in tag else None
    return spelling is not None and tag.count("_") > spelling.count("_")


def without_underscores(caption: Caption, vocabulary: Vocabulary) -> Caption:
    """Return a caption with spaces for the underscores of the tags that the vocabulary has."""
    return with_entries(
        caption,
        lambda tags: [
            (n, spell(tag) if has_underscores(tag, vocabulary) else tag)
            for n, tag in enumerate(tags)
        ],
    )
