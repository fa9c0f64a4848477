"""Face detection in photos and drawings, with BlazeFace (the back-camera model, 256 pixels)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import ConfigError
from datasetkit.vision.boxes import Box
from datasetkit.vision.models import open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SIDE = 256  # pixels of the model's input
NMS_OVERLAP = 0.3
# (stride in pixels, anchors a cell): 16 x 16 x 2 + 8 x 8 x 6 = 896 anchors, in the order of the
# model's outputs.
GRIDS = ((16, 2), (32, 6))


@dataclass(frozen=True, slots=True)
class Face(Box):
    """One face."""

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def overlap(self, other: Face) -> float:
        """Return intersection over union of the two boxes."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(width, 0.0) * max(height, 0.0)
        union = self.width * self.height + other.width * other.height - shared
        return shared / union if union > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image fitted into the model's square.

    pixels: (256, 256, 3) from -1 to 1. scale: model pixels per image pixel. offset: of the image in
    the square (x, y), in model pixels.
    """

    pixels: NDArray[np.float32]
    scale: float
    offset: tuple[float, float]


class FaceDetector(Protocol):
    """Finds faces; it may be called from several threads."""

    def find(self, image: Image.Image, *, threshold: float = 0.5) -> tuple[Face, ...]:
        """Return the faces of an RGB image, best first. threshold: the minimum score, 0 to 1."""


class FaceFinder:
    """BlazeFace, loaded once. It takes some objects for faces: a face without other evidence is a
    hint only.
    """

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("faces", threads)
        self._input = self._session.get_inputs()[0].name

    def find(self, image: Image.Image, *, threshold: float = 0.5) -> tuple[Face, ...]:
        """Return the faces of an RGB image, best first. threshold: the minimum score."""
        return self.find_in(letterbox(image), threshold=threshold)

    def find_in(self, fitted: Letterbox, *, threshold: float = 0.5) -> tuple[Face, ...]:
        """Return the faces of an image that `letterbox` fitted."""
        outputs = self._session.run(None, {self._input: fitted.pixels[None]})
        return decode(outputs, threshold=threshold, scale=fitted.scale, offset=fitted.offset)


DEFAULT = "blazeface"
# Name -> what builds the detector, in the process that runs it.
DETECTORS: dict[str, Callable[[], FaceDetector]] = {DEFAULT: FaceFinder}


def require_detector(name: str) -> None:
    """Raise ConfigError for a name that is not a detector's."""
    if name not in DETECTORS:
        raise ConfigError(
            f"unknown face detector {name!r}", hint=f"one of: {', '.join(sorted(DETECTORS))}"
        )


def open_detector(name: str = DEFAULT) -> FaceDetector:
    """Load a detector. Raises ConfigError for an unknown name, MissingExtra, ModelFileError."""
    require_detector(name)
    return DETECTORS[name]()


def letterbox(image: Image.Image) -> Letterbox:
    """Fit an RGB image into the model's square, on black."""
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    x, y = (SIDE - width) // 2, (SIDE - height) // 2
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0), (x, y))
    return Letterbox(np.asarray(square, np.float32) / 127.5 - 1.0, scale, (float(x), float(y)))


def join_mirrored(faces: Sequence[Face], mirrored: Sequence[Face], width: int) -> tuple[Face, ...]:
    """Join the faces of an image with those of its mirror image, best first.

    A face found in both gets the mean of the scores, a face found in one of them half of its score:
    a lamp or a knot in wood looks like a face from one side only. width: the image's, in pixels.
    """
    mirrored_back = [
        Face(width - face.right, face.top, width - face.left, face.bottom, face.score)
        for face in mirrored
    ]
    joined = []
    for face in faces:
        other = max(mirrored_back, key=face.overlap, default=None)
        if other is not None and face.overlap(other) > NMS_OVERLAP:
            mirrored_back.remove(other)
            joined.append(_mean(face, other))
        else:
            joined.append(replace(face, score=face.score / 2))
    joined += [replace(face, score=face.score / 2) for face in mirrored_back]
    return tuple(sorted(joined, key=lambda face: -face.score))


def _mean(a: Face, b: Face) -> Face:
    return Face(*((x + y) / 2 for x, y in zip(astuple(a), astuple(b), strict=True)))


def anchors() -> NDArray[np.float32]:
    """Return the centres of all anchors in model pixels, (896, 2) as x, y."""
    grids = []
    for stride, count in GRIDS:
        centres = (np.arange(SIDE // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), count, axis=0))
    return np.concatenate(grids)


def decode(
    outputs: Sequence[NDArray[np.float32]],
    *,
    threshold: float,
    scale: float,
    offset: tuple[float, float],
) -> tuple[Face, ...]:
    """Turn the model's four outputs into faces in image pixels.

    outputs: logits (1, 512, 1) and (1, 384, 1), boxes (1, 512, 16) and (1, 384, 16); a box is
    centre x, centre y (relative to its anchor), width, height and six key points, in model pixels.
    """
    logits = np.concatenate([outputs[0][0, :, 0], outputs[1][0, :, 0]])
    boxes = np.concatenate([outputs[2][0], outputs[3][0]])[:, :4]
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -50.0, 50.0)))
    kept = np.flatnonzero((scores >= threshold) & (boxes[:, 2:] > 0).all(axis=1))
    centres = anchors()[kept] + boxes[kept, :2]
    sizes = boxes[kept, 2:]
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    corners = np.asarray((corners - np.array([*offset, *offset])) / scale, np.float32)
    rows = np.column_stack([corners, scores[kept]]).tolist()
    return tuple(Face(*rows[i]) for i in non_maximum_suppression(corners, scores[kept]))


def non_maximum_suppression(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float = NMS_OVERLAP
) -> list[int]:
    """Return the rows of the boxes to keep, best first: no two of them overlap by more than
    `overlap`.

    boxes: (n, 4) as left, top, right, bottom. Overlap is intersection over union.
    """
    rest = np.argsort(-scores, kind="stable")
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept: list[int] = []
    while len(rest):
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        rest = rest[shared <= overlap * (areas[best] + areas[rest] - shared)]
    return kept
