"""The check stage: what the checks need to know of an image's pixels, each image decoded once
for all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image, ImageOps

from datasetkit.checks.base import ImageMeasures, ImageRegion, Measure
from datasetkit.core.errors import StorageError
from datasetkit.core.records import ImageRecord
from datasetkit.images import near_duplicates, pixels
from datasetkit.vision import blur
from datasetkit.vision.faces import DEFAULT, Face, FaceDetector, join_mirrored, open_detector
from datasetkit.vision.text import TextBox, TextFinder

# How each measure is taken: the store keeps the rows of each version apart.
RECIPES: Mapping[Measure, str] = {"looks": "looks 1", "text": "text 1", "faces": "faces 1"}
# The long edge, in pixels, to which an image is decoded: a line of text of 2 % of the height has
# 15 pixels then.
EDGE = 768
# Detections below these scores are dropped; any higher threshold needs no second detection. A
# lower one for text would need a second pass over every image (see TextFinder.find).
LEAST_TEXT, LEAST_FACES = 0.6, 0.3
# Levels of 255 by which a pixel must differ to count as another colour.
_OTHER_COLOUR = 32
# Pixels below this alpha count as hidden.
_SEE_THROUGH = 128

Rows = dict[Measure, bytes]


def open_measuring(
    measures: Sequence[Measure],
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    detector: str = DEFAULT,
) -> ImageMeasurer:
    """Load the detectors that the measures need, with one thread each: the images are spread over
    the cores. detector: of faces, by name.
    """
    text = TextFinder() if "text" in measures else None
    faces = open_detector(detector) if "faces" in measures else None
    return ImageMeasurer(max_pixels, "looks" in measures, text, faces)


@dataclass(frozen=True, slots=True)
class ImageMeasurer:
    """The check stage at work: call it with a record. All threads share the detectors."""

    max_pixels: int
    with_looks: bool
    text: TextFinder | None
    faces: FaceDetector | None

    def __call__(self, record: ImageRecord) -> Rows:
        """Return a row for the store for each measure. Raises InputError."""
        reduced = pixels.load_reduced(record.path, EDGE, alpha="keep", max_pixels=self.max_pixels)
        revealed, hidden = reveal(reduced.image)
        image = near_duplicates.fit(_flattened(reduced), EDGE)
        rows: Rows = {}
        if self.with_looks:
            rows["looks"] = pack_looks(self._looks(record, image, revealed, hidden))
        if self.text is not None:
            lines = self.text.find(image, threshold=LEAST_TEXT)
            rows["text"] = pack_regions(_regions(lines, image.size))
        if self.faces is not None:
            ahead = self.faces.find(image, threshold=LEAST_FACES)
            mirrored = (
                self.faces.find(ImageOps.mirror(image), threshold=LEAST_FACES) if ahead else ()
            )
            both = join_mirrored(ahead, mirrored, image.width)
            sure = [face for face in both if face.score >= LEAST_FACES]
            rows["faces"] = pack_regions(_regions(sure, image.size))
        return rows

    def _looks(
        self, record: ImageRecord, image: Image.Image, revealed: float, hidden: str
    ) -> ImageMeasures:
        header = pixels.probe(record.path, max_pixels=self.max_pixels)
        at_512 = _shrunk(image, blur.LONG_EDGE)
        look = near_duplicates.fingerprint(_shrunk(at_512, near_duplicates.SEEN_AT))
        return ImageMeasures(
            header.format,
            header.frames,
            header.orientation,
            revealed,
            hidden,
            round(blur.blur(at_512), 4),
            look,
        )


def reveal(image: Image.Image) -> tuple[float, str]:
    """Return which share of an image changes when its alpha is dropped, and the one colour that it
    shows there.

    The comparison is with the image on white, as viewers show it. "": more than one colour
    shows.
    """
    if image.mode != "RGBA":
        return 0.0, ""
    values = np.asarray(image)
    bare, alpha = values[..., :3], values[..., 3]
    from_white, see_through = 255 - bare.min(axis=2), 255 - alpha
    changed = from_white.astype(np.uint16) * see_through // 255 > _OTHER_COLOUR
    there = bare[changed & (alpha < _SEE_THROUGH)]
    single = there.size > 0 and int((there.max(axis=0) - there.min(axis=0)).max()) <= 2
    colour = "#{:02x}{:02x}{:02x}".format(*there[0].tolist()) if single else ""
    return round(float(changed.mean()), 6), colour


def _flattened(reduced: pixels.ReducedImage) -> pixels.ReducedImage:
    if reduced.image.mode == "RGB":
        return reduced
    flat = pixels.to_srgb(reduced.image)
    return pixels.ReducedImage(flat, reduced.width, reduced.height, reduced.box, reduced.format)


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    """Shrink to a long edge of `edge` pixels; a smaller image stays as it is."""
    share = edge / max(image.size)
    if share >= 1:
        return image
    size = max(1, round(image.width * share)), max(1, round(image.height * share))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _regions(boxes: Sequence[TextBox | Face], size: tuple[int, int]) -> tuple[ImageRegion, ...]:
    width, height = size
    return tuple(
        ImageRegion(
            *(
                round(x, 4)
                for x in (
                    box.left / width,
                    box.top / height,
                    box.right / width,
                    box.bottom / height,
                    box.score,
                )
            )
        )
        for box in boxes
    )


# ---- rows of the store
# ----------------------------------------------------------------------------------------------


def pack_looks(measures: ImageMeasures) -> bytes:
    """Encode the looks of an image as a row for the store."""
    return json.dumps(
        [value.hex() if isinstance(value, bytes) else value for value in astuple(measures)]
    ).encode()


def unpack_looks(row: bytes) -> ImageMeasures:
    """Decode a row of `pack_looks`."""
    with _damaged_rows():
        form, frames, orientation, revealed, hidden, blurred, look = json.loads(row)
        return ImageMeasures(
            str(form), int(frames), int(orientation), float(revealed), str(hidden),
            float(blurred), bytes.fromhex(look),
        )  # fmt: skip


def pack_regions(regions: Sequence[ImageRegion]) -> bytes:
    """Encode regions as a row for the store."""
    return json.dumps([astuple(region) for region in regions]).encode()


def unpack_regions(row: bytes) -> tuple[ImageRegion, ...]:
    """Decode a row of `pack_regions`."""
    with _damaged_rows():
        return tuple(ImageRegion(*map(float, values)) for values in json.loads(row))


@contextmanager
def _damaged_rows() -> Iterator[None]:
    """Turn what a row that dsk did not write leads to into a StorageError."""
    try:
        yield
    except (ValueError, TypeError, RecursionError) as error:
        raise StorageError(
            f"the project's store has damaged measurements: {error}",
            hint="delete .dsk/store.sqlite*: only cached scores and undo are lost",
        ) from error
