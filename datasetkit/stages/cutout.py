"""The cut-out stage: the subject of each image before one plain colour, and its mask
beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from datasetkit.captions import backgrounds
from datasetkit.core.errors import InputError
from datasetkit.core.files import display, existing_mask
from datasetkit.core.records import Done, ImageRecord, Outcome
from datasetkit.images import pixels
from datasetkit.options.images import CutoutOptions
from datasetkit.vision import flatten
from datasetkit.vision.subject import SubjectFinder

OWN_ALPHA = "its own transparency was used"


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


@dataclass(frozen=True, slots=True)
class CutoutStage:
    """Cut subjects out. targets: (source, image, mask) of each image, the last two to be
    written.
    """

    targets: tuple[tuple[Path, Path, Path], ...]
    options: CutoutOptions
    batch_size: int = 1
    name: str = "cutout"

    @contextmanager
    def open(self) -> Iterator[CutoutWorker]:
        """Load the model. Raises MissingExtra, ConfigError, ModelFileError."""
        places = {source: (image, mask) for source, image, mask in self.targets}
        yield CutoutWorker(
            places, self.options, SubjectFinder(self.options.model, self.options.provider)
        )


@dataclass(frozen=True, slots=True)
class CutoutWorker:
    """Does one image from file to files in `prepare`, in parallel; the model takes its images
    in turn.
    """

    targets: Mapping[Path, tuple[Path, Path]]
    options: CutoutOptions
    finder: SubjectFinder

    def prepare(self, record: ImageRecord) -> Done[CutoutImage]:
        """Read, cut out and write one image. Raises InputError where nothing, or everything, is
        subject.
        """
        options = self.options
        target, mask_target = self.targets[record.path]
        seen = pixels.load(record.path, alpha="keep", max_pixels=options.max_pixels)
        if seen.size != (record.width, record.height):
            raise InputError(
                f"{display(record.path)} was changed while it was read", hint="run again"
            )
        own = own_alpha(seen, options.min_area)
        image = seen.convert("RGB") if own is not None else pixels.to_srgb(seen)
        mask = own if own is not None else self.finder.mask(image)
        area = require_subject(mask, options.min_area)
        if options.feather:
            mask = feathered(mask, options.feather)
        colour = backgrounds.colour(options.bg, record.id)
        if own is not None:  # its colours at the edge are its own already
            cut = _composed(image, mask, colour, keep_alpha=options.keep_alpha)
        else:
            cut = (flatten.transparent if options.keep_alpha else flatten.flatten)(
                image, mask, colour
            )
        pixels.save(joined(mask, record.path), mask_target)
        pixels.save(cut, target)
        made = CutoutImage(target, mask_target, area, colour, self.finder.device)
        return Done(record, made, OWN_ALPHA if own is not None else "")

    def process(
        self, batch: Sequence[tuple[ImageRecord, object]]
    ) -> Sequence[Outcome[CutoutImage]]:
        return [done for _, done in batch if isinstance(done, Done)]


def own_alpha(seen: Image.Image, min_area: float) -> Image.Image | None:
    """Return the alpha of an image that was cut out before; None where it has none, or one that
    cuts nothing out.
    """
    if seen.mode != "RGBA":
        return None
    alpha = seen.getchannel("A")
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
    """Soften a mask's edge over about `radius` pixels, inwards only: what was background
    stays so.
    """
    blurred = mask.filter(ImageFilter.GaussianBlur(radius))
    inwards = blurred.point([max(0, 2 * value - 255) for value in range(256)])
    return ImageChops.darker(mask, inwards)


def joined(mask: Image.Image, source: Path) -> Image.Image:
    """Join a mask with the one that stands beside the source already: what either leaves out is
    out.
    """
    before = existing_mask(source)
    if before is None:
        return mask
    other = pixels.load(before).convert("L").resize(mask.size, Image.Resampling.BILINEAR)
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
