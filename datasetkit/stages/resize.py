"""The resize stage: how large an image becomes, and when its file is copied byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Literal

from PIL import Image

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.files import write_atomic, writing
from datasetkit.core.records import Done, ImageRecord
from datasetkit.images import pixels
from datasetkit.images.lossless import pixels_only
from datasetkit.options.images import ResizeOptions
from datasetkit.stages.base import Files, require_unchanged

Size = tuple[int, int]
# Less than elsewhere, so that 2,816 pixels and more are still halved for 1,024; measured to lose
# nothing at JPEG quality 90, and 0.14 dB at 95 (docs/performance.md).
DRAFT_FACTOR = 1.375


@dataclass(frozen=True, slots=True)
class ResizedImage:
    """One image's result. source, size: (width, height) in pixels, upright, before and after.

    copied: nothing had to change, and the file was copied byte for byte.
    """

    path: Path
    source: Size
    size: Size
    copied: bool = False


def target_size(
    width: int, height: int, *, max_side: int, mode: Literal["long-edge", "area"]
) -> Size:
    """Return the size an image is shrunk to, in pixels; never larger than it is, at least 1 a
    side.

    long-edge: the longer side becomes max_side, the other keeps the aspect, halves rounded up.
    area: the smallest size of the same aspect, up to rounding, whose area is at least max_side
    squared.
    """
    return _MODES[mode](width, height, max_side)


def _by_long_edge(width: int, height: int, max_side: int) -> Size:
    long = max(width, height)
    if long <= max_side:
        return width, height

    def scaled(side: int) -> int:
        return max(1, (2 * side * max_side + long) // (2 * long))

    return scaled(width), scaled(height)


def _by_area(width: int, height: int, max_side: int) -> Size:
    wanted = max_side * max_side
    if width * height <= wanted:
        return width, height
    candidates = [
        (w, h)
        for w in _both_roundings(wanted * width, height)
        for h in _both_roundings(wanted * height, width)
        if w * h >= wanted
    ]
    # Both rounded up always qualifies; of equal areas the one nearer to the aspect is taken.
    return min(
        candidates, key=lambda size: (size[0] * size[1], abs(size[0] * height - size[1] * width))
    )


def _both_roundings(numerator: int, denominator: int) -> tuple[int, ...]:
    """Return the square root of a fraction rounded down (at least 1) and up, in whole numbers
    throughout.
    """
    down = isqrt(numerator // denominator)
    up = down if down * down * denominator == numerator else down + 1
    return (max(1, down), max(1, up))


_MODES = {"long-edge": _by_long_edge, "area": _by_area}


def resize_image(
    record: ImageRecord, files: Files, *, options: ResizeOptions
) -> Done[ResizedImage]:
    """Read, shrink and write one image. Raises InputError for it, StorageError for the disk."""
    (target,) = files
    source = (record.width, record.height)
    size = target_size(*source, max_side=options.max, mode=options.mode)
    writer = pixels.WRITERS.get(target.suffix.lower(), "")
    alpha = options.alpha if writer in pixels.WITH_ALPHA else "flatten"
    # An image that could be copied is decoded too: a damaged file must not be passed on.
    wanted = max(size) if size != source else None
    image = pixels.load_reduced(
        record.path, wanted, alpha=alpha, max_pixels=options.max_pixels, factor=DRAFT_FACTOR
    )
    require_unchanged(record, (image.width, image.height))
    header = _header(record, image, options.max_pixels)
    with writing(target.parent):
        make_folders(target.parent)
    unchanged = size == source and header.frames == 1 and header.format == writer
    copyable = unchanged and (not header.has_alpha or alpha == "keep")
    data = pixels_only(record.path, writer, source) if copyable else None
    if data is not None:
        write_atomic(target, data)
    else:
        pixels.save(shrink(image.image, size, image.box), target, quality=options.quality)
    made = ResizedImage(target, source, size, data is not None)
    return Done(record, made, _note(header, options.alpha != alpha))


def _header(record: ImageRecord, image: pixels.ReducedImage, max_pixels: int) -> pixels.ImageHeader:
    """Return the header; that of a JPEG needs no second read."""
    if image.format == "JPEG":
        return pixels.ImageHeader(record.width, record.height, "JPEG", 1, False)
    return pixels.probe(record.path, max_pixels=max_pixels)


def shrink(
    image: Image.Image, size: Size, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Scale by Lanczos; colours under transparency do not bleed into the edge (they are weighted by
    alpha).

    box: the part of `image` to use, if it ends inside of a pixel; None: all of it.
    """
    if image.size == size:
        return image
    if image.mode == "RGBA":
        return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS, box).convert("RGBA")
    return image.resize(size, Image.Resampling.LANCZOS, box)


def _note(header: pixels.ImageHeader, lost_alpha: bool) -> str:
    notes = []
    if header.frames > 1:
        notes.append(
            "several pages: only the first was used"
            if header.format == "TIFF"
            else "animated: only the first frame was used"
        )
    if lost_alpha and header.has_alpha:
        notes.append("JPEG has no transparency: laid onto white")
    return "; ".join(notes)
