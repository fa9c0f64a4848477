"""What a tagger is: its labels, its scores on a grid of 1e-4, and how a row of scores becomes tags."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from datasetkit.core.errors import InputError
from datasetkit.core.vocabulary import PERSON_COUNT

GENERAL, CHARACTER, RATING = "general", "character", "rating"
CATEGORIES = (GENERAL, CHARACTER, RATING)
RatingPlace = Literal["none", "first", "last"]

# Scores are counted in whole steps of 1e-4: a float32 0.35 lies below the float64 one, 3500 steps are 3500 steps.
STEPS = 10_000
# What is no higher is not stored, and so is never selected either: a cached row and a fresh one give the same tags.
FLOOR = 100
# MCut on characters alone would pick one out of pure noise; the models' own app has the same lower bound.
CHARACTER_MCUT_FLOOR = 0.15

_PACKED = np.dtype([("label", "<u4"), ("steps", "<u2")])


@dataclass(frozen=True, slots=True)
class Label:
    """One output of a model: its name as captions spell it, and "general", "character" or "rating"."""

    name: str
    category: str


@dataclass(frozen=True, slots=True)
class Labels:
    """All outputs of a model, in the order of its label file."""

    items: tuple[Label, ...]
    _rows: dict[str, NDArray[np.intp]] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        found: dict[str, list[int]] = {category: [] for category in CATEGORIES}
        for row, label in enumerate(self.items):
            found[label.category].append(row)
        object.__setattr__(self, "_rows", {category: np.array(rows, np.intp) for category, rows in found.items()})

    def __len__(self) -> int:
        return len(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.items)

    def rows(self, category: str) -> NDArray[np.intp]:
        """Return the row numbers of one category, rising."""
        return self._rows[category]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return (name, category) rows, as the score store keeps them; `from_pairs` reads them back."""
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
    """What the scores of a picture depend on besides the picture: scores of one identity are interchangeable."""

    name: str
    revision: str
    preprocess: str

    def key(self) -> str:
        """Return the one string under which scores are stored."""
        return f"{self.name}@{self.revision}+{self.preprocess}"


