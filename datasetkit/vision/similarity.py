"""How alike images are, by the scores of EfficientNet-Lite0, a network for photographs that comes
with the package.

The scores of a usual image are subtracted, so that what all images share does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.vision.models import open_model
from datasetkit.vision.nouns import prepare

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Features = NDArray[np.float32]


class SimilarityModel:
    """EfficientNet-Lite0, loaded once."""

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("nouns", threads)

    def scores(self, images: Iterable[Image.Image]) -> Features:
        """Return the scores of RGB images, before the softmax: (n, 1000)."""
        rows = [self._session.run(None, {"input": prepare(image)[None]})[0] for image in images]
        return np.concatenate([np.zeros((0, 1000), np.float32), *map(np.asarray, rows)])


def features(scores: Features, usual: Features) -> Features:
    """Return scores less those of a usual image, of length 1: (n, 1000)."""
    seen = scores - usual
    lengths = np.linalg.norm(seen, axis=1, keepdims=True)
    return np.asarray(seen / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def to_nearest(shown: Features, others: Features) -> NDArray[np.float64]:
    """Return how far each image is from the nearest of the others: 1 - cosine, 0 to 2."""
    return np.asarray(1 - (shown @ others.T).max(axis=1), np.float64)


def pairwise(shown: Features, others: Features) -> NDArray[np.float64]:
    """Return how far each image is from the other at its place: 1 - cosine, 0 to 2."""
    return np.asarray(1 - (shown * others).sum(axis=1), np.float64)


def mean_distance(shown: Features) -> float:
    """Return how far two of the images are from each other, the mean of all pairs: 0 to 2."""
    first, second = np.triu_indices(len(shown), 1)
    return float(pairwise(shown[first], shown[second]).mean())


def mean_scores(rows: Sequence[Features]) -> Features:
    """Return the scores of a usual image: the mean of all."""
    return np.asarray(np.concatenate(list(rows)).mean(axis=0), np.float32)
