"""Stored scores: what the taggers gave the images of a dataset, as the store remembers it; no
model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from datasetkit.captions.caption import normal_form
from datasetkit.options.tag import TagOptions
from datasetkit.project.store import Store
from datasetkit.verbs.shared import scoring
from taggers import models, registry
from taggers.base import Labels
from taggers.combine import Combination
from taggers.selection import KeptScores

_READ_AT_ONCE = 1024


class ScoreSource:
    """One tagger, or several as one: where its scores stand. forms: the normal forms of its
    labels.
    """

    def __init__(self, keys: Sequence[str], several: Sequence[Labels], options: TagOptions) -> None:
        self.keys = tuple(keys)
        self.several = tuple(several)
        self.combination = Combination.of(several, options.combine)
        self.forms = tuple(normal_form(label.name) for label in self.labels.items)
        self.places = {form: place for place, form in reversed(list(enumerate(self.forms)))}

    @property
    def labels(self) -> Labels:
        return self.combination.labels

    def read(self, store: Store, images: Sequence[str]) -> dict[str, KeptScores]:
        """Return the scores of the images that every tagger of the source has seen."""
        rows = [store.scores_of(images, key) for key in self.keys]
        seen = set(rows[0]).intersection(*rows[1:])
        pairs = list(zip(rows, self.several, strict=True))
        return {
            image: self.combination.row(
                [KeptScores.stored(known[image], labels) for known, labels in pairs]
            )
            for image in seen
        }


class StoredScores:
    """Scores by image id: of the taggers that options name, or with "auto" of the one that saw
    the image last.
    """

    def __init__(self, store: Store, options: TagOptions) -> None:
        known = [(key, Labels.from_pairs(pairs)) for key, pairs in store.models()]
        self.options = options
        self.sources: tuple[ScoreSource, ...]
        if options.tagger == registry.AUTO:
            self.sources = tuple(ScoreSource([key], [labels], options) for key, labels in known)
        else:
            wanted = [
                models.find(name).name if "/" in name else name for name in scoring.names(options)
            ]
            found = [
                next((one for one in known if one[0].startswith(f"{name}@")), None)
                for name in wanted
            ]
            there = [one for one in found if one is not None]
            whole = len(there) == len(wanted)
            self.sources = (
                (ScoreSource([k for k, _ in there], [n for _, n in there], options),)
                if whole
                else ()
            )
        self._kept: dict[str, tuple[KeptScores, ScoreSource]] = {}
        self._by_form: dict[str, dict[str, int]] = {}

    def read(self, store: Store, images: Iterable[str]) -> None:
        """Take the scores of images into memory (about 500 bytes each)."""
        left = [image for image in dict.fromkeys(images) if image and image not in self._kept]
        for source in self.sources:
            for at in range(0, len(left), _READ_AT_ONCE):
                for image, kept in source.read(store, left[at : at + _READ_AT_ONCE]).items():
                    self._kept[image] = kept, source
            left = [image for image in left if image not in self._kept]

    def of(self, image: str) -> tuple[KeptScores, ScoreSource] | None:
        """Return an image's scores, and whose they are; None where it was not tagged."""
        return self._kept.get(image)

    def by_form(self, image: str) -> Mapping[str, int]:
        """Return an image's scores in steps of 1e-4 by the normal form of the tag."""
        known = self._by_form.get(image)
        if known is None:
            found = self._kept.get(image)
            known = {}
            if found is not None:
                kept, source = found
                forms = source.forms
                # A name that stands in two categories keeps its higher score.
                for row, steps in zip(kept.rows.tolist(), kept.counted.tolist(), strict=True):
                    known[forms[row]] = max(steps, known.get(forms[row], 0))
            self._by_form[image] = known
        return known


def threshold_of(options: TagOptions, key: str) -> float:
    """Return the threshold that options ask for: a number, or what the card of the tagger with this
    key says.
    """
    if not isinstance(options.threshold, str):
        return options.threshold
    name = key.partition("@")[0]
    known = models.MODELS.get(name)
    if known is None or known.pr_threshold is None:
        raise scoring.no_card_value(name)
    return known.pr_threshold
