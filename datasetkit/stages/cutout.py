"""The cut-out stage: the subject of an image on one plain colour, and its mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from datasetkit.captions import backgrounds
from datasetkit.core.errors import InputError
from datasetkit.core.files import existing_mask
from datasetkit.core.records import Done, ImageRecord
from datasetkit.images import pixels
from datasetkit.options.images import CutoutOptions
from datasetkit.stages.base import Files, Stage, require_unchanged
from datasetkit.vision import flatten
from datasetkit.vision.subject import SubjectFinder

OWN_ALPHA = "the transparency of the image was used"


@dataclass(frozen=True, slots=True)
class CutoutImage:
    """One image's result. area: the share of the image that is subject, 0..1. bg: the colour
    behind it.

    device: where the model ran, by its name in `vision.providers`.
    """

    path: Path
    mask: Path
    area: float
    bg: tuple[int, int, int]
    device: str


def open_cutout(options: CutoutOptions) -> Stage[CutoutImage]:
    """Load the model and return the stage. Raises MissingExtra, ConfigError, ModelFileError."""
    finder = SubjectFinder(options.model, options.provider)
    return partial(cut_out, options=options, finder=finder)


def cut_out(
    record: ImageRecord, files: Files, *, options: CutoutOptions, finder: SubjectFinder
) -> Done[CutoutImage]:
    """Read, cut out and write one image and its mask; the threads take turns with the model.

    Raises InputError where nothing, or everything, is subject.
    """
    target, mask_target = files
    source = pixels.load(record.path, alpha="keep", max_pixels=options.max_pixels)
    require_unchanged(record, source.size)
    alpha = own_alpha(source, options.min_area)
    image = source.convert("RGB") if alpha is not None else pixels.to_srgb(source)
    mask = alpha if alpha is not None else finder.mask(image)
    area = require_subject(mask, options.min_area)
    if options.feather:
        mask = feathered(mask, options.feather)
    colour = backgrounds.colour(options.bg, record.id)
    if alpha is not None:  # the colours at its edge hold nothing of another background
        cut = _composed(image, mask, colour, keep_alpha=options.keep_alpha)
    else:
        flattened = flatten.transparent if options.keep_alpha else flatten.flatten
        cut = flattened(image, mask, colour)
    pixels.save(joined(mask, record.path), mask_target)
    pixels.save(cut, target)
    made = CutoutImage(target, mask_target, area, colour, finder.device)
    return Done(record, made, OWN_ALPHA if alpha is not None else "")


def own_alpha(image: Image.Image, min_area: float) -> Image.Image | None:
    """Return the alpha of an image that was cut out before; None if it has none, or one that cuts
    nothing out.
    """
    if image.mode != "RGBA":
        return None
    alpha = image.getchannel("A")
    return alpha if min_area <= share(alpha) <= 1 - min_area else None


def require_subject(mask: Image.Image, min_area: float) -> float:
    """Return the share of the image that is subject. Raises InputError for almost nothing and
    almost everything.
    """
    area = share(mask)
    if not min_area <= area <= 1 - min_area:
        raise InputError(
            f"the mask covers {'almost nothing' if area < 0.5 else 'almost everything'} "
            f"({area:.1%} of the image)",
            hint="another --model, a smaller --min-area, or cut it out by hand",
        )
    return area


def share(mask: Image.Image) -> float:
    """Return the mean of a mask (L), 0..1."""
    return float(np.asarray(mask).mean()) / 255


def feathered(mask: Image.Image, radius: float) -> Image.Image:
    """Soften a mask's edge over about `radius` pixels, inwards only: the background stays
    background.
    """
    blurred = mask.filter(ImageFilter.GaussianBlur(radius))
    inwards = blurred.point([max(0, 2 * value - 255) for value in range(256)])
    return ImageChops.darker(mask, inwards)


def joined(mask: Image.Image, source: Path) -> Image.Image:
    """Multiply a mask with the one that the source has already: what either of them leaves out is
    left out.
    """
    path = existing_mask(source)
    if path is None:
        return mask
    other = pixels.load(path).convert("L").resize(mask.size, Image.Resampling.BILINEAR)
    return ImageChops.multiply(mask, other)


def _composed(
    image: Image.Image, alpha: Image.Image, colour: tuple[int, int, int], *, keep_alpha: bool
) -> Image.Image:
    plain = Image.new("RGB", image.size, colour)
    if not keep_alpha:
        return Image.composite(image, plain, alpha)
    shown = alpha.point([0] + [255] * 255)
    cut = Image.composite(image, plain, shown)
    cut.putalpha(alpha)
    return cut
