"""The basic tagger: a few dozen tags from small models that come with the package, a fallback for
when WD14 cannot be downloaded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasetkit.captions import vocabulary
from datasetkit.vision import colours, faces, medium, nouns
from taggers.base import GENERAL, Identity, Label, Labels, round_scores
from taggers.evidence import Observation, gather

# The score of evidence at its cut; it is the default threshold of `dsk tag`.
ENOUGH = 0.35
LEAST_FACE = 0.2  # BlazeFace's score below which a face is ignored


@dataclass(frozen=True, slots=True)
class TagTable:
    """data/basic_tags.toml.

    tags: tag -> the evidence that it needs. cuts: evidence -> the value from which it is enough.
    nouns: noun -> its ImageNet classes.
    """

    tags: Mapping[str, tuple[str, ...]]
    cuts: Mapping[str, float]
    nouns: Mapping[str, tuple[int, ...]]


@cache
def table() -> TagTable:
    """Return the table, read once, with the tags in the order of the vocabulary."""
    text = files("datasetkit").joinpath("data", "basic_tags.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    rows = {tag: row for row, tag in enumerate(vocabulary.load().names)}
    tags = {tag: tuple(raw["tags"][tag]) for tag in sorted(raw["tags"], key=rows.__getitem__)}
    names = nouns.nouns()
    numbers = {
        noun: tuple(number for number, name in enumerate(names) if name in classes)
        for noun, classes in raw["nouns"].items()
    }
    return TagTable(tags, raw["cuts"], numbers)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image as the inputs of all models: faces (also mirrored), nouns, medium, colours."""

    size: tuple[int, int]
    fitted: faces.Letterbox
    mirrored: faces.Letterbox
    nouns: NDArray[np.float32]
    medium: NDArray[np.float32]
    texture: float
    pixels: NDArray[np.float32]


class BasicTagger:
    """The basic tagger; see `taggers.base.Tagger` and docs/basic-tagger.md."""

    identity = Identity(name="basic", revision="1", preprocess="basic-1")
    batch_size = 1
    pr_threshold: float | None = None
    device = "cpu"
    fills_cores = False
    notice = (
        "basic is a fallback for WD14: it knows only framing, solo, plain backgrounds, colours and "
        "a few objects; tag again with a WD14 model when one can be downloaded"
    )

    def __init__(self, threads: int = 1) -> None:
        """Load the packaged models. Raises MissingExtra without onnxruntime, ModelFileError for
        damaged files.
        """
        self.labels = Labels(tuple(Label(tag, GENERAL) for tag in table().tags))
        self._faces = faces.FaceFinder(threads)
        self._nouns = nouns.NounClassifier(threads)
        self._medium = medium.MediumClassifier(threads)

    def prepare(self, image: Image.Image) -> PreparedImage:
        """Turn an upright RGB image into the models' inputs; may be called from many threads."""
        return PreparedImage(
            size=image.size,
            fitted=faces.letterbox(image),
            mirrored=faces.letterbox(ImageOps.mirror(image)),
            nouns=nouns.prepare(image),
            medium=medium.prepare(image),
            texture=medium.texture(image),
            pixels=colours.sample(image),
        )

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded scores, (len(batch), len(labels)). Images are scored one by one, so the
        batch size changes none.
        """
        rows = [self._row(image) for image in batch if isinstance(image, PreparedImage)]
        if len(rows) != len(batch):
            raise TypeError("scores takes the results of prepare")
        return round_scores(np.array(rows, np.float64).reshape(len(batch), len(self.labels)))

    def close(self) -> None:
        """Free the models' memory."""
        del self._faces, self._nouns, self._medium

    def _row(self, image: PreparedImage) -> list[float]:
        evidence = gather(self._observe(image), table().nouns)
        return [
            min(calibrated(name, evidence[name]) for name in names)
            for names in table().tags.values()
        ]

    def _observe(self, image: PreparedImage) -> Observation:
        direct = self._faces.find_in(image.fitted, threshold=LEAST_FACE)
        mirrored = self._faces.find_in(image.mirrored, threshold=LEAST_FACE)
        return Observation(
            size=image.size,
            faces=faces.join_mirrored(direct, mirrored, image.size[0]),
            nouns=self._nouns.probabilities([image.nouns])[0],
            photo=float(self._medium.photo([image.medium])[0]),
            texture=image.texture,
            pixels=image.pixels,
        )


def calibrated(name: str, evidence: float) -> float:
    """Turn evidence into a score, both from 0 to 1, linearly below and above its cut, which becomes
    ENOUGH.
    """
    cut = _cut(name)
    evidence = min(max(evidence, 0.0), 1.0)
    if evidence < cut:
        return ENOUGH * evidence / cut
    return ENOUGH + (1.0 - ENOUGH) * (evidence - cut) / (1.0 - cut)


def _cut(name: str) -> float:
    """Return the cut of an evidence; all colours of one kind share it: `tint is red` has the cut of
    `tint is`.
    """
    cuts = table().cuts
    return cuts[name] if name in cuts else cuts[name.rpartition(" ")[0]]
