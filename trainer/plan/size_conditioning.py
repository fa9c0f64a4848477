"""Sizes: what Stable Diffusion XL is told of an image beside its caption, so that it learns no
crop and no blur.

Podell et al. 2023, arXiv:2307.01952, section 2.2: six numbers, (height, width) of the image as it
was before it was scaled, (top, left) of the cut within the scaled image, (height, width) of what
was cut. All in pixels.
"""

from __future__ import annotations

from trainer.data.pixels import Corner
from trainer.plan.plan import TrainImage

Sizes = tuple[int, int, int, int, int, int]


def told(image: TrainImage, at: Corner, flip: bool) -> Sizes:
    """Return the sizes of one sample, from the cut that was really made.

    at: (left, top) of the cut in the scaled image. A mirrored sample is a cut of the mirrored
    image, whose left edge lies as far in as the cut's right edge lies from the image's.
    sd-scripts tells another cut (its issue 1443).
    """
    width, height = image.bucket.bucket
    left, top = at
    if flip:
        left = image.bucket.resized[0] - width - left
    return image.size[1], image.size[0], top, left, height, width


def whole(width: int, height: int) -> Sizes:
    """Return the sizes of an image that is drawn: of its own size, and not cut."""
    return height, width, 0, 0, height, width
