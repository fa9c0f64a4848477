"""What a tagger is: its labels, its identity, and its scores on a grid of 1e-4, in memory and in
the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from datasetkit.captions.vocabulary import PERSON_COUNT
from datasetkit.core.errors import InputError
from datasetkit.images.pixels import ReducedImage

GENERAL, CHARACTER, RATING = "general", "character", "rating"
# Some models also score these. They are kept and shown, and never written: a caption says what a
# image shows.
UNWRITTEN = ("copyright", "artist", "meta", "quality", "model")
CATEGORIES = (GENERAL, CHARACTER, RATING, *UNWRITTEN)
Precision = Literal["float32", "int8", "bf16", "fp16"]
FLOAT32 = "float32"

# Scores are counted in whole steps of 1e-4: a float32 0.35 lies below the float64 one, 3500 steps
# are 3500 steps.
STEPS = 10_000
# What is no higher is not stored, and so is never selected either: a cached row and a fresh one
# give the same tags.
FLOOR = 100

_PACKED = np.dtype([("label", "<u4"), ("steps", "<u2")])


@dataclass(frozen=True, slots=True)
class Label:
    """One output of a model: its name as captions spell it, and one of CATEGORIES."""

    name: str
    category: str


@dataclass(frozen=True, slots=True)
class Labels:
    """All outputs of a model, in the order of its label file."""

    items: tuple[Label, ...]
    categories: NDArray[np.uint8] = field(init=False, repr=False, compare=False, hash=False)
    persons: NDArray[np.bool_] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        """Note for each label the place of its category in CATEGORIES, and whether it counts
        persons.
        """
        places = {category: place for place, category in enumerate(CATEGORIES)}
        object.__setattr__(
            self, "categories", np.array([places[label.category] for label in self.items], np.uint8)
        )
        persons = [
            label.category == GENERAL and PERSON_COUNT.match(label.name) is not None
            for label in self.items
        ]
        object.__setattr__(self, "persons", np.array(persons, np.bool_))

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.items)

    def rows(self, category: str) -> NDArray[np.intp]:
        """Return the row numbers of one category, rising."""
        return np.flatnonzero(self.categories == CATEGORIES.index(category))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return (name, category) rows, as the score store keeps them; `from_pairs` reads them
        back.
        """
        return tuple((label.name, label.category) for label in self.items)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[str]]) -> Labels:
        """Build labels from (name, category) rows."""
        return cls(tuple(Label(name, category) for name, category in pairs))


@dataclass(frozen=True, slots=True)
class ScoredTag:
    """One tag that was selected, with its rounded score (0 to 1)."""

    name: str
    category: str
    score: float


@dataclass(frozen=True, slots=True)
class Identity:
    """What the scores of an image depend on besides the image: scores of one identity are
    interchangeable.
    """

    name: str
    revision: str
    preprocess: str
    precision: Precision = "float32"

    def key(self) -> str:
        """Return the one string under which scores are stored."""
        exact = f"{self.name}@{self.revision}+{self.preprocess}"
        return exact if self.precision == FLOAT32 else f"{exact}+{self.precision}"


