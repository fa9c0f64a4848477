"""Scale images with the functions that sd-scripts uses: `resize_interpolation`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import MissingExtra
from datasetkit.core.install import install_command
from datasetkit.dataset.buckets import Size

# sd-scripts' values of resize_interpolation.
_BY_PILLOW: Final = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}
_BY_OPENCV: Final = {
    "nearest": "INTER_NEAREST_EXACT",
    "bilinear": "INTER_LINEAR",
    "linear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "cubic": "INTER_CUBIC",
    "area": "INTER_AREA",
}


def require_opencv(interpolations: Iterable[str | None]) -> None:
    """Raise MissingExtra if OpenCV is needed and not installed."""
    needed = sorted({name for name in interpolations if name in _BY_OPENCV})
    if needed and find_spec("cv2") is None:
        hint = f"{install_command('opencv')}; without the option Lanczos is used"
        raise MissingExtra(f"resize_interpolation = {needed[0]!r} needs OpenCV", hint=hint)


def resized(image: Image.Image, size: Size, interpolation: str) -> NDArray[np.uint8]:
    """Scale a whole RGB image with the same functions of Pillow and OpenCV as sd-scripts, so that
    the pixels are the same.
    """
    if image.size == size:
        return np.asarray(image)
    if interpolation in _BY_PILLOW:
        return np.asarray(image.resize(size, _BY_PILLOW[interpolation]))
    import cv2  # here: `require_opencv` has checked that it is installed

    scaled = cv2.resize(
        np.asarray(image), size, interpolation=getattr(cv2, _BY_OPENCV[interpolation])
    )
    return np.asarray(scaled, np.uint8)
