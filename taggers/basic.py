"""The basic tagger: a few dozen tags from small models that are part of the package, where WD14
cannot be fetched.
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

# The score of evidence that is just enough; it equals the default threshold of `dsk tag`.
ENOUGH = 0.35
LEAST_FACE = 0.2  # BlazeFace's score below which a face is not even weighed


@dataclass(frozen=True, slots=True)
class TagTable:
    """data/basic_tags.toml: the evidence that each tag needs, where each evidence is enough, and
    classes of nouns.
    """

    tags: Mapping[str, tuple[str, ...]]
    cuts: Mapping[str, float]
    nouns: Mapping[str, tuple[int, ...]]


@cache
def table() -> TagTable:
    """Read the table once; tags in the order of the vocabulary."""
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
    """One image as the models take it: for faces (also mirrored), for nouns, for the medium, and
    its colours.
    """

    size: tuple[int, int]
    fitted: faces.Letterbox
    mirrored: faces.Letterbox
    nouns: NDArray[np.float32]
    medium: NDArray[np.float32]
    texture: float
    pixels: NDArray[np.float32]


class BasicTagger:
    """The basic tagger, ready to run; see `taggers.base.Tagger` and docs/basic-tagger.md."""

    identity = Identity(name="basic", revision="1", preprocess="basic-1")
    batch_size = 1
    pr_threshold: float | None = None
    device = "cpu"
    fills_cores = False
    notice = (
        "basic is a fallback for WD14: it knows only framing, solo, plain backgrounds, colours "
        "and a few objects; "
        "tag again with a WD14 model when one can be fetched"
    )

    def __init__(self, threads: int = 1) -> None:
        """Load the packaged models; raises MissingExtra without onnxruntime, ModelFileError for
        damaged files.
        """
        self.labels = Labels(tuple(Label(tag, GENERAL) for tag in table().tags))
        self._faces = faces.FaceFinder(threads)
        self._nouns = nouns.NounClassifier(threads)
        self._medium = medium.MediumClassifier(threads)

    def prepare(self, image: Image.Image) -> PreparedImage:
        """Make the models' inputs of an upright RGB image; safe in many threads."""
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
        """Return rounded scores, (len(batch), len(labels)); images are seen one by one, so a
        batch changes none.
        """
        rows = [self._row(image) for image in batch if isinstance(image, PreparedImage)]
        if len(rows) != len(batch):
            raise TypeError("scores takes what prepare returned")
        return round_scores(np.array(rows, np.float64).reshape(len(batch), len(self.labels)))

    def close(self) -> None:
        """Let the models' memory go."""
        del self._faces, self._nouns, self._medium

    def _row(self, image: PreparedImage) -> list[float]:
        evidence = gather(self._observe(image), table().nouns)
        return [
            min(calibrated(name, evidence[name]) for name in needed)
            for needed in table().tags.values()
        ]

    def _observe(self, image: PreparedImage) -> Observation:
        seen = self._faces.find_in(image.fitted, threshold=LEAST_FACE)
        mirrored = self._faces.find_in(image.mirrored, threshold=LEAST_FACE)
        return Observation(
            size=image.size,
            faces=faces.join_mirrored(seen, mirrored, image.size[0]),
            nouns=self._nouns.probabilities([image.nouns])[0],
            photo=float(self._medium.photo([image.medium])[0]),
            texture=image.texture,
            pixels=image.pixels,
        )


def calibrated(name: str, evidence: float) -> float:
    """Turn evidence from 0 to 1 into a score in which ENOUGH is where it was found to be enough;
    two straight lines.
    """
    cut = _cut(name)
    evidence = min(max(evidence, 0.0), 1.0)
    if evidence < cut:
        return ENOUGH * evidence / cut
    return ENOUGH + (1.0 - ENOUGH) * (evidence - cut) / (1.0 - cut)


def _cut(name: str) -> float:
    """Return the cut of an evidence; those of all colours of one kind have one cut: `tint is red`
    has `tint is`'s.
    """
    cuts = table().cuts
    return cuts[name] if name in cuts else cuts[name.rpartition(" ")[0]]
