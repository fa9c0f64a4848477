"""The vocabulary: the tags of the taggers, their categories, and suggestions for others."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType

from datasetkit.captions.caption import normal_form, spell
from datasetkit.core.errors import ModelFileError

# Column `category` of the label file (SmilingWolf's taggers follow Danbooru's numbers).
CATEGORIES: Mapping[str, str] = MappingProxyType({"0": "general", "4": "character", "9": "rating"})

# Tags that count people; captions put them between the character tags and the rest.
PERSON_COUNT = re.compile(r"^\d+\+?(girl|boy|other)s?$")

DATA_FILE = "selected_tags_v3.csv"
COLUMNS = ("tag_id", "name", "category", "count")

# The ratio of difflib (0..1) from which two spellings are alike; its default.
_ALIKE = 0.6
_WORD_ALIKE = 0.75  # the same, of single words


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tags of a label file as captions spell them, in the order of the file (within a category:
    most common first).

    names, categories: of equal length; a category is "general", "character" or "rating".
    Tags are looked up by normal form, so `Blue_Eyes` finds `blue eyes`.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    _rows: Mapping[str, int] = field(init=False, repr=False, compare=False)
    # The words of all tags -> the first row with each; filled by the first suggestion.
    _words: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.categories):
            raise ValueError(f"{len(self.names)} names and {len(self.categories)} categories")
        object.__setattr__(
            self, "_rows", {normal_form(name): row for row, name in enumerate(self.names)}
        )

    def __contains__(self, tag: object) -> bool:
        return isinstance(tag, str) and normal_form(tag) in self._rows

    def rank(self, tag: str) -> int | None:
        """Return the row of a tag in the label file, from 0, or None if it is not listed."""
        return self._rows.get(normal_form(tag))

    def category(self, tag: str) -> str | None:
        """Return "general", "character" or "rating", or None for a tag that is not listed."""
        row = self.rank(tag)
        return None if row is None else self.categories[row]

    def spelling(self, tag: str) -> str | None:
        """Return a tag as the vocabulary spells it, or None if it is not listed."""
        row = self.rank(tag)
        return None if row is None else self.names[row]

    def nearest(self, tag: str, n: int = 1) -> tuple[str, ...]:
        """Return up to `n` tags that may have been meant, best first; none if no tag is near.

        First the singular or plural, then tags that contain all the words (fewest other words
        first, then the most common: `blonde` -> `blonde hair`), then tags with misspelt words put
        right (`long hiar`), then similar spellings.
        """
        form = normal_form(tag)
        if not form or n < 1:
            return ()
        if form in self._rows:
            return (self.names[self._rows[form]],)
        other_number = [form.removesuffix("s") if form.endswith("s") else form + "s"]
        near = [tag for tag in other_number if tag in self._rows]
        near += _containing_words(form, self._rows)
        if len(near) < n and (corrected := self._corrected(form)) != form:
            near += _containing_words(corrected, self._rows)
        if len(near) < n:
            near += _spelled_alike(form, self._rows)
        return tuple(self.names[self._rows[tag]] for tag in list(dict.fromkeys(near))[:n])

    def _corrected(self, form: str) -> str:
        """Return a tag with each word that is in no tag replaced by the nearest one: letters that
        changed places, else the spelling, else the more common one.
        """
        words = self._words
        if not words:
            for tag, row in self._rows.items():
                for word in tag.split():
                    words[word] = min(row, words.get(word, row))

        def nearest(word: str) -> str:
            if word in words:
                return word
            letters = sorted(word)
            moved = [w for w in words if len(w) == len(word) and sorted(w) == letters]
            near = moved or get_close_matches(word, words, n=5, cutoff=_WORD_ALIKE)
            ratios = {other: round(SequenceMatcher(None, other, word).ratio(), 1) for other in near}
            return min(near, key=lambda other: (-ratios[other], words[other]), default=word)

        return " ".join(map(nearest, form.split()))


def _spelled_alike(form: str, rows: Mapping[str, int]) -> list[str]:
    """Return the tags spelled like `form`, best first, ties by row."""
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(form)  # difflib caches its analysis of the second sequence
    near: list[tuple[float, str]] = []
    for other in rows:
        matcher.set_seq1(other)
        # Two cheap upper bounds avoid nearly all exact comparisons.
        if matcher.real_quick_ratio() >= _ALIKE and matcher.quick_ratio() >= _ALIKE:
            ratio = matcher.ratio()
            if ratio >= _ALIKE:
                near.append((ratio, other))
    return [other for _, other in sorted(near, key=lambda pair: (-pair[0], rows[pair[1]]))]


def _containing_words(form: str, rows: Mapping[str, int]) -> list[str]:
    """Return the tags that contain every word of `form`, fewest words first, then by row."""
    words = set(form.split())
    matches = [
        (len(other.split()), row, other)
        for other, row in rows.items()
        if words <= set(other.split())
    ]
    return [other for _, _, other in sorted(matches)]


def read(text: str, *, source: str) -> Vocabulary:
    """Parse a label file: CSV with the columns tag_id, name, category, count.

    source: the file's name for errors.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ModelFileError(
            f"{source}: the label file has no column {missing[0]!r}", hint="fetch the file again"
        )
    names: list[str] = []
    categories: list[str] = []
    for row in reader:
        category = CATEGORIES.get(row["category"])
        if category is None or not row["name"]:
            raise ModelFileError(
                f"{source}, line {reader.line_num}: invalid label: name {row['name']!r}, "
                f"category {row['category']!r}",
                hint="the categories are 0 (general), 4 (character) and 9 (rating); fetch the "
                "file again",
            )
        names.append(spell(row["name"]))
        categories.append(category)
    return Vocabulary(tuple(names), tuple(categories))


@cache
def load() -> Vocabulary:
    """Return the shipped vocabulary: SmilingWolf's v3 taggers, 10,861 tags (read once per
    process).
    """
    file = resources.files("datasetkit").joinpath("data", DATA_FILE)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelFileError(
            f"the shipped vocabulary {DATA_FILE} cannot be read: {error}",
            hint="install datasetkit again",
        ) from error
    return read(text, source=DATA_FILE)
