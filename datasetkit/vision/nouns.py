"""Objects and animals in a photo: the 1,000 nouns of ImageNet, with EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.vision.models import open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SHORT_SIDE, CROP = 256, 224  # pixels


@cache
def nouns() -> tuple[str, ...]:
    """Return the names of the 1,000 classes, in the model's order."""
    text = files("datasetkit").joinpath("data", "imagenet_nouns.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def prepare(image: Image.Image) -> NDArray[np.float32]:
    """Resize the shorter side of an RGB image to 256 and crop the middle 224 x 224.

    Returns (3, 224, 224), as (x - 127) / 128.
    """
    scale = SHORT_SIDE / min(image.size)
    width, height = (max(CROP, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    left, top = (width - CROP) // 2, (height - CROP) // 2
    pixels = np.asarray(resized.crop((left, top, left + CROP, top + CROP)), np.float32)
    return (pixels.transpose(2, 0, 1) - 127.0) / 128.0


class NounClassifier:
    """EfficientNet-Lite0, loaded once. It is good on objects and animals in photos, and poor on
    people and drawings.
    """

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("nouns", threads)

    def probabilities(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the softmax over the nouns for prepared images: (n, 1000)."""
        logits = np.asarray(self._session.run(None, {"input": np.stack(batch)})[0], np.float32)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
