"""Text in an image (signatures, watermarks, speech bubbles), with the detector PP-OCRv6 tiny of
PaddleOCR.

The detector gives the probability of each pixel to belong to a line of text; connected pixels are
one line ("DB", Liao et al., "Real-time Scene Text Detection with Differentiable Binarization",
2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from datasetkit.vision.boxes import Box
from datasetkit.vision.models import open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LONG_SIDE = 960  # pixels: larger images are shrunk to it
MULTIPLE = 32  # the model takes sides that are multiples of it
# ImageNet's, in the order of the model's channels: blue, green, red.
MEAN, SPREAD = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)
PIXEL = 0.3  # least probability of a pixel that counts as text
THRESHOLD = 0.6  # least mean probability of a line
# The model is trained to mark a line's core; area x GROW / perimeter is added on each side (DB,
# 3.4).
GROW = 1.5
MIN_SIDE = 3.0  # least side of the core in model pixels

Floats = NDArray[np.float32]
Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class TextBox(Box):
    """One line of text: the upright box around it, within the image.

    corners: the corners (x, y) of the rectangle that is turned as the text is, which may reach past
    the edges.
    """

    corners: Corners


class TextFinder:
    """The detector, loaded once; it may be called from several threads."""

    def __init__(self, threads: int = 1) -> None:
        self._session: InferenceSession = open_model("text", threads)
        self._input = self._session.get_inputs()[0].name

    def find(self, image: Image.Image, *, threshold: float = THRESHOLD) -> tuple[TextBox, ...]:
        """Return the lines of text of an RGB image, best first. threshold: the minimum score."""
        pixels = prepare(image)
        plain = self._probability(pixels)
        if plain.max() < 2 * threshold - 1:  # the mean cannot reach the threshold
            return ()
        # Benches, screens and the rim of a cup look like text from one side, text looks so from
        # both: the scores are means with the mirror image.
        mirrored = self._probability(np.ascontiguousarray(pixels[..., ::-1]))[:, ::-1]
        both = np.asarray((plain + mirrored) / 2, np.float32)
        return decode(both, image.size, threshold=threshold)

    def _probability(self, pixels: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._input: pixels})[0][0, 0], np.float32)


@cache
def _shared_finder() -> TextFinder:
    return TextFinder()


def find_text(image: Image.Image, *, threshold: float = THRESHOLD) -> tuple[TextBox, ...]:
    """Do `TextFinder.find` with one detector for the whole process."""
    return _shared_finder().find(image, threshold=threshold)


def model_size(width: int, height: int) -> tuple[int, int]:
    """Return the size in pixels that an image is resized to: at most 960, in multiples of 32."""
    scale = min(1.0, LONG_SIDE / max(width, height))
    fitted = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (width, height))
    return tuple(fitted)  # type: ignore[return-value]  # two sides in, two out


def prepare(image: Image.Image) -> Floats:
    """Turn an RGB image into the model's input: (1, 3, height, width), blue first."""
    small = image.resize(model_size(*image.size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = (np.asarray(small, np.float32)[..., ::-1] / 255.0 - MEAN) / SPREAD
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def decode(
    probability: Floats, size: tuple[int, int], *, threshold: float = THRESHOLD
) -> tuple[TextBox, ...]:
    """Turn a map of probabilities (h, w) into lines of text, best first.

    size: the image's (width, height).
    """
    scale = np.array(size, np.float64) / probability.shape[::-1]
    boxes = []
    for ys, xs in regions(probability > PIXEL):
        core = rectangle(np.column_stack([xs, ys]).astype(np.float64) + 0.5)
        if core is None or min(_sides(core)) < MIN_SIDE:
            continue
        score = _mean_inside(probability, core)
        if score >= threshold:
            corners = _grown(core) * scale
            low = np.clip(corners.min(axis=0), 0, size)
            high = np.clip(corners.max(axis=0), 0, size)
            points = tuple((float(x), float(y)) for x, y in corners)
            boxes.append(
                TextBox(float(low[0]), float(low[1]), float(high[0]), float(high[1]), score, points)
            )
    return tuple(sorted(boxes, key=lambda box: (-box.score, box.top, box.left)))


def regions(mask: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows and columns of each group of connected true pixels (8 neighbours), in reading
    order.

    Runs of true pixels within a row get a label each; runs that touch in the next row are joined.
    """
    height = len(mask)
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]  # one past the last pixel
    first = np.searchsorted(rows, np.arange(height + 1))  # of each row's runs
    label = list(range(len(rows)))

    def root(run: int) -> int:
        while label[run] != run:
            label[run] = label[label[run]]
            run = label[run]
        return run

    for row in range(1, height):
        above, here = int(first[row - 1]), int(first[row])
        while above < first[row] and here < first[row + 1]:
            if starts[above] <= ends[here] and starts[here] <= ends[above]:  # <=: corners touch
                a, b = sorted((root(above), root(here)))
                label[b] = a
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    members: dict[int, list[int]] = {}
    for run in range(len(rows)):
        members.setdefault(root(run), []).append(run)
    groups = []
    for runs in members.values():
        lengths = ends[runs] - starts[runs]
        ys = np.repeat(rows[runs], lengths)
        xs = np.concatenate([np.arange(starts[run], ends[run]) for run in runs])
        groups.append((ys, xs))
    return groups


def rectangle(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the corners (4, 2) of the smallest rectangle around pixel centres (n, 2).

    Returns None for fewer than 3 corners of the hull. The smallest rectangle has a side along an
    edge of the convex hull (Freeman and Shapira, 1975).
    """
    hull = _hull(points)
    if len(hull) < 3:
        return None
    edges = np.roll(hull, -1, axis=0) - hull
    along = edges / np.hypot(edges[:, 0], edges[:, 1])[:, None]
    across = np.column_stack([-along[:, 1], along[:, 0]])
    u, v = hull @ along.T, hull @ across.T  # (points, edges)
    low, high = (
        np.stack([u.min(0), v.min(0)], 1) - 0.5,
        np.stack([u.max(0), v.max(0)], 1) + 0.5,
    )  # pixels have a size
    best = int(np.argmin(np.prod(high - low, axis=1)))
    (left, top), (right, bottom) = low[best], high[best]
    turned = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return np.asarray(turned @ np.stack([along[best], across[best]]), np.float64)


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the convex hull's corners in order (Andrew's monotone chain)."""
    rows = points[np.lexsort((points[:, 0], points[:, 1]))]
    # Only the first and the last point of a row can be corners.
    turns = np.flatnonzero(np.diff(rows[:, 1])) + 1
    ends = rows[np.concatenate([[0], turns, turns - 1, [len(rows) - 1]])]
    ordered = sorted(set(map(tuple, ends.tolist())))

    def chain(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    if len(ordered) < 3:
        return np.array(ordered)
    return np.array(chain(ordered) + chain(ordered[::-1]))


def _sides(corners: NDArray[np.float64]) -> tuple[float, float]:
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    return float(np.hypot(*first)), float(np.hypot(*second))


def _grown(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grow a rectangle on all sides by area x GROW / perimeter."""
    long, short = _sides(corners)
    by = long * short * GROW / (2 * (long + short))
    centre = corners.mean(axis=0)
    u, v = (corners[1] - corners[0]) / long, (corners[2] - corners[1]) / short
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float64)
    return np.asarray(
        centre + signs * (long / 2 + by, short / 2 + by) @ np.stack([u, v]), np.float64
    )


def _mean_inside(probability: Floats, corners: NDArray[np.float64]) -> float:
    """Return the mean probability within a rectangle, which is low for a mere ring of pixels."""
    area = Image.new("1", probability.shape[::-1])
    ImageDraw.Draw(area).polygon([tuple(point) for point in (corners - 0.5).tolist()], fill=1)
    inside = np.asarray(area)
    return float(probability[inside].mean()) if inside.any() else 0.0
