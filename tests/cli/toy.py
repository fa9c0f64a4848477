"""A tagger that needs no files, for tests of the commands: what it says of an image hangs on its
brightness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taggers.base import Identity, Labels, round_scores

# What the tagger says of every image, and `None` for the score that grows with its brightness (0
# to 1).
SCORES: dict[tuple[str, str], float | None] = {
    ("general", "rating"): 0.9,
    ("sensitive", "rating"): 0.1,
    ("1girl", "general"): 0.99,
    ("solo", "general"): 0.95,
    ("long hair", "general"): 0.8,
    ("lips", "general"): 0.7,
    ("nose", "general"): 0.6,
    ("blue eyes", "general"): 0.5,
    ("=_=", "general"): 0.45,
    ("baseball cap", "general"): 0.42,
    ("hat", "general"): 0.41,
    ("smile", "general"): 0.2,
    ("white background", "general"): None,
    ("hatsune miku", "character"): 0.5,
}
DARK = "1girl, solo, long hair, lips, nose, blue eyes, =_=, baseball cap, hat"
# The images that went through the tagger since a test cleared it.
SEEN: list[float] = []


class Toy:
    """Follows `taggers.base.Tagger`."""

    identity = Identity("toy", "1", "mean")
    labels = Labels.from_pairs(SCORES)
    batch_size = 4
    pr_threshold = None
    fills_cores = False
    notice = "tags come from the toy"
    device = "cpu"

    def prepare(self, image: Image.Image) -> object:
        return float(np.asarray(image.convert("L"), np.float64).mean() / 255)

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        brightness = [float(str(item)) for item in batch]
        SEEN.extend(brightness)
        rows = [[b if score is None else score for score in SCORES.values()] for b in brightness]
        return round_scores(np.array(rows))

    def close(self) -> None:
        pass
