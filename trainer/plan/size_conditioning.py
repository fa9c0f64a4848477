"""Size conditioning of Stable Diffusion XL: original size, crop and target size of each image.

With it the model does not learn crops and upscaling blur as part of an image (Podell et al. 2023,
arXiv:2307.01952, section 2.2). Six numbers in pixels: (height, width) of the original image, (top,
left) of the crop in the resized image, (height, width) of the crop.
"""

from __future__ import annotations

from trainer.data.pixels import Corner
from trainer.plan.plan import TrainImage

Sizes = tuple[int, int, int, int, int, int]


def of_sample(image: TrainImage, at: Corner, flip: bool) -> Sizes:
    """Return the sizes of a sample, from its actual crop.

    at: (left, top) of the crop in the resized image. A mirrored sample is a crop of the mirrored
    image, so its left edge is the distance of the crop's right edge from the image's right edge.
    sd-scripts uses another crop (its issue 1443).
    """
    width, height = image.bucket.bucket
    left, top = at
    if flip:
        left = image.bucket.resized[0] - width - left
    return image.size[1], image.size[0], top, left, height, width


def of_image(width: int, height: int) -> Sizes:
    """Return the sizes of a generated image: of its own size, without a crop."""
    return height, width, 0, 0, height, width
