"""Colours of an image: their names, how colourful it is, and whether its background is plain."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pixels of the longer side at which colours are measured: means over blocks, without fine noise.
SIDE = 128
BORDER = 0.04  # depth of the strip whose colour is the background's, as a share of the shorter side
SAME = 0.03  # OKLab distance up to which two colours count as one; JPEG noise stays below it
COLOURED = 0.02  # OKLab chroma; less looks grey

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """The colour around the image's subject.

    colour: OKLab. plainness: share of the border (left, top, right) that has this one colour. area:
    its share of the whole image.
    """

    colour: tuple[float, float, float]
    plainness: float
    area: float


def sample(image: Image.Image) -> Floats:
    """Return an RGB image in OKLab, at most 128 pixels on its longer side: (h, w, 3)."""
    scale = SIDE / max(image.size)
    if scale < 1.0:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return oklab(np.asarray(image, np.uint8))


def oklab(rgb: NDArray[np.uint8]) -> Floats:
    """Turn sRGB bytes (..., 3) into OKLab: lightness 0 to 1, a (green to red), b (blue to yellow).

    Source: Björn Ottosson, "A perceptual color space for image processing", 2020.
    """
    value = np.asarray(rgb, np.float32) / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T, np.float32)


_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)


@cache
def named_shades() -> dict[str, Floats]:
    """Return for each basic colour name the shades that people gave this name, in OKLab: (n, 3)."""
    table = tomllib.loads(
        files("datasetkit").joinpath("data", "colours.toml").read_text(encoding="utf-8")
    )
    return {
        name: oklab(np.array([list(bytes.fromhex(s[1:])) for s in shades], np.uint8))
        for name, shades in table.items()
    }


def name_shares(colour: tuple[float, float, float]) -> dict[str, float]:
    """Return how surely each name is the colour's: 1 on one of the name's shades, 0.5 half-way to
    another name's.
    """
    nearest = {
        name: float(np.linalg.norm(shades - colour, axis=1).min())
        for name, shades in named_shades().items()
    }
    shares = {}
    for name, distance in nearest.items():
        other = min(far for rival, far in nearest.items() if rival != name)
        shares[name] = other / (distance + other) if distance + other else 0.5
    return shares


def name(rgb: tuple[int, int, int]) -> str:
    """Return the basic colour name with the shade nearest to a colour (sRGB)."""
    lightness, a, b = oklab(np.array(rgb, np.uint8)).tolist()
    shares = name_shares((lightness, a, b))
    return max(shares, key=lambda name: shares[name])


def background(pixels: Floats) -> Background:
    """Find the background's colour from the border without its bottom, where a body is often cut
    off.
    """
    height, width = pixels.shape[:2]
    depth = max(1, round(min(height, width) * BORDER))
    strips = (pixels[:depth], pixels[depth:, :depth], pixels[depth:, -depth:])
    border = np.concatenate([strip.reshape(-1, 3) for strip in strips])
    colour = np.median(border, axis=0)

    def share(of: Floats) -> float:
        return float((np.linalg.norm(of - colour, axis=-1) <= SAME).mean())

    return Background(
        (float(colour[0]), float(colour[1]), float(colour[2])), share(border), share(pixels)
    )


def colourfulness(pixels: Floats) -> float:
    """Return the 99th percentile of the chroma (OKLab): below about 0.02 the image is grey."""
    return float(np.percentile(np.hypot(pixels[..., 1], pixels[..., 2]), 99))


def hue_unity(pixels: Floats) -> float:
    """Return how far the coloured pixels share one hue, from 0 (all hues) to 1 (one hue, or grey).

    It is the length of the mean hue, as unit vectors weighted by chroma.
    """
    vectors = pixels[..., 1:].reshape(-1, 2)
    chroma = np.hypot(vectors[:, 0], vectors[:, 1])
    coloured = chroma > COLOURED
    total = float(chroma[coloured].sum())
    return float(np.hypot(*vectors[coloured].sum(axis=0)) / total) if total else 1.0


def prevailing_colour(pixels: Floats) -> tuple[float, float, float]:
    """Return the mean colour weighted by chroma (OKLab): the tint of a tinted image."""
    flat = pixels.reshape(-1, 3)
    weights = np.hypot(flat[:, 1], flat[:, 2]) + 1e-6
    mean = (flat * weights[:, None]).sum(axis=0) / weights.sum()
    return float(mean[0]), float(mean[1]), float(mean[2])
