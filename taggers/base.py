"""The interface of a tagger: its labels, its identity, and its scores, rounded to 1e-4 in memory
and in the store.

To add a tagger, write a class that follows `Tagger` and name it in `taggers.registry.TAGGERS`.
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
# Some models also score these. They are stored and displayed, but not written: a caption describes
# what the image shows.
UNWRITTEN = ("copyright", "artist", "meta", "quality", "model")
CATEGORIES = (GENERAL, CHARACTER, RATING, *UNWRITTEN)
Precision = Literal["float32", "int8", "bf16", "fp16"]
FLOAT32 = "float32"

# Scores are compared as whole numbers of steps of 1e-4, since 0.35 in float32 is less than 0.35 in
# float64.
STEPS = 10_000
# Scores up to this are not stored, and never selected: stored and new scores give the same tags.
FLOOR = 100

_PACKED = np.dtype([("label", "<u4"), ("steps", "<u2")])


@dataclass(frozen=True, slots=True)
class Label:
    """One output of a model. name: as captions spell it. category: one of CATEGORIES."""

    name: str
    category: str


@dataclass(frozen=True, slots=True)
class Labels:
    """All outputs of a model, in the order of its label file."""

    items: tuple[Label, ...]
    categories: NDArray[np.uint8] = field(init=False, repr=False, compare=False, hash=False)
    persons: NDArray[np.bool_] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        """Compute for each label the index of its category in CATEGORIES, and whether it counts
        persons.
        """
        numbers = {category: number for number, category in enumerate(CATEGORIES)}
        categories = [numbers[label.category] for label in self.items]
        object.__setattr__(self, "categories", np.array(categories, np.uint8))
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
        """Return the indices of the labels of one category, ascending."""
        return np.flatnonzero(self.categories == CATEGORIES.index(category))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return the labels as (name, category), the form in which they are stored."""
        return tuple((label.name, label.category) for label in self.items)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[str]]) -> Labels:
        """Build labels from (name, category) pairs."""
        return cls(tuple(Label(name, category) for name, category in pairs))


@dataclass(frozen=True, slots=True)
class ScoredTag:
    """A selected tag with its rounded score, 0 to 1."""

    name: str
    category: str
    score: float


@dataclass(frozen=True, slots=True)
class Identity:
    """All that the scores of an image depend on, besides the image: scores of the same identity are
    interchangeable.
    """

    name: str
    revision: str
    preprocess: str
    precision: Precision = "float32"

    def key(self) -> str:
        """Return the key under which scores are stored."""
        exact = f"{self.name}@{self.revision}+{self.preprocess}"
        return exact if self.precision == FLOAT32 else f"{exact}+{self.precision}"


class Tagger(Protocol):
    """A loaded model that scores images.

    identity: see `Identity`. labels: one for each column of the scores. batch_size: how many images
    one call to `scores` takes best; any number works. pr_threshold: the threshold where the model's
    card reports precision = recall, None if it reports none. notice: a warning to show before the
    tags are used, or "". device: the provider it runs on, as in `providers.PROVIDERS`. fills_cores:
    `scores` keeps all cores busy by itself.
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
        """Turn an image from `datasetkit.images.pixels.load` into an input of `scores`.

        It may be called from many threads.
        """
        ...

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded scores from 0 to 1: (len(batch), len(labels))."""
        ...

    def close(self) -> None:
        """Free the model's memory; the tagger is not used afterwards."""
        ...


@runtime_checkable
class FastDecoder(Protocol):
    """A tagger that also takes images decoded at a half, a quarter or an eighth of their size.

    decode_at: the long edge in pixels that it resizes to, None if images must be decoded whole.
    decode_factor: the least multiple of it that a decoder may reduce an image to
    (`pixels.load_reduced`).
    """

    @property
    def decode_at(self) -> int | None: ...

    @property
    def decode_factor(self) -> float: ...

    def prepare_shrunk(self, image: ReducedImage) -> object:
        """Do what `prepare` does, with an image that its decoder reduced."""
        ...


@dataclass(frozen=True, slots=True)
class TaggerOptions:
    """Where a tagger is found and how it is run.

    model_dir: a folder with `model.onnx` and its label file, instead of the hub. provider: "auto"
    or a name of `providers.PROVIDERS`. threads: within one operator on the CPU, 0 = one for each
    core. batch_size: images per call, None = what suits the device; a model with a fixed batch
    keeps it. precision: of the weights and the arithmetic. fast_decode: decode JPEGs at a fraction
    of their size.
    """

    model_dir: Path | None = None
    provider: str = "auto"
    threads: int = 0
    batch_size: int | None = None
    precision: Precision = "float32"
    fast_decode: bool = False

    @property
    def exact(self) -> bool:
        """Whether no accuracy is given up for speed."""
        return self.precision == FLOAT32 and not self.fast_decode


@dataclass(frozen=True, slots=True)
class ResolvedTagger:
    """A tagger that was found but not loaded. It can be pickled, so that each process opens its
    own.

    identity, pr_threshold: see `Tagger`. fetch: downloads the model files that are missing; it is
    called once, before any process opens the tagger. notice: a warning to show now, or "".
    fallback: why `auto` chose this one in the place of WD14, and what to do; "" if it did not.
    """

    identity: Identity
    open: Callable[[], Tagger]
    fetch: Callable[[], None]
    notice: str = ""
    pr_threshold: float | None = None
    fallback: str = ""


def steps(scores: ArrayLike) -> NDArray[np.int64]:
    """Return scores in steps of 1e-4, rounded to the nearest: the one place where scores are
    rounded.
    """
    return np.rint(np.asarray(scores, np.float64) * STEPS).astype(np.int64)


def round_scores(scores: ArrayLike) -> NDArray[np.float32]:
    """Round scores to 1e-4."""
    return (steps(scores) / STEPS).astype(np.float32)


def pack(row: ArrayLike) -> bytes:
    """Pack the scores above 0.01 of one row as (uint32 label, uint16 steps of 1e-4), little-endian,
    labels ascending.
    """
    counted = above_floor(row)
    kept = np.flatnonzero(counted)
    packed = np.empty(len(kept), _PACKED)
    packed["label"], packed["steps"] = kept, counted[kept]
    return packed.tobytes()


def unpack(blob: bytes, n_labels: int) -> NDArray[np.float32]:
    """Return the row of `n_labels` scores that `pack` packed, with 0 for those it left out.

    Raises InputError if the blob does not fit that many labels.
    """
    labels, counted = unpack_kept(blob, n_labels)
    row = np.zeros(n_labels, np.float32)
    row[labels] = round_scores(counted / STEPS)
    return row


def unpack_kept(blob: bytes, n_labels: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the labels in a packed row, ascending, and their scores in steps of 1e-4: a few
    hundred of ten thousand.

    Raises InputError if the blob does not fit that many labels.
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
    """Return one row in steps, with 0 for scores that are not stored."""
    counted = np.clip(steps(row), 0, STEPS)
    counted[counted <= FLOOR] = 0
    return counted