class Tagger(Protocol):
    """A loaded model that scores pictures.

    identity: see `Identity`. labels: one for each column of the scores. batch_size: how many pictures one call to
    `scores` takes best; a model with a fixed batch still takes any number. pr_threshold: the threshold at which the
    model's card measured precision = recall, None where it gives none. notice: what the person must be told before
    the tags are trusted, or "".
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

    def prepare(self, image: Image.Image) -> object:
        """Turn a picture, as `datasetkit.images.load` gives it, into what `scores` takes; safe in many threads."""
        ...

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        """Return rounded scores, one row a picture: (len(batch), len(labels)), each from 0 to 1."""
        ...

    def close(self) -> None:
        """Let the model's memory go; the tagger is not used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class TaggerOptions:
    """How a tagger is found and run.

    model_dir: a folder with `model.onnx` and `selected_tags.csv`, instead of the hub. provider: "auto" or a name of
    `taggers.sessions.PROVIDERS`. threads: inside one operator on the CPU, 0 = one for each core. batch_size: pictures
    a call, None = what suits the device; a model with a fixed batch keeps its own.
    """

    model_dir: Path | None = None
    provider: str = "auto"
    threads: int = 0
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A tagger that was found but not loaded; it can be pickled, so that each process opens its own.

    identity, pr_threshold: see `Tagger`. fetch: brings missing model files onto this machine, to be called once
    before any process opens it; does nothing where nothing is missing. notice: what the person must be told now.
    """

    identity: Identity
    open: Callable[[], Tagger]
    fetch: Callable[[], None]
    notice: str = ""
    pr_threshold: float | None = None


def steps(scores: ArrayLike) -> NDArray[np.int64]:
    """Count scores in steps of 1e-4, rounded to the nearest: the one rounding that everything else uses."""
    return np.rint(np.asarray(scores, np.float64) * STEPS).astype(np.int64)


def round_scores(scores: ArrayLike) -> NDArray[np.float32]:
    """Round scores to 1e-4; rounding again changes nothing."""
    return (steps(scores) / STEPS).astype(np.float32)


def pack(row: ArrayLike) -> bytes:
    """Keep every score above 0.01 of one row as (uint32 label, uint16 steps of 1e-4), little-endian, labels rising."""
    counted = _above_floor(row)
    kept = np.flatnonzero(counted)
    packed = np.empty(len(kept), _PACKED)
    packed["label"], packed["steps"] = kept, counted[kept]
    return packed.tobytes()


def unpack(blob: bytes, n_labels: int) -> NDArray[np.float32]:
    """Return the row of `n_labels` scores that `pack` kept, 0 where it kept none.

    Raises InputError when the blob does not fit that many labels.
    """
    if len(blob) % _PACKED.itemsize:
        raise InputError(f"stored scores are damaged: {len(blob)} bytes", hint="delete .dsk/store.sqlite and tag again")
    packed = np.frombuffer(blob, _PACKED)
    if len(packed) and int(packed["label"].max()) >= n_labels:
        raise InputError(
            f"stored scores name label {int(packed['label'].max())} of {n_labels}",
            hint="delete .dsk/store.sqlite and tag again",
        )
    row = np.zeros(n_labels, np.float32)
    row[packed["label"]] = round_scores(packed["steps"] / STEPS)
    return row


def mcut(scores: ArrayLike) -> float:
    """Return the middle of the largest gap between neighbouring scores, the highest of equal gaps.

    A single score is parted from 0. Source: Largeron, Moulin and Géry, "MCut: a thresholding strategy for
    multi-label classification", IDA 2012.
    """
    falling = -np.sort(-steps(scores))
    if len(falling) < 2:
        falling = np.append(falling, [0] * (2 - len(falling)))
    at = int(np.argmax(falling[:-1] - falling[1:]))
    return float(falling[at] + falling[at + 1]) / (2 * STEPS)


def select(
    row: ArrayLike,
    labels: Labels,
    *,
    threshold: float,
    character_threshold: float,
    mcut: bool = False,
    rating: RatingPlace = "none",
) -> tuple[ScoredTag, ...]:
    """Choose the tags of one picture from its scores, in caption order.

    Order: the rating if asked for first; characters; counts of persons (`1girl`, `2boys`); all other general tags;
    the rating if asked for last. Within each by falling score, ties by row of the label file. A score that equals
    its threshold is in; with `mcut` both thresholds are found from the scores.
    """
    counted = _above_floor(row)
    if counted.shape != (len(labels),):
        raise InputError(f"a row of {counted.shape} scores does not fit {len(labels)} labels")
    general_at = _mcut_steps(counted[labels.rows(GENERAL)]) if mcut else _threshold_steps(threshold)
    character_at = (
        max(_mcut_steps(counted[labels.rows(CHARACTER)]), _threshold_steps(CHARACTER_MCUT_FLOOR))
        if mcut
        else _threshold_steps(character_threshold)
    )
    characters = _chosen(counted, labels, CHARACTER, character_at)
    general = _chosen(counted, labels, GENERAL, general_at)
    persons = [tag for tag in general if PERSON_COUNT.match(tag.name)]
    others = [tag for tag in general if not PERSON_COUNT.match(tag.name)]
    best = _chosen(counted, labels, RATING, 0)[:1]
    first, last = (best if rating == place else [] for place in ("first", "last"))
    return (*first, *characters, *persons, *others, *last)


def _above_floor(row: ArrayLike) -> NDArray[np.int64]:
    """Count one row in steps, with 0 for what the store would not keep."""
    counted = np.clip(steps(row), 0, STEPS)
    counted[counted <= FLOOR] = 0
    return counted


def _threshold_steps(threshold: float) -> int:
    """Return the least whole number of steps that reaches a threshold; the inner rounding takes float noise away."""
    return math.ceil(round(threshold * STEPS, 6))


def _mcut_steps(counted: NDArray[np.int64]) -> int:
    return _threshold_steps(mcut(counted / STEPS))


def _chosen(counted: NDArray[np.int64], labels: Labels, category: str, at: int) -> list[ScoredTag]:
    rows = labels.rows(category)
    rows = rows[(counted[rows] >= at) & (counted[rows] > FLOOR)]
    rows = rows[np.argsort(-counted[rows], kind="stable")]
    return [ScoredTag(labels.items[i].name, category, int(counted[i]) / STEPS) for i in rows.tolist()]
