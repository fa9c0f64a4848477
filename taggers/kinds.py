"""The two kinds of tagger models, distinguished by their label files: their inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from taggers.labels import CSV_FILE, MAPPING_FILE


@dataclass(frozen=True, slots=True)
class ModelKind:
    """The input and output of a kind of model.

    label_file: its label file, beside the model. layout: the order of its input's axes. logits: the
    output is before the sigmoid.
    """

    label_file: str
    layout: Literal["NHWC", "NCHW"]
    logits: bool

    def side(self, shape: list[int | str]) -> int | None:
        """Return the side in pixels of an input of this shape, None if the shape is not this
        kind's.
        """
        if len(shape) != 4:
            return None
        height, width, channels = shape[1:] if self.layout == "NHWC" else (*shape[2:], shape[1])
        return height if isinstance(height, int) and height == width and channels == 3 else None

    def expected(self) -> str:
        """Return the shape of the input for an error message."""
        return "[batch, size, size, 3]" if self.layout == "NHWC" else "[batch, 3, size, size]"

    def tensor(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn a square (size, size, 3), blue first, 0 to 255, into the model's input."""
        if self.layout == "NHWC":
            return square
        # (x / 255 - 0.5) / 0.5, channels first, blue first, as in the app of cella110n/cl_tagger.
        return np.ascontiguousarray((square / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1))

    def probabilities(self, output: NDArray[np.float32]) -> NDArray[np.float64]:
        """Turn the model's output into probabilities."""
        wide = output.astype(np.float64)
        # The sigmoid by tanh, which cannot overflow.
        return (np.tanh(wide / 2) + 1) / 2 if self.logits else wide


# SmilingWolf's models end in a sigmoid.
WD14 = ModelKind(CSV_FILE, "NHWC", logits=False)
MAPPED = ModelKind(MAPPING_FILE, "NCHW", logits=True)
KINDS = {kind.label_file: kind for kind in (WD14, MAPPED)}
