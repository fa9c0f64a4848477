"""Whether a picture is a drawing or a photo, by NSFWJS (MobileNet v2, mid).

The model has five classes: drawing, hentai, neutral, porn, sexy. Only their division into drawn and photographed
is used here: it is reliable, the ratings are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.vision.models import open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIDE = 224  # pixels
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")
PHOTOGRAPHED = [CLASSES.index(name) for name in ("neutral", "porn", "sexy")]


def prepare(image: Image.Image) -> NDArray[np.float32]:
    """Stretch an RGB picture to 224 x 224 as the model's own app does: (224, 224, 3), 0 to 1."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0), np.float32) / 255.0


class MediumClassifier:
    """NSFWJS, loaded once."""

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("medium", threads)

    def photo(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return for each prepared picture the probability that it is a photo and no drawing: (n,), 0 to 1."""
        inputs = {self._session.get_inputs()[0].name: np.stack(batch)}
        return np.asarray(self._session.run(None, inputs)[0], np.float32)[:, PHOTOGRAPHED].sum(axis=1)
