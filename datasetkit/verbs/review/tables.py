"""Tables of the review page: tags with their counts and scores, what most images have, and
completions.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from datasetkit.captions.caption import normal_form
from datasetkit.captions.filters import Match, Not, show
from datasetkit.captions.predicates import SCORE_STEPS
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import DskError
from datasetkit.core.files import read_regular
from datasetkit.dataset.reports import TRIGGER
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.images import ReviewImage

TRANSLATIONS = "translations.csv"
_MOST_TRANSLATIONS = 20_000_000  # bytes
Columns = dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class Spellings:
    """How each tag is written in one version of the dataset: by normal form, the commonest
    first.
    """

    version: int
    totals: Mapping[str, int]
    written: Mapping[str, tuple[str, ...]]


class TagTables:
    """Tables over a dataset. What holds for a whole version is counted once."""

    def __init__(self, dataset: ReviewDataset, vocabulary: Vocabulary) -> None:
        self.dataset, self.vocabulary = dataset, vocabulary
        self.translations = Translations(dataset.root / TRANSLATIONS)
        self._spellings: Spellings | None = None

    def spellings(self) -> Spellings:
        """Return how the tags of the whole dataset are written, and in how many images each
        stands.
        """
        with self.dataset.lock:
            known = self._spellings
            if known is None or known.version != self.dataset.version:
                known = self._spellings = self._count_spellings()
            return known

    def _count_spellings(self) -> Spellings:
        images = self.dataset.all()
        counted = Counter(
            chain.from_iterable(p.caption.tags for p in images if p.caption is not None)
        )
        written: dict[str, list[str]] = {}
        for spelling, _ in counted.most_common():
            written.setdefault(normal_form(spelling), []).append(spelling)
        totals = Counter(chain.from_iterable(p.facts.forms for p in images))
        return Spellings(
            self.dataset.version,
            totals,
            {form: tuple(several) for form, several in written.items()},
        )

    def tags(self, images: Sequence[ReviewImage]) -> Columns:
        """Return a row for each tag of these images, most frequent first: see the columns.

        count: of these images; total: of all; score: the mean over these images that hold it
        and have one.
        """
        forms, counts, scores = self._counts(images)
        known = self.spellings()
        triggers = {normal_form(tag) for one in self.dataset.sets for tag in one.trigger}
        rows = sorted(
            (-count, -known.totals.get(form, 0), form, score)
            for form, count, score in zip(forms, counts, scores, strict=True)
        )
        names = [known.written.get(form, (form,))[0] for _, _, form, _ in rows]
        return {
            "tag": list(names),
            "count": [-count for count, *_ in rows],
            "total": [-total for _, total, *_ in rows],
            "score": [None if score < 0 else round(score, 4) for *_, score in rows],
            "category": [self._category(form, triggers) for _, _, form, _ in rows],
            "translation": [self.translations.of(form) for _, _, form, _ in rows],
            "spellings": [len(known.written.get(form, (form,))) for _, _, form, _ in rows],
        }

    def _counts(self, images: Sequence[ReviewImage]) -> tuple[list[str], list[int], list[float]]:
        codes = self.dataset.codes
        with self.dataset.lock:
            numbers, steps = codes.gather([image.facts for image in images])
            size = len(codes.forms)
        counts = np.bincount(numbers, minlength=size)
        scored = steps >= 0
        having = np.bincount(numbers[scored], minlength=size)
        sums = np.bincount(numbers[scored], weights=steps[scored], minlength=size)
        means = np.where(having > 0, sums / np.maximum(having, 1) / SCORE_STEPS, -1.0)
        present = np.flatnonzero(counts)
        forms = [codes.forms[place] for place in present.tolist()]
        return forms, counts[present].tolist(), means[present].tolist()

    def _category(self, form: str, triggers: set[str]) -> str:
        return TRIGGER if form in triggers else self.vocabulary.category(form) or ""

    def outliers(self, images: Sequence[ReviewImage], share: float) -> Columns:
        """Return the tags that at least this share of the images has and some lack, and how to
        filter for those.
        """
        captioned = [image for image in images if image.caption is not None]
        forms, counts, _ = self._counts(captioned)
        known = self.spellings()
        rows = sorted(
            (-count, form)
            for form, count in zip(forms, counts, strict=True)
            if share * len(captioned) <= count < len(captioned)
        )
        names = [known.written.get(form, (form,))[0] for _, form in rows]
        return {
            "tag": list(names),
            "count": [-count for count, _ in rows],
            "lacking": [len(captioned) + count for count, _ in rows],
            "where": [show(Not(Match("tag", (name,)))) for name in names],
        }

    def complete(self, typed: str, limit: int) -> Columns:
        """Return the tags that hold what was typed: the whole tag, beginnings of tags, of words,
        then anywhere.

        Within these, tags of the dataset by their number, then the vocabulary in its order. A
        translation counts too.
        """
        form = normal_form(typed)
        known = self.spellings()
        rows: list[tuple[int, int, int, str]] = []
        seen: set[str] = set()
        for other, total in known.totals.items():
            seen.add(other)
            kind = self._kind(form, other)
            if kind is not None:
                rows.append(
                    (
                        kind,
                        -total,
                        self.vocabulary.rank(other) or 0,
                        known.written.get(other, (other,))[0],
                    )
                )
        for rank, name in enumerate(self.vocabulary.names):
            other = normal_form(name)
            kind = self._kind(form, other) if other not in seen else None
            if kind is not None:
                rows.append((kind, 0, rank, name))
        rows = sorted(rows)[:limit]
        forms = [normal_form(name) for *_, name in rows]
        triggers = {normal_form(tag) for one in self.dataset.sets for tag in one.trigger}
        return {
            "tag": [name for *_, name in rows],
            "category": [self._category(form, triggers) for form in forms],
            "count": [-total for _, total, *_ in rows],
            "translation": [self.translations.of(form) for form in forms],
        }

    def _kind(self, typed: str, form: str) -> int | None:
        """Return how well a tag fits what was typed, 0 the best; None where it does not."""
        place = form.find(typed)
        if place < 0:
            return 4 if typed and typed in self.translations.of(form).casefold() else None
        if place == 0:
            return 0 if len(form) == len(typed) else 1
        return 2 if f" {typed}" in form else 3


class Translations:
    """What tags mean in another language: a table `tag,translation` that a person keeps beside the
    dataset.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._meanings = self._read()

    def __bool__(self) -> bool:
        return bool(self._meanings)

    def of(self, form: str) -> str:
        """Return the meaning of a tag by its normal form, "" where none is known."""
        return self._meanings.get(form, "")

    def _read(self) -> dict[str, str]:
        try:
            data = read_regular(self.path, limit=_MOST_TRANSLATIONS)
            rows = list(csv.reader(io.StringIO((data or b"").decode("utf-8-sig"))))
        except DskError as error:
            self.problem = error.message
            return {}
        except (UnicodeDecodeError, csv.Error) as error:
            self.problem = f"{self.path.name} cannot be read: {error}"
            return {}
        pairs = [(normal_form(row[0]), row[1].strip()) for row in rows if len(row) >= 2]
        return {
            form: meaning
            for form, meaning in pairs
            if form and (form, meaning) != ("tag", "translation")
        }
