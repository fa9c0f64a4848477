"""The stages of `dsk faces`: squares around faces cut out, or faces and lines of text erased, with
masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from datasetkit.checks.base import ImageRegion
from datasetkit.core.files import existing_mask, require_names, write_atomic
from datasetkit.core.records import Done, ImageRecord
from datasetkit.images import pixels
from datasetkit.images.lossless import pixels_only
from datasetkit.options.images import FacesOptions
from datasetkit.stages.base import Files, require_unchanged
from datasetkit.stages.cutout import joined
from datasetkit.stages.resize import shrink
from datasetkit.vision.inpaint import fill

Square = tuple[int, int, int, int]
# Without --margin: around a face to crop (hair and chin belong to it), and to erase.
CROP_MARGIN, ERASE_MARGIN = 0.5, 0.2
# The detector's boxes of text have some margin already; the strokes of drawn letters reach
# further.
_TEXT_MARGIN = 0.1
# The soft edge of an erased area, as a share of its shorter side: a hard edge would be learned.
_SOFT = 0.02


@dataclass(frozen=True, slots=True)
class CroppedFaces:
    """One image's faces. sizes: the side of each crop in pixels, in the order of the paths."""

    paths: tuple[Path, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ErasedImage:
    """One image without its faces and text. faces, text: how many of each."""

    path: Path
    faces: int
    text: int


@dataclass(frozen=True, slots=True)
class FaceBoxes:
    """The faces and lines of text of one image, in fractions of its width and height."""

    faces: tuple[ImageRegion, ...] = ()
    text: tuple[ImageRegion, ...] = ()


def square(face: ImageRegion, width: int, height: int, margin: float | None) -> Square:
    """Return the square around a face in pixels, within the image: left, top, right, bottom.

    margin: on each side, as a share of the face's size. A square that would be larger than the
    image is cut down.
    """
    room = CROP_MARGIN if margin is None else margin
    across, down = (face.right - face.left) * width, (face.bottom - face.top) * height
    side = max(1, min(width, height, round(max(across, down) * (1 + 2 * room))))
    left = round((face.left + face.right) / 2 * width - side / 2)
    top = round((face.top + face.bottom) / 2 * height - side / 2)
    left, top = min(max(0, left), width - side), min(max(0, top), height - side)
    return left, top, left + side, top + side


def hole(boxes: FaceBoxes, size: tuple[int, int], margin: float | None) -> Image.Image:
    """Draw the erased area (L, 255): an ellipse for a face, a box for a line of text. size: of the
    image.
    """
    width, height = size
    drawn = Image.new("L", size)
    pen = ImageDraw.Draw(drawn)
    room = ERASE_MARGIN if margin is None else margin
    for face in boxes.faces:
        pen.ellipse(_grown(face, width, height, room, room), fill=255)
    for line in boxes.text:
        tall = _TEXT_MARGIN * (line.bottom - line.top) * height
        wide = tall / max(1e-6, (line.right - line.left) * width)
        pen.rectangle(_grown(line, width, height, wide, _TEXT_MARGIN), fill=255)
    return drawn


def _grown(
    box: ImageRegion, width: int, height: int, across: float, down: float
) -> tuple[float, float, float, float]:
    """Return a box in pixels, larger by shares of its width and height on each side."""
    x, y = (box.right - box.left) * across, (box.bottom - box.top) * down
    left, top = (box.left - x) * width, (box.top - y) * height
    return left, top, (box.right + x) * width, (box.bottom + y) * height


def _softened(hard: Image.Image) -> Image.Image:
    """Soften the edge of the erased area, outwards only: nothing of a face may shimmer through."""
    left, top, right, bottom = hard.getbbox() or (0, 0, 0, 0)
    radius = max(1.0, min(right - left, bottom - top) * _SOFT)
    wide = hard.filter(ImageFilter.GaussianBlur(radius)).point(
        [min(255, 2 * value) for value in range(256)]
    )
    return ImageChops.lighter(hard, wide)


def _load(record: ImageRecord, options: FacesOptions) -> Image.Image:
    image = pixels.load(record.path, max_pixels=options.max_pixels)
    require_unchanged(record, image.size)
    return image


def crop_image(
    record: ImageRecord, files: Files, boxes: FaceBoxes, *, options: FacesOptions
) -> Done[CroppedFaces]:
    """Read one image and write its crops, shrunk to the size that is wanted, never enlarged.

    files: the crops, then, where the image has a mask, as many masks. boxes: of the image.
    """
    require_names(files)
    faces = boxes.faces
    crops, masks = files[: len(faces)], files[len(faces) :]
    image, sides = _load(record, options), []
    source_mask = existing_mask(record.path) if masks else None
    mask = pixels.load(source_mask).convert("L") if source_mask is not None else None
    for n, face in enumerate(faces):
        box = square(face, record.width, record.height, options.margin)
        side = min(options.size, box[2] - box[0])
        if mask is not None:
            whole = mask.resize(image.size, Image.Resampling.BILINEAR)
            cropped = whole.crop(box).resize((side, side), Image.Resampling.BILINEAR)
            pixels.save(cropped, masks[n])
        pixels.save(shrink(image.crop(box), (side, side)), crops[n])
        sides.append(side)
    return Done(record, CroppedFaces(crops, tuple(sides)))


def erase_image(
    record: ImageRecord, files: Files, erased: FaceBoxes, *, options: FacesOptions
) -> Done[ErasedImage]:
    """Read one image, fill its faces and text and write it; its mask leaves out what was filled.

    files: the new image, then, where something is erased, its mask. erased: of the image.
    """
    target, *masks = files
    require_names(files)
    image = _load(record, options)
    if masks:
        hidden = _softened(hole(erased, image.size, options.margin))
        pixels.save(joined(ImageChops.invert(hidden), record.path), masks[0])
        pixels.save(fill(image, hidden, options.fill), target)
    elif (data := _copyable(record, target, options)) is not None:
        write_atomic(target, data)
    else:
        pixels.save(image, target)
    return Done(record, ErasedImage(target, len(erased.faces), len(erased.text)))


def _copyable(record: ImageRecord, target: Path, options: FacesOptions) -> bytes | None:
    """Return the bytes of a file that can be copied as it is; None for any other."""
    writer = pixels.WRITERS[target.suffix.lower()]
    header = pixels.probe(record.path, max_pixels=options.max_pixels)
    if (header.format, header.frames, header.has_alpha) != (writer, 1, False):
        return None
    return pixels_only(record.path, writer, (record.width, record.height))
