"""Tables of the review page: tags with counts and scores, tags that most images have, and tag
completions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from datasetkit.captions.caption import normal_form
from datasetkit.captions.filters import Match, Not, show
from datasetkit.captions.predicates import SCORE_STEPS
from datasetkit.captions.selectors import load_groups
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.dataset.reports import TRIGGER
from datasetkit.verbs.review.dataset import ReviewDataset
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.shared.tag_meanings import TagMeanings

Columns = dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class Spellings:
    """The tags of one version of the dataset, by normal form. spellings: the most common first."""

    version: int
    totals: Mapping[str, int]
    spellings: Mapping[str, tuple[str, ...]]

    def of(self, form: str) -> tuple[str, ...]:
        return self.spellings.get(form, (form,))


class TagTables:
    """Tables over a dataset. What depends on the version only is computed once per version."""

    def __init__(
        self, dataset: ReviewDataset, vocabulary: Vocabulary, meanings: TagMeanings
    ) -> None:
        self.dataset, self.vocabulary, self.translations = dataset, vocabulary, meanings
        self._spellings: Spellings | None = None
        self._group_names: dict[str, frozenset[str]] = {}

    def spellings(self) -> Spellings:
        """Return how the tags of the whole dataset are spelled and how many images have each."""
        with self.dataset.lock:
            spellings = self._spellings
            if spellings is None or spellings.version != self.dataset.version:
                spellings = self._spellings = self._count_spellings()
            return spellings

    def _count_spellings(self) -> Spellings:
        images = self.dataset.all()
        counts = Counter(
            chain.from_iterable(p.caption.tags for p in images if p.caption is not None)
        )
        by_form: dict[str, list[str]] = {}
        for spelling, _ in counts.most_common():
            by_form.setdefault(normal_form(spelling), []).append(spelling)
        return Spellings(
            self.dataset.version,
            Counter(chain.from_iterable(p.facts.forms for p in images)),
            {form: tuple(spellings) for form, spellings in by_form.items()},
        )

    def tags(self, images: Sequence[ReviewImage]) -> Columns:
        """Return a row for each tag of these images, the most frequent first.

        count: how many of these images have it; total: how many of all; score: the mean over these
        images, None without scores; spellings: in how many ways it is spelled.
        """
        all_tags = self.spellings()
        rows = sorted(
            (-count, -all_tags.totals.get(form, 0), form, score)
            for form, count, score in zip(*self._counts(images), strict=True)
        )
        forms = [form for _, _, form, _ in rows]
        return {
            "tag": [all_tags.of(form)[0] for form in forms],
            "count": [-count for count, *_ in rows],
            "total": [-total for _, total, *_ in rows],
            "score": [None if score < 0 else round(score, 4) for *_, score in rows],
            "category": self._categories(forms),
            "translation": [self.translations.of(form) for form in forms],
            "spellings": [len(all_tags.of(form)) for form in forms],
        }

    def _counts(self, images: Sequence[ReviewImage]) -> tuple[list[str], list[int], list[float]]:
        """Return the tags of images, how many images have each, and the mean score, -1 without."""
        codes = self.dataset.codes
        with self.dataset.lock:
            numbers, steps = codes.gather([image.facts for image in images])
            size = len(codes.forms)
        counts = np.bincount(numbers, minlength=size)
        scored = steps >= 0
        scored_counts = np.bincount(numbers[scored], minlength=size)
        sums = np.bincount(numbers[scored], weights=steps[scored], minlength=size)
        means = np.where(scored_counts > 0, sums / np.maximum(scored_counts, 1) / SCORE_STEPS, -1.0)
        present = np.flatnonzero(counts)
        forms = [codes.forms[index] for index in present.tolist()]
        return forms, counts[present].tolist(), means[present].tolist()

    def groups(self, images: Sequence[ReviewImage], tags: Sequence[object]) -> Columns:
        """Return the tag groups that these images have a tag of, e.g. `@face`.

        images: how many have one; rows: of the tags in `tags`.
        """
        members = [self._groups_of(normal_form(str(tag))) for tag in tags]
        names = [name for name in load_groups() if any(name in groups for groups in members)]
        codes = self.dataset.codes
        with self.dataset.lock:
            arrays = [codes.of(image.facts)[0] for image in images]
            forms = codes.forms[:]
        owner = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
        numbers = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        counts = []
        for name in names:
            of_group = np.fromiter((name in self._groups_of(f) for f in forms), bool, len(forms))
            counts.append(len(np.unique(owner[of_group[numbers]])))
        return {
            "name": [f"@{name}" for name in names],
            "images": list(counts),
            "rows": [
                [row for row, groups in enumerate(members) if name in groups] for name in names
            ],
        }

    def _groups_of(self, form: str) -> frozenset[str]:
        known = self._group_names.get(form)
        if known is None:
            category = self.vocabulary.category(form)
            known = self._group_names[form] = frozenset(
                name for name, group in load_groups().items() if group.matches(form, category)
            )
        return known

    def _categories(self, forms: Sequence[str]) -> list[object]:
        triggers = frozenset[str]().union(*(t.forms for t in self.dataset.triggers().values()))
        return [
            TRIGGER if form in triggers else self.vocabulary.category(form) or "" for form in forms
        ]

    def outliers(self, images: Sequence[ReviewImage], share: float) -> Columns:
        """Return the tags that at least this share of the images has, but not all of them.

        missing: how many images do not have the tag; where: the filter that matches those.
        """
        captioned = [image for image in images if image.caption is not None]
        forms, counts, _ = self._counts(captioned)
        all_tags = self.spellings()
        rows = sorted(
            (-count, form)
            for form, count in zip(forms, counts, strict=True)
            if share * len(captioned) <= count < len(captioned)
        )
        names = [all_tags.of(form)[0] for _, form in rows]
        return {
            "tag": list(names),
            "count": [-count for count, _ in rows],
            "missing": [len(captioned) + count for count, _ in rows],
            "where": [show(Not(Match("tag", (name,)))) for name in names],
        }

    def complete(self, typed: str, limit: int) -> Columns:
        """Return the tags that contain what was typed, the best matches first.

        The order: the whole tag, start of the tag, start of a word, anywhere, only in the
        translation; within each, tags of the dataset by count, then the vocabulary in its order.
        """
        rows = sorted(self._completions(normal_form(typed)))[:limit]
        forms = [normal_form(name) for *_, name in rows]
        return {
            "tag": [name for *_, name in rows],
            "category": self._categories(forms),
            "count": [-total for _, total, *_ in rows],
            "translation": [self.translations.of(form) for form in forms],
        }

    def _completions(self, typed: str) -> Iterator[tuple[int, int, int, str]]:
        """Yield matching tags as (match rank, -count, vocabulary rank, spelling)."""
        all_tags = self.spellings()
        for form, total in all_tags.totals.items():
            rank = self._match_rank(typed, form)
            if rank is not None:
                yield rank, -total, self.vocabulary.rank(form) or 0, all_tags.of(form)[0]
        for order, name in enumerate(self.vocabulary.names):
            form = normal_form(name)
            if form in all_tags.totals:
                continue
            rank = self._match_rank(typed, form)
            if rank is not None:
                yield rank, 0, order, name

    def _match_rank(self, typed: str, form: str) -> int | None:
        """Return how well a tag matches what was typed, 0 the best; None if it does not match."""
        start = form.find(typed)
        if start < 0:
            return 4 if typed and typed in self.translations.of(form).casefold() else None
        if start == 0:
            return 0 if len(form) == len(typed) else 1
        return 2 if f" {typed}" in form else 3
