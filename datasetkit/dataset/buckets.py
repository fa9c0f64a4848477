"""Buckets: the sizes that a trainer cuts images to, and which one an image gets.

The arithmetic is that of sd-scripts, so that users find the numbers they know. One thing is ours:
no bucket ever has a side of zero (see `_sliver`). Sizes are (width, height) in pixels, as an image
is looked at: EXIF turn applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import one_of

Size = tuple[int, int]

# A latent pixel is 8 x 8 image pixels in every family that is trained here.
_LATENT = 8
_RANGES = {512: (256, 1024), 768: (320, 1536), 1024: (256, 2048)}
# How images find their bucket, by `bucket_selector`: see `select`.
SELECTORS: Final = ("kohya", "fit")
# Of `fit`: a bucket has at least this part of the area that it may have, and of those that cut off
# at most so much more than the best one (a fraction of the image) the largest is taken.
_LEAST_AREA: Final = 0.8
_SLACK: Final = 0.01


@dataclass(frozen=True, slots=True)
class BucketRules:
    """How images are sorted into sizes.

    resolution: the area that a bucket may fill, as (width, height). min_reso, max_reso: limits of a
    side, widened to multiples of step; without meaning under no_upscale. enabled=False: one bucket,
    the resolution itself. selector: which bucket an image gets, of `SELECTORS`.
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
                f"resolution {_text(self.resolution)} is no size", hint="give 512, 768 or 1024"
            )
        if not self.enabled:
            if any(side % _LATENT for side in self.resolution):
                raise ConfigError(
                    f"resolution {_text(self.resolution)} is not made of multiples of {_LATENT}",
                    hint="choose multiples of 64, or enable buckets",
                )
            return
        if self.step < _LATENT or self.step % _LATENT:
            raise ConfigError(
                f"bucket_reso_steps = {self.step} is not a multiple of {_LATENT}",
                hint="64 fits every model, 32 is allowed for SDXL",
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
                hint=f"give {self.step} or more; 256 is usual",
            )
        low, high = self.sides
        if min(self.resolution) < low:
            raise ConfigError(
                f"min_bucket_reso = {self.min_reso} is larger than the resolution "
                f"{_text(self.resolution)}",
                hint=f"give at most {min(self.resolution)}",
            )
        if max(self.resolution) > high:
            raise ConfigError(
                f"max_bucket_reso = {self.max_reso} is smaller than the resolution "
                f"{_text(self.resolution)}",
                hint=f"give at least {max(self.resolution)}",
            )

    @property
    def area(self) -> int:
        """Return the most pixels that a bucket holds."""
        return self.resolution[0] * self.resolution[1]

    @property
    def sides(self) -> tuple[int, int]:
        """Return the smallest and the largest side: min_reso rounded down and max_reso rounded up
        to the step.
        """
        return self.min_reso // self.step * self.step, -(-self.max_reso // self.step) * self.step

    @classmethod
    def standard(
        cls, resolution: int | Size, *, step: int = 64, no_upscale: bool = False
    ) -> BucketRules:
        """Return the rules for a resolution with its usual range of sides."""
        size = (resolution, resolution) if isinstance(resolution, int) else resolution
        low, high = default_range(size)
        return cls(size, low, high, step, no_upscale)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What becomes of one image: scaled to `resized`, then cut to `bucket`.

    crop: (left, top) of the centre crop within `resized`, as SDXL is told. scale: factor from the
    image to `resized` (above 1: enlarged). cropped: fraction of the area that the cut removes,
    0..1.
    """

    bucket: Size
    resized: Size
    crop: tuple[int, int]
    scale: float
    cropped: float


def default_range(resolution: int | Size) -> tuple[int, int]:
    """Return the usual (min, max) side of the buckets for a resolution, in pixels.

    512: 256-1024, 768: 320-1536, 1024: 256-2048. Any other: up to twice the side of the square of
    that area, down to 256, or to half of that side where this is smaller; both in steps of 64 and
    never within the resolution's sides.
    """
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    side = math.isqrt(max(0, width * height))
    low, high = _RANGES.get(side, (min(256, side // 2), 2 * side))
    low = max(64, min(low, width, height) // 64 * 64)
    return low, -(-max(high, width, height) // 64) * 64


@cache
def make_buckets(rules: BucketRules) -> tuple[Size, ...]:
    """Return every bucket, ascending by width and height; none under no_upscale, where the images
    make them.

    As sd-scripts' `make_bucket_resolutions`.
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
    """Choose the bucket of an image of width x height pixels (EXIF turn applied).

    By rules.selector: `kohya` takes the bucket of the nearest ratio, as sd-scripts'
    `BucketManager.select_bucket`; `fit` one that cuts off least, never more than `kohya` would.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels")
    return _SELECT[rules.selector](rules, width, height)


def _nearest(rules: BucketRules, width: int, height: int) -> Bucket:
    """Take the bucket of the nearest ratio; ties go to the first one of the ascending order."""
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
    """Take the largest of the buckets that cut off hardly more than the best, and no more than the
    nearest.

    The nearest ratio of an image on its side may be another one: so that both are treated alike,
    both are looked at. Their sides are multiples of the step within the range (under no_upscale:
    within the image) as those of `kohya`; but their area may be smaller, down to `_LEAST_AREA` of
    what is allowed.
    """
    nearest = _nearest(rules, width, height)
    if not rules.enabled:
        return nearest
    sizes = _within(rules, width, height) if rules.no_upscale else fit_buckets(rules)
    lying = _turned(_nearest(rules, height, width))
    found = [nearest, lying, *(_cover(size, width, height) for size in sizes)]
    most = min(nearest.cropped, lying.cropped, min(bucket.cropped for bucket in found) + _SLACK)
    good = [bucket for bucket in found if bucket.cropped <= most]
    return max(good, key=lambda bucket: (bucket.bucket[0] * bucket.bucket[1], -bucket.cropped))


_SELECT: Final[dict[str, Callable[[BucketRules, int, int], Bucket]]] = {
    "kohya": _nearest,
    "fit": _fit,
}


@cache
def fit_buckets(rules: BucketRules) -> tuple[Size, ...]:
    """Return every size that `fit` may take, those of `make_buckets` among them, ascending; none
    under no_upscale.
    """
    if not rules.enabled or rules.no_upscale:
        return make_buckets(rules)
    return tuple(
        sorted({*make_buckets(rules), *_sizes(rules.step, rules.sides, rules.sides, rules.area)})
    )


def _within(rules: BucketRules, width: int, height: int) -> Iterator[Size]:
    """Yield the sizes to which an image can be shrunk and cut."""
    most = min(rules.area, width * height)
    return _sizes(rules.step, (rules.step, width), (rules.step, height), most)


def _sizes(step: int, across: tuple[int, int], down: tuple[int, int], area: int) -> Iterator[Size]:
    """Yield the sizes of multiples of the step, within both ranges, that fill at least
    `_LEAST_AREA` of the area.
    """
    for width in range(across[0], across[1] + 1, step):
        lowest = max(down[0], -(-math.ceil(area * _LEAST_AREA / width) // step) * step)
        for height in range(lowest, min(down[1], area // width) + 1, step):
            yield width, height


def _shrink_only(rules: BucketRules, width: int, height: int) -> Bucket:
    """Choose the bucket under no_upscale: the image itself, shrunk to the area, each side cut
    down to the step.
    """
    resized, scale = (width, height), 1.0
    if width * height > rules.area:
        resized, scale = _shrink(rules, width, height)
    bucket = (_floor(resized[0], rules.step), _floor(resized[1], rules.step))
    return _cut(bucket, resized, scale) if min(bucket) > 0 else _sliver(rules, width, height)


def _shrink(rules: BucketRules, width: int, height: int) -> tuple[Size, float]:
    """Shrink to the area so that one side is a multiple of the step: the side that keeps the ratio
    better.
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
    """Give an image whose short side would be less than one step a bucket of one step there.

    sd-scripts makes a bucket with a side of zero and stops. This is the one case in which
    no_upscale scales up; the long side is cut to the step and to the area.
    """
    step = rules.step
    scale = step / min(width, height)
    resized = (max(step, _round(width * scale)), max(step, _round(height * scale)))
    longest = _floor(rules.area // step, step)
    return _cut(
        (min(longest, _floor(resized[0], step)), min(longest, _floor(resized[1], step))),
        resized,
        scale,
    )


def _cover(bucket: Size, width: int, height: int) -> Bucket:
    """Scale an image until it covers the bucket, and cut it."""
    scale = bucket[1] / height if width / height > bucket[0] / bucket[1] else bucket[0] / width
    return _cut(bucket, (_round(width * scale), _round(height * scale)), scale)


def _cut(bucket: Size, resized: Size, scale: float) -> Bucket:
    crop = ((resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2)
    kept = bucket[0] * bucket[1] / (resized[0] * resized[1])
    return Bucket(bucket, resized, crop, scale, 1 - kept)


def _turned(of: Bucket) -> Bucket:
    """Return the bucket of the same image on its side."""
    return Bucket(of.bucket[::-1], of.resized[::-1], of.crop[::-1], of.scale, of.cropped)


def _floor(value: int, step: int) -> int:
    return value // step * step


def _round(value: float) -> int:
    """Round half up, as sd-scripts does; Python's own round goes to the even number."""
    return int(value + 0.5)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
