"""Scale and crop an image and its mask to a bucket in one resampling; colour augmentation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.dataset.buckets import Bucket
from datasetkit.executors.in_flight import DECODED
from datasetkit.images import pixels as images
from trainer.data.interpolation import resized
from trainer.plan.plan import TrainImage
from trainer.plan.read_images import require_mask_shape

# Part of a cached latent's key: change it whenever pixels come out differently.
VERSION = "lanczos-box-1"
# sd-scripts' colour augmentation: fraction of samples, maximum hue shift in degrees, maximum change
# of gamma.
_AUGMENTED: Final = 0.33
_HUE: Final = 16.0
_GAMMA: Final = 0.05
Corner = tuple[int, int]


def corner(bucket: Bucket, draw: Callable[[int, int], int] | None = None) -> Corner:
    """Return the corner of the crop in the resized image: centred, or drawn by `draw(low, high)`.

    The width is drawn before the height.
    """
    if draw is None:
        return bucket.crop
    left = draw(0, bucket.resized[0] - bucket.bucket[0])
    return left, draw(0, bucket.resized[1] - bucket.bucket[1])


def read(image: TrainImage, at: Corner, *, flip: bool) -> NDArray[np.uint8]:
    """Return the image as trained, (height, width, 3). Raises InputError."""
    bucket, interpolation = image.bucket, image.subset.interpolation
    with DECODED.work():
        if interpolation is None:
            loaded = images.load(image.path, shrink_to=max(bucket.resized))
            return np.asarray(_fit(loaded, bucket, at, flip, Image.Resampling.LANCZOS))
        whole = resized(images.load(image.path), bucket.resized, interpolation)
    (left, top), (width, height) = at, bucket.bucket
    cut = whole[top : top + height, left : left + width]
    return np.ascontiguousarray(cut[:, ::-1] if flip else cut)


def read_mask(image: TrainImage, at: Corner, *, flip: bool) -> NDArray[np.uint8]:
    """Return an image's mask, (height, width), cropped like the image; white without a mask."""
    width, height = image.bucket.bucket
    if image.mask is None:
        return np.full((height, width), 255, np.uint8)
    mask = images.load(image.mask).convert("L")
    require_mask_shape(image.mask, mask.size, image.size)
    return np.asarray(_fit(mask, image.bucket, at, flip, Image.Resampling.BILINEAR))


def _fit(
    image: Image.Image, bucket: Bucket, at: Corner, flip: bool, filter: Image.Resampling
) -> Image.Image:
    """Resample the image's crop to the bucket; the crop is given in pixels of the resized image."""
    across, down = image.width / bucket.resized[0], image.height / bucket.resized[1]
    box = (
        at[0] * across,
        at[1] * down,
        min(image.width, (at[0] + bucket.bucket[0]) * across),
        min(image.height, (at[1] + bucket.bucket[1]) * down),
    )
    cut = image.resize(bucket.bucket, filter, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else cut


def color_augmented(pixels: NDArray[np.uint8], random: Random) -> NDArray[np.uint8]:
    """Change an image's colours slightly in one of three samples, like sd-scripts' `color_aug`.

    Half of these shift the hue by at most 16 degrees, the others apply a gamma of 0.95 to 1.05.
    sd-scripts applies the gamma to levels from 0 to 255, which changes bright ones by a quarter;
    here levels go from 0 to 1.
    """
    if random.random() > _AUGMENTED:
        return pixels
    if random.random() > 0.5:
        return with_hue_shift(pixels, random.uniform(-_HUE, _HUE))
    return with_gamma(pixels, random.uniform(1 - _GAMMA, 1 + _GAMMA))


def with_hue_shift(pixels: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Shift the hue of each pixel (height, width, 3); grey does not change."""
    hue, saturation, value = Image.fromarray(pixels, "RGB").convert("HSV").split()
    shift = round(degrees / 360 * 256)
    shifted = hue.point([(level + shift) % 256 for level in range(256)])
    return np.asarray(Image.merge("HSV", (shifted, saturation, value)).convert("RGB"))


def with_gamma(pixels: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Raise the levels, scaled from 0 to 1, to a power."""
    table = ((np.arange(256) / 255) ** gamma * 255).round().astype(np.uint8)
    return table[pixels]
