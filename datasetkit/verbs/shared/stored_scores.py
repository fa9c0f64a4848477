"""The stored tagger scores of the images of a dataset; no model is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from datasetkit.captions.caption import normal_form
from datasetkit.options.tag import TagOptions
from datasetkit.project.store import Store
from datasetkit.verbs.shared import scoring
from taggers import models, registry
from taggers.base import Labels
from taggers.combine import Combination
from taggers.selection import KeptScores

T = TypeVar("T")

_READ_AT_ONCE = 1024


class ScoreSource:
    """One tagger, or several combined. forms: the normal forms of its labels."""

    def __init__(self, keys: Sequence[str], several: Sequence[Labels], options: TagOptions) -> None:
        self.keys = tuple(keys)
        self.several = tuple(several)
        self.combination = Combination.of(several, options.combine)
        self.forms = tuple(normal_form(label.name) for label in self.labels.items)

    @property
    def labels(self) -> Labels:
        return self.combination.labels

    def read(self, store: Store, images: Sequence[str]) -> dict[str, KeptScores]:
        """Return the scores of the images that every tagger of the source has scored."""
        blobs = [store.scores_of(images, key) for key in self.keys]
        scored = set(blobs[0]).intersection(*blobs[1:])
        pairs = list(zip(blobs, self.several, strict=True))
        return {
            image: self.combination.row(
                [KeptScores.stored(blob[image], labels) for blob, labels in pairs]
            )
            for image in scored
        }


class StoredScores:
    """Scores by image id: of the taggers that options name, or with "auto" of the last one that
    scored the image.
    """

    def __init__(self, store: Store, options: TagOptions) -> None:
        stored = [(key, Labels.from_pairs(pairs)) for key, pairs in store.models()]
        self.options = options
        if options.tagger == registry.AUTO:
            sources = [ScoreSource([key], [labels], options) for key, labels in stored]
        else:
            named = of_named_taggers(stored, options)
            keys, labels_of = [key for key, _ in named], [labels for _, labels in named]
            sources = [ScoreSource(keys, labels_of, options)] if named else []
        self.sources = tuple(sources)
        self._kept: dict[str, tuple[KeptScores, ScoreSource]] = {}
        self._by_form: dict[str, dict[str, int]] = {}

    def read(self, store: Store, images: Iterable[str]) -> None:
        """Load the scores of images into memory (about 500 bytes each)."""
        missing = [image for image in dict.fromkeys(images) if image and image not in self._kept]
        for source in self.sources:
            for at in range(0, len(missing), _READ_AT_ONCE):
                for image, kept in source.read(store, missing[at : at + _READ_AT_ONCE]).items():
                    self._kept[image] = kept, source
            missing = [image for image in missing if image not in self._kept]

    def of(self, image: str) -> tuple[KeptScores, ScoreSource] | None:
        """Return the scores of an image with their source; None if it was not tagged."""
        return self._kept.get(image)

    def by_form(self, image: str) -> Mapping[str, int]:
        """Return the scores of an image in units of 1e-4, by the normal form of the tag."""
        scores = self._by_form.get(image)
        if scores is None:
            scores = self._by_form[image] = {}
            stored = self._kept.get(image)
            if stored is not None:
                kept, source = stored
                # A tag in two categories keeps its higher score.
                for row, steps in zip(kept.rows.tolist(), kept.counted.tolist(), strict=True):
                    form = source.forms[row]
                    scores[form] = max(steps, scores.get(form, 0))
        return scores


def of_named_taggers(stored: Sequence[tuple[str, T]], options: TagOptions) -> list[tuple[str, T]]:
    """Return the entries (tagger key, value) of the taggers that the options name, in that order;
    none unless all have one.
    """
    names = [models.find(name).name if "/" in name else name for name in scoring.names(options)]
    entries = [
        next((entry for entry in stored if entry[0].startswith(f"{name}@")), None) for name in names
    ]
    return [entry for entry in entries if entry is not None] if None not in entries else []


def threshold_of(options: TagOptions, key: str) -> float:
    """Return the threshold of the options: a number, or for "pr" that of the tagger's card."""
    if not isinstance(options.threshold, str):
        return options.threshold
    name = key.partition("@")[0]
    model = models.MODELS.get(name)
    if model is None or model.pr_threshold is None:
        raise scoring.no_card_value(name)
    return model.pr_threshold
