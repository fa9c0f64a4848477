"""A tagger for tests: its scores follow from the colours of an image's sides, at once and
everywhere the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taggers.base import Identity, Label, Labels, round_scores

NAME = "colours-for-tests"
TARGET = "tests.safety.tagger:ColoursForTests"
# Read by tests that check whether inference began.
BEGUN: list[int] = []


class ColoursForTests:
    """A `taggers.base.Tagger` without files."""

    identity = Identity("colours-for-tests", "0", "mean")
    labels = Labels(
        (
            Label("general", "rating"),
            Label("sensitive", "rating"),
            *(
                Label(name, "general")
                for name in ("1girl", "red theme", "green theme", "blue theme", "lips", "^_^")
            ),
            Label("hatsune miku", "character"),
        )
    )
    batch_size = 3
    pr_threshold = None
    fills_cores = False
    notice = ""
    device = "cpu"

    def prepare(self, image: Image.Image) -> object:
        pixels = np.asarray(image.convert("RGB"), np.float64) / 255
        height, width = (max(1, side // 2) for side in pixels.shape[:2])
        # Each of another side, so that a turned or mirrored image has other scores.
        return (
            pixels[:height, :, 0].mean(),
            pixels[:, :width, 1].mean(),
            pixels[-height:, -width:, 2].mean(),
        )

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        BEGUN.append(len(batch))
        rows = []
        for colour in batch:
            red, green, blue = (float(c) for c in colour)  # type: ignore[attr-defined]
            rows.append([1 - red, red, 0.9, red, green, blue, 0.5 + red / 4, 0.36, blue])
        return round_scores(rows)

    def close(self) -> None:
        pass
