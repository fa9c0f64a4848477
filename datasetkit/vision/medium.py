"""Drawing or photo, with NSFWJS (MobileNet v2, mid).

Of the model's five classes (drawing, hentai, neutral, porn, sexy) only drawn or photographed counts
here. It is right on cel-shaded figures, but takes flat vector drawings and large drawn faces for
photos; `texture` is a second measure against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasetkit.vision.models import open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIDE = 224  # pixels
TEXTURE_SIDE = 512  # pixels
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")
PHOTOGRAPHED = [CLASSES.index(name) for name in ("neutral", "porn", "sexy")]


def prepare(image: Image.Image) -> NDArray[np.float32]:
    """Stretch an RGB image to 224 x 224 as the model's own app does: (224, 224, 3), 0 to 1."""
    return (
        np.asarray(
            image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0), np.float32
        )
        / 255.0
    )


def texture(image: Image.Image) -> float:
    """Return the share of pixels that differ from a neighbour by more than one grey level.

    Flat fills have none, photos have much. It is measured at 512 pixels, where large photos still
    have it.
    """
    if max(image.size) > TEXTURE_SIDE:
        image = ImageOps.contain(image, (TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BOX)
    grey = np.asarray(image.convert("L"), np.int16)
    if min(grey.shape) < 2:
        return 0.0
    across, down = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    return float((np.maximum(across, down) > 1).mean())


class MediumClassifier:
    """NSFWJS, loaded once."""

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("medium", threads)

    def photo(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the probability of each prepared image to be a photo: (n,), 0 to 1."""
        inputs = {self._session.get_inputs()[0].name: np.stack(batch)}
        probabilities = np.asarray(self._session.run(None, inputs)[0], np.float32)
        return np.asarray(probabilities[:, PHOTOGRAPHED].sum(axis=1), np.float32)