class Tagger(Protocol):
    """A loaded model that scores images.

    identity: see `Identity`. labels: one for each column of the scores. batch_size: how many
    images one call to `scores` takes best; a model with a fixed batch still takes any number.
    pr_threshold: the threshold at which the model's card measured precision = recall, None where it
    gives none. notice: what the person must be told before the tags are trusted, or "". device:
    what it runs on, by its name in `taggers.sessions.PROVIDERS`. fills_cores: `scores` keeps every
    core busy by itself.
    """

    @property
    def identity(self) -> Identity: ...

    @property
    def labels(self) -> Labels: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def pr_threshold(self) -> float | None: ...

    @property
    def notice(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def fills_cores(self) -> bool: ...

    def prepare(self, image: Image.Image) -> object:
        """Turn an image, as `datasetkit.images.pixels.load` gives it, into what `scores` takes;
        safe in many threads.
        """
        ...

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded scores, one row an image: (len(batch), len(labels)), each from 0 to 1."""
        ...

    def close(self) -> None:
        """Let the model's memory go; the tagger is not used afterwards."""
        ...


@runtime_checkable
class FastDecoder(Protocol):
    """A tagger that can do with an image that was decoded at a half, a quarter or an eighth of its
    size.

    decode_at, decode_factor: the long edge in pixels that it shrinks to, and how many times that a
    decoder has to leave (`images.load_reduced`); decode_at is None where whole images were asked
    for.
    """

    @property
    def decode_at(self) -> int | None: ...

    @property
    def decode_factor(self) -> float: ...

    def prepare_shrunk(self, image: ReducedImage) -> object:
        """Do what `prepare` does with an image that its decoder reduced."""
        ...


@dataclass(frozen=True, slots=True)
class TaggerOptions:
    """How a tagger is found and run.

    model_dir: a folder with `model.onnx` and its label file, instead of the hub. provider: "auto"
    or a name of `taggers.sessions.PROVIDERS`. threads: inside one operator on the CPU, 0 = one for
    each core. batch_size: images a call, None = what suits the device; a model with a fixed batch
    keeps its own. precision: what the weights and the arithmetic are. fast_decode: JPEGs are
    decoded at a fraction of their size.
    """

    model_dir: Path | None = None
    provider: str = "auto"
    threads: int = 0
    batch_size: int | None = None
    precision: Precision = "float32"
    fast_decode: bool = False

    @property
    def exact(self) -> bool:
        """Whether nothing is given up for speed."""
        return self.precision == FLOAT32 and not self.fast_decode


@dataclass(frozen=True, slots=True)
class ResolvedTagger:
    """A tagger that was found but not loaded; it can be pickled, so that each process opens its
    own.

    identity, pr_threshold: see `Tagger`. fetch: brings missing model files onto this machine, to be
    called once before any process opens it; does nothing where nothing is missing. notice: what the
    person must be told now.
    """

    identity: Identity
    open: Callable[[], Tagger]
    fetch: Callable[[], None]
    notice: str = ""
    pr_threshold: float | None = None


def steps(scores: ArrayLike) -> NDArray[np.int64]:
    """Count scores in steps of 1e-4, rounded to the nearest: the one rounding that everything else
    uses.
    """
    return np.rint(np.asarray(scores, np.float64) * STEPS).astype(np.int64)


def round_scores(scores: ArrayLike) -> NDArray[np.float32]:
    """Round scores to 1e-4; rounding again changes nothing."""
    return (steps(scores) / STEPS).astype(np.float32)


def pack(row: ArrayLike) -> bytes:
    """Keep every score above 0.01 of one row as (uint32 label, uint16 steps of 1e-4),
    little-endian, labels rising.
    """
    counted = above_floor(row)
    kept = np.flatnonzero(counted)
    packed = np.empty(len(kept), _PACKED)
    packed["label"], packed["steps"] = kept, counted[kept]
    return packed.tobytes()


def unpack(blob: bytes, n_labels: int) -> NDArray[np.float32]:
    """Return the row of `n_labels` scores that `pack` kept, 0 where it kept none.

    Raises InputError when the blob does not fit that many labels.
    """
    labels, counted = unpack_kept(blob, n_labels)
    row = np.zeros(n_labels, np.float32)
    row[labels] = round_scores(counted / STEPS)
    return row


def unpack_kept(blob: bytes, n_labels: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the labels that `pack` kept, rising, and their scores in steps of 1e-4: a few hundred
    of ten thousand.

    Raises InputError when the blob does not fit that many labels.
    """
    if len(blob) % _PACKED.itemsize:
        raise InputError(
            f"stored scores are damaged: {len(blob)} bytes",
            hint="delete .dsk/store.sqlite and tag again",
        )
    packed = np.frombuffer(blob, _PACKED)
    labels = packed["label"].astype(np.intp)
    if (len(labels) and int(labels[-1]) >= n_labels) or (np.diff(labels) <= 0).any():
        raise InputError(
            f"stored scores do not fit the {n_labels} labels",
            hint="delete .dsk/store.sqlite and tag again",
        )
    return labels, packed["steps"].astype(np.int64)


def above_floor(row: ArrayLike) -> NDArray[np.int64]:
    """Count one row in steps, with 0 for what the store would not keep."""
    counted = np.clip(steps(row), 0, STEPS)
    counted[counted <= FLOOR] = 0
    return counted
