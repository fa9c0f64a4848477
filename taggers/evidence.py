"""The evidence of the basic tagger: from what its models found in an image, numbers from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasetkit.vision import colours
from datasetkit.vision.colours import Background
from datasetkit.vision.faces import Face

# Framing: the range of (lower edge of the image - top of the face) / height of the face, where
# BlazeFace's box reaches from the brows to the chin. Between two ranges no framing is given.
# Measured on drawn figures, whose heads are large: in photos `upper body` ends at about 4.
FRAMINGS = {
    "close-up": (0.8, 1.42),
    "portrait": (1.2, 2.3),
    "upper body": (2.4, 4.1),
    "cowboy shot": (4.35, 6.7),
}
FRAMING_EDGE = 0.1  # how far outside of its range a framing's evidence falls to 0
CLOSE_WIDTH = 0.5  # least width of a close-up's face, as a share of the image's
SECOND_FACE = (0.25, 0.45)  # score of another face at which `one face` begins to fall, and is 0
LEAST_TEXTURE = (
    0.5,
    0.65,
)  # share of uneven pixels up to which `photo` is 0, and from which it counts
# The share that a face's score loses in a sure photo, where true faces have 0.85 and more.
PHOTO_DOUBT = 0.35
GREY = 0.04  # OKLab chroma; a grey image has at most half of it
ONE_HUE = 0.98  # hue unity; an image below has several hues
LEAST_AREA = 0.1  # least share of the image that a background covers
FEET = 0.5  # share of background below the face from which the body ends within the image
ANIMALS = slice(0, 398)  # ImageNet's classes 0 to 397 are animals


@dataclass(frozen=True, slots=True)
class Observation:
    """What the models found in one image.

    size: width, height in pixels. faces: best first, in pixels. nouns: probabilities of the 1,000
    ImageNet classes. photo: probability of a photo. texture: share of uneven pixels. pixels: small
    OKLab image (h, w, 3).
    """

    size: tuple[int, int]
    faces: tuple[Face, ...]
    nouns: NDArray[np.float32]
    photo: float
    texture: float
    pixels: NDArray[np.float32]


def gather(seen: Observation, nouns: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return the evidence of one image by name.

    nouns: the class numbers of each noun; the noun "thing" has the classes that are photographed
    without people.
    """
    background = colours.background(seen.pixels)
    photo = seen.photo * ramp(seen.texture, *LEAST_TEXTURE)
    things = {noun: float(seen.nouns[list(classes)].sum()) for noun, classes in nouns.items()}
    faceless = max(float(seen.nouns[ANIMALS].sum()), things["thing"], PHOTO_DOUBT * photo)
    return {
        "photo": photo,
        **things,
        **person(seen, background, 1.0 - faceless),
        **colour(seen.pixels, background),
    }


def person(seen: Observation, background: Background, belief: float) -> dict[str, float]:
    """Return the evidence for one face, for no face, and for each framing.

    Animals have faces too, and cups look like one: `belief`, up to 1, scales a face's score for
    `one face`. For `no face` the score counts in full: a person may stand beside the cat.
    """
    best = seen.faces[0] if seen.faces else None
    if best is None:
        return {"one face": 0.0, "no face": 1.0, **dict.fromkeys(FRAMINGS, 0.0)}
    second = max((face.score for face in seen.faces[1:] if not _same_head(best, face)), default=0.0)
    alone = best.score * belief * (1.0 - ramp(second, *SECOND_FACE))
    return {"one face": alone, "no face": 1.0 - best.score, **framing(best, seen, background)}


def framing(face: Face, seen: Observation, background: Background) -> dict[str, float]:
    """Return the evidence for each framing; 0 for all if the body ends within the image."""
    width, height = seen.size
    heads = (height - face.top) / face.height
    evidence = {name: _within(heads, *limits) for name, limits in FRAMINGS.items()}
    if face.width >= CLOSE_WIDTH * width:
        evidence["portrait"] *= 1.0 - evidence["close-up"]
    else:
        evidence["close-up"] = 0.0
    if _ends_inside(face, seen, background):
        return dict.fromkeys(evidence, 0.0)
    return evidence


def colour(pixels: NDArray[np.float32], background: Background) -> dict[str, float]:
    """Return the evidence for a plain background, its colour, and for one hue or none."""
    chroma = colours.colourfulness(pixels)
    one_hue = ramp(colours.hue_unity(pixels), ONE_HUE, 1.0)
    evidence = {
        "plain background": background.plainness if background.area >= LEAST_AREA else 0.0,
        "no colour": 1.0 - min(chroma / GREY, 1.0),
        "one hue": one_hue,
        "tinted": one_hue if chroma > 2 * GREY else 0.0,
    }
    evidence |= {
        f"background is {name}": share
        for name, share in colours.name_shares(background.colour).items()
    }
    tint = colours.prevailing_colour(pixels)
    evidence |= {f"tint is {name}": share for name, share in colours.name_shares(tint).items()}
    return evidence


def ramp(value: float, low: float, high: float) -> float:
    """Rise from 0 at `low` to 1 at `high`."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _within(value: float, low: float, high: float) -> float:
    edge = FRAMING_EDGE
    return min(ramp(value, low - edge, low + edge), 1.0 - ramp(value, high - edge, high + edge))


def _same_head(face: Face, other: Face) -> bool:
    """Tell whether the other box is of the same person: above, below or over the face."""
    return abs(other.centre[0] - face.centre[0]) < 0.75 * face.width


def _ends_inside(face: Face, seen: Observation, background: Background) -> bool:
    """Tell whether plain background is at the lower edge below the face, as for a bust or a whole
    figure.
    """
    if background.plainness < FEET:
        return False
    columns = seen.pixels.shape[1]
    middle, half = face.centre[0] / seen.size[0] * columns, face.width / seen.size[0] * columns / 2
    first = min(max(round(middle - half), 0), columns - 1)
    lowest = seen.pixels[-1, first : max(round(middle + half), first + 1)]
    distance = np.linalg.norm(lowest - np.array(background.colour, np.float32), axis=-1)
    return float((distance <= colours.SAME).mean()) > FEET
