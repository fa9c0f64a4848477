"""Buckets: the sizes that a trainer crops images to, and the bucket of an image.

The arithmetic is that of sd-scripts, so that users find the numbers they know. The one difference:
no bucket ever has a side of zero (see `_sliver`). Sizes are (width, height) in pixels after EXIF
rotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import one_of

Size = tuple[int, int]

# A latent pixel is 8 x 8 image pixels in every supported model family.
_LATENT = 8
_LARGEST: Final = 16_384  # beyond it the list of buckets takes minutes
_RANGES = {512: (256, 1024), 768: (320, 1536), 1024: (256, 2048)}
# The values of `bucket_selector`: see `select`.
SELECTORS: Final = ("kohya", "fit")
# For `fit`: buckets have at least this share of the allowed area, and of those that crop at most
# this much more than the best one (a fraction of the image) the largest is chosen.
_LEAST_AREA: Final = 0.8
_SLACK: Final = 0.01


@dataclass(frozen=True, slots=True)
class BucketRules:
    """How images are assigned to buckets.

    resolution: the largest area of a bucket, as (width, height). min_reso, max_reso: limits of a
    side, widened to multiples of step; ignored under no_upscale. enabled=False: one bucket, the
    resolution. selector: one of `SELECTORS`.
    """

    resolution: Size = (512, 512)
    min_reso: int = 256
    max_reso: int = 1024
    step: int = 64
    no_upscale: bool = False
    enabled: bool = True
    selector: str = "kohya"

    def __post_init__(self) -> None:
        one_of("bucket_selector", self.selector, *SELECTORS)
        if min(self.resolution) < 1:
            raise ConfigError(
                f"resolution {_text(self.resolution)} is not a size", hint="use 512, 768 or 1024"
            )
        if max(self.resolution) > _LARGEST:
            raise ConfigError(
                f"resolution {_text(self.resolution)} is larger than {_LARGEST:,} pixels",
                hint="use 512, 768 or 1024",
            )
        if not self.enabled:
            if any(side % _LATENT for side in self.resolution):
                raise ConfigError(
                    f"resolution {_text(self.resolution)} is not a multiple of {_LATENT}",
                    hint="use multiples of 64, or enable buckets",
                )
            return
        if self.step < _LATENT or self.step % _LATENT:
            raise ConfigError(
                f"bucket_reso_steps = {self.step} is not a multiple of {_LATENT}",
                hint="use 64, which fits every model, or 32 for SDXL",
            )
        if self.area < self.step**2:
            raise ConfigError(
                f"resolution {_text(self.resolution)} is smaller than one step of {self.step}",
                hint="raise resolution or lower bucket_reso_steps",
            )
        if not self.no_upscale:
            self._check_range()

    def _check_range(self) -> None:
        if self.min_reso < self.step:
            raise ConfigError(
                f"min_bucket_reso = {self.min_reso} is smaller than bucket_reso_steps = "
                f"{self.step}",
                hint=f"use {self.step} or more; 256 is usual",
            )
        low, high = self.sides
        if min(self.resolution) < low:
            raise ConfigError(
                f"min_bucket_reso = {self.min_reso} is larger than the resolution "
                f"{_text(self.resolution)}",
                hint=f"use at most {min(self.resolution)}",
            )
        if max(self.resolution) > high:
            raise ConfigError(
                f"max_bucket_reso = {self.max_reso} is smaller than the resolution "
                f"{_text(self.resolution)}",
                hint=f"use at least {max(self.resolution)}",
            )

    @property
    def area(self) -> int:
        """Return the largest number of pixels of a bucket."""
        return self.resolution[0] * self.resolution[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Return the smallest and the largest side: min_reso rounded down, max_reso rounded up to
        the step.
        """
        return self.min_reso // self.step * self.step, -(-self.max_reso // self.step) * self.step

    @classmethod
    def standard(
        cls, resolution: int | Size, *, step: int = 64, no_upscale: bool = False
    ) -> BucketRules:
        """Return the rules for a resolution with the usual range of sides."""
        size = (resolution, resolution) if isinstance(resolution, int) else resolution
        low, high = default_range(size)
        return cls(size, low, high, step, no_upscale)


