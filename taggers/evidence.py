"""What the basic tagger sees in an image, and which evidence follows from it, each a number from 0
to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasetkit.vision import colours
from datasetkit.vision.colours import Background
from datasetkit.vision.faces import Face

# Framing, by (lower edge of the image - top of the face) / height of the face, BlazeFace's box
# running from the brows to the chin: where each begins and ends. Between two ranges nothing is
# said. Measured on drawn figures, whose heads are large: a photo's `upper body` ends at about 4.
FRAMINGS = {
    "close-up": (0.8, 1.42),
    "portrait": (1.2, 2.3),
    "upper body": (2.4, 4.1),
    "cowboy shot": (4.35, 6.7),
}
FRAMING_EDGE = 0.1  # how far outside of its range a framing's evidence falls to nothing
CLOSE_WIDTH = 0.5  # a close-up's face is at least this share of the image's width
SECOND_FACE = (
    0.25,
    0.45,
)  # score of another face at which `one face` begins to fall, and is nothing
LEAST_TEXTURE = (
    0.5,
    0.65,
)  # share of uneven pixels below which no photo is believed, and from which on it is
# how much of a face's score is not believed in a sure photo, where true faces have 0.85 and more
PHOTO_DOUBT = 0.35
GREY = 0.04  # OKLab chroma; half of it is the most that a grey image has
ONE_HUE = 0.98  # hue unity; below, several hues
LEAST_AREA = 0.1  # share of the whole image that a background has at least
FEET = 0.5  # share of background below the face from which on the body ends inside the image
ANIMALS = slice(0, 398)  # ImageNet's classes 0 to 397 are animals


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen in one image.

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
    """Return all evidence of one image by name.

    nouns: the class numbers of each noun; "thing" among them stands for what is photographed
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
    """Say whether one face is there, how it is framed, and whether there is none.

    Animals have faces as well, and cups and cells look like one: `belief`, 1 or less, is what a
    face's score is worth for `one face`. For `no face` it counts in full, since a person may stand
    beside the cat.
    """
    best = seen.faces[0] if seen.faces else None
    if best is None:
        return {"one face": 0.0, "no face": 1.0, **dict.fromkeys(FRAMINGS, 0.0)}
    second = max((face.score for face in seen.faces[1:] if not _same_head(best, face)), default=0.0)
    alone = best.score * belief * (1.0 - ramp(second, *SECOND_FACE))
    return {"one face": alone, "no face": 1.0 - best.score, **framing(best, seen, background)}


def framing(face: Face, seen: Observation, background: Background) -> dict[str, float]:
    """Say how much of the person is in the image, for each framing; nothing where the body ends
    inside it.
    """
    width, height = seen.size
    heads = (height - face.top) / face.height
    found = {name: _within(heads, *limits) for name, limits in FRAMINGS.items()}
    if face.width >= CLOSE_WIDTH * width:
        found["portrait"] *= 1.0 - found["close-up"]
    else:
        found["close-up"] = 0.0
    if _ends_inside(face, seen, background):
        found = dict.fromkeys(found, 0.0)
    return found


def colour(pixels: NDArray[np.float32], background: Background) -> dict[str, float]:
    """Say whether the background is plain and what colour it has, and whether the image has one
    hue or none.
    """
    chroma = colours.colourfulness(pixels)
    one_hue = ramp(colours.hue_unity(pixels), ONE_HUE, 1.0)
    found = {
        "plain background": background.plainness if background.area >= LEAST_AREA else 0.0,
        "no colour": 1.0 - min(chroma / GREY, 1.0),
        "one hue": one_hue,
        "tinted": one_hue if chroma > 2 * GREY else 0.0,
    }
    found |= {
        f"background is {name}": share
        for name, share in colours.name_shares(background.colour).items()
    }
    tint = colours.prevailing_colour(pixels)
    found |= {f"tint is {name}": share for name, share in colours.name_shares(tint).items()}
    return found


def ramp(value: float, low: float, high: float) -> float:
    """Rise from 0 at `low` to 1 at `high`."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _within(value: float, low: float, high: float) -> float:
    edge = FRAMING_EDGE
    return min(ramp(value, low - edge, low + edge), 1.0 - ramp(value, high - edge, high + edge))


def _same_head(face: Face, other: Face) -> bool:
    """Say whether the other box stands on the same person: above or below the face, or overlapping
    it.
    """
    return abs(other.centre[0] - face.centre[0]) < 0.75 * face.width


def _ends_inside(face: Face, seen: Observation, background: Background) -> bool:
    """Say whether plain background shows at the lower edge below the face, as with a bust or a
    whole figure.
    """
    if background.plainness < FEET:
        return False
    columns = seen.pixels.shape[1]
    middle, half = face.centre[0] / seen.size[0] * columns, face.width / seen.size[0] * columns / 2
    left = min(max(round(middle - half), 0), columns - 1)
    lowest = seen.pixels[-1, left : max(round(middle + half), left + 1)]
    distance = np.linalg.norm(lowest - np.array(background.colour, np.float32), axis=-1)
    return float((distance <= colours.SAME).mean()) > FEET