@dataclass(frozen=True, slots=True)
class Bucket:
    """How one image is resized: scaled to `resized`, then cropped to `bucket`.

    crop: (left, top) of the centre crop within `resized`, the crop conditioning of SDXL. scale:
    factor from the image to `resized` (above 1: enlarged). cropped: fraction of the area that the
    crop removes, 0..1.
    """

    bucket: Size
    resized: Size
    crop: tuple[int, int]
    scale: float
    cropped: float


def default_range(resolution: int | Size) -> tuple[int, int]:
    """Return the usual (min, max) side of the buckets for a resolution, in pixels.

    512: 256-1024, 768: 320-1536, 1024: 256-2048. For others, with s the side of the square of that
    area: from the smaller of 256 and s / 2 up to 2 s, in multiples of 64, and always including the
    sides of the resolution.
    """
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    side = math.isqrt(max(0, width * height))
    low, high = _RANGES.get(side, (min(256, side // 2), 2 * side))
    low = max(64, min(low, width, height) // 64 * 64)
    return low, -(-max(high, width, height) // 64) * 64


@cache
def make_buckets(rules: BucketRules) -> tuple[Size, ...]:
    """Return every bucket, ascending by width and height; none under no_upscale, where buckets
    depend on the images.

    Equals sd-scripts' `make_bucket_resolutions`.
    """
    if not rules.enabled:
        return (rules.resolution,)
    if rules.no_upscale:
        return ()
    low, high = rules.sides
    square = _floor(math.isqrt(rules.area), rules.step)
    sizes = {(square, square)}
    for width in range(low, high + 1, rules.step):
        height = min(high, _floor(rules.area // width, rules.step))
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def select(rules: BucketRules, width: int, height: int) -> Bucket:
    """Choose the bucket of an image of width x height pixels (after EXIF rotation).

    `kohya` takes the bucket with the nearest aspect ratio, as sd-scripts'
    `BucketManager.select_bucket`; `fit` one that crops least, never more than `kohya`.
    """
    # sd-scripts compares the difference of the ratios width / height. That is not the crop, and it
    # treats wide and tall images differently: at 512, 1460x1000 goes to 576x448, but 1000x1460 to
    # 384x640. `kohya` keeps it, so that every image has the bucket of sd-scripts; `fit` compares
    # the share of the image that is cropped.
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels")
    return _SELECT[rules.selector](rules, width, height)


def _nearest(rules: BucketRules, width: int, height: int) -> Bucket:
    """Take the bucket with the nearest ratio; of several the first in ascending order."""
    if rules.enabled and rules.no_upscale:
        return _shrink_only(rules, width, height)
    sizes = make_buckets(rules)
    ratio = width / height
    bucket = (width, height)
    if bucket not in sizes:
        bucket = min(sizes, key=lambda size: abs(size[0] / size[1] - ratio))
    return _cover(bucket, width, height)


@lru_cache(maxsize=1 << 14)
def _fit(rules: BucketRules, width: int, height: int) -> Bucket:
    """Take the largest bucket that crops at most `_SLACK` more than the best, and no more than the
    nearest.

    The bucket with the nearest ratio differs for an image and the same image rotated by 90 degrees;
    both are compared, so that both get the same size. Sides are multiples of the step within the
    range (under no_upscale: within the image) as for `kohya`; the area may be smaller, down to
    `_LEAST_AREA` of the allowed one.
    """
    nearest = _nearest(rules, width, height)
    if not rules.enabled:
        return nearest
    sizes = _within(rules, width, height) if rules.no_upscale else fit_buckets(rules)
    rotated = _transposed(_nearest(rules, height, width))
    candidates = [nearest, rotated, *(_cover(size, width, height) for size in sizes)]
    best = min(bucket.cropped for bucket in candidates)
    limit = min(nearest.cropped, rotated.cropped, best + _SLACK)
    accepted = [bucket for bucket in candidates if bucket.cropped <= limit]
    return max(accepted, key=lambda bucket: (bucket.bucket[0] * bucket.bucket[1], -bucket.cropped))


_SELECT: Final[dict[str, Callable[[BucketRules, int, int], Bucket]]] = {
    "kohya": _nearest,
    "fit": _fit,
}


@cache
def fit_buckets(rules: BucketRules) -> tuple[Size, ...]:
    """Return every size that `fit` may choose, including `make_buckets`, ascending; none under
    no_upscale.
    """
    if not rules.enabled or rules.no_upscale:
        return make_buckets(rules)
    return tuple(
        sorted({*make_buckets(rules), *_sizes(rules.step, rules.sides, rules.sides, rules.area)})
    )


def _within(rules: BucketRules, width: int, height: int) -> Iterator[Size]:
    """Yield the sizes that an image can be shrunk and cropped to."""
    area = min(rules.area, width * height)
    return _sizes(rules.step, (rules.step, width), (rules.step, height), area)


def _sizes(step: int, across: tuple[int, int], down: tuple[int, int], area: int) -> Iterator[Size]:
    """Yield the sizes in multiples of the step, within both ranges, with at least `_LEAST_AREA` of
    the area.
    """
    for width in range(across[0], across[1] + 1, step):
        lowest = max(down[0], -(-math.ceil(area * _LEAST_AREA / width) // step) * step)
        for height in range(lowest, min(down[1], area // width) + 1, step):
            yield width, height


def _shrink_only(rules: BucketRules, width: int, height: int) -> Bucket:
    """Choose the bucket under no_upscale: the image, shrunk to the area, with each side cropped to
    a multiple of the step.
    """
    resized, scale = (width, height), 1.0
    if width * height > rules.area:
        resized, scale = _shrink(rules, width, height)
    bucket = (_floor(resized[0], rules.step), _floor(resized[1], rules.step))
    return _crop(bucket, resized, scale) if min(bucket) > 0 else _sliver(rules, width, height)


def _shrink(rules: BucketRules, width: int, height: int) -> tuple[Size, float]:
    """Shrink to the area so that one side is a multiple of the step: the one that preserves the
    ratio better.
    """
    ratio, step = width / height, rules.step
    ideal_width = math.sqrt(rules.area * ratio)
    by_width = _floor(_round(ideal_width), step)
    by_height = _floor(_round(rules.area / ideal_width), step)
    other_height = _floor(_round(by_width / ratio), step)
    other_width = _floor(_round(by_height * ratio), step)
    width_error = abs(by_width / other_height - ratio) if other_height else math.inf
    height_error = abs(other_width / by_height - ratio) if by_height else math.inf
    if width_error < height_error:
        return (by_width, _round(by_width / ratio)), by_width / width
    return (_round(by_height * ratio), by_height), by_height / height


def _sliver(rules: BucketRules, width: int, height: int) -> Bucket:
    """Return a bucket of one step for an image whose short side would be less than one step.

    sd-scripts would make a bucket with a side of zero and stop. This is the only case in which
    no_upscale scales up; the long side is cropped to the step and to the area.
    """
    step = rules.step
    scale = step / min(width, height)
    resized = (max(step, _round(width * scale)), max(step, _round(height * scale)))
    longest = _floor(rules.area // step, step)
    return _crop(
        (min(longest, _floor(resized[0], step)), min(longest, _floor(resized[1], step))),
        resized,
        scale,
    )


def _cover(bucket: Size, width: int, height: int) -> Bucket:
    """Scale an image until it covers the bucket, and crop it."""
    scale = bucket[1] / height if width / height > bucket[0] / bucket[1] else bucket[0] / width
    return _crop(bucket, (_round(width * scale), _round(height * scale)), scale)


def _crop(bucket: Size, resized: Size, scale: float) -> Bucket:
    crop = ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)
    kept = bucket[0] * bucket[1] / (resized[0] * resized[1])
    return Bucket(bucket, resized, crop, scale, 1 - kept)


def _transposed(bucket: Bucket) -> Bucket:
    """Return the bucket of the same image with width and height swapped."""
    return replace(
        bucket, bucket=bucket.bucket[::-1], resized=bucket.resized[::-1], crop=bucket.crop[::-1]
    )


def _floor(value: int, step: int) -> int:
    return value // step * step


def _round(value: float) -> int:
    """Round half up, as sd-scripts does; Python rounds half to even."""
    return int(value + 0.5)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
