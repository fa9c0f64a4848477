"""The training images of the tiny base: portraits rendered from their tags.

The style is DiceBear's "Lorelei", a remix of drawings by Lisa Wischofsky (CC0 1.0); the shirt is
drawn here. Needs the extra `tinybase`.
"""

from __future__ import annotations

import colorsys
import io
import json
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIZE: Final = 64  # pixels a side

# Hue in degrees, saturation and value in percent: (lowest, highest) of each. Gaps keep the names
# apart.
Shade = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
HAIR: Final[Mapping[str, Shade]] = {
    "black": ((220, 260), (0, 30), (10, 16)),
    "grey": ((200, 240), (0, 6), (52, 62)),
    "white": ((200, 240), (0, 4), (94, 99)),
    "brown": ((18, 26), (62, 78), (36, 48)),
    "blonde": ((44, 51), (48, 64), (90, 98)),
    "red": ((352, 362), (78, 92), (72, 86)),
    "orange": ((22, 29), (80, 94), (92, 99)),
    "green": ((115, 145), (52, 70), (52, 68)),
    "blue": ((212, 226), (66, 84), (72, 90)),
    "purple": ((268, 282), (52, 68), (58, 76)),
    "pink": ((328, 342), (38, 52), (94, 99)),
}
BACKGROUND: Final[Mapping[str, Shade]] = {
    "white": ((0, 360), (0, 2), (98, 100)),
    "grey": ((0, 360), (0, 4), (64, 74)),
    "red": ((352, 362), (64, 80), (82, 94)),
    "orange": ((24, 31), (66, 82), (94, 100)),
    "yellow": ((50, 56), (56, 76), (96, 100)),
    "green": ((112, 145), (38, 56), (70, 84)),
    "blue": ((204, 220), (42, 62), (84, 96)),
    "purple": ((266, 280), (36, 52), (74, 88)),
    "pink": ((330, 345), (24, 36), (97, 100)),
}
SHIRT: Final[Mapping[str, Shade]] = {
    "black": ((0, 360), (0, 10), (16, 22)),
    "white": ((0, 360), (0, 2), (97, 100)),
    "red": ((352, 362), (74, 90), (70, 84)),
    "yellow": ((48, 54), (70, 86), (92, 99)),
    "green": ((115, 150), (48, 66), (48, 64)),
    "blue": ((210, 226), (60, 78), (62, 82)),
    "purple": ((268, 284), (46, 62), (56, 72)),
    "pink": ((328, 344), (38, 52), (92, 99)),
}
SKIN: Final[Mapping[str, Shade]] = {
    "light": ((22, 30), (14, 24), (97, 100)),
    "tan": ((24, 30), (38, 48), (80, 88)),
    "dark": ((20, 26), (50, 60), (46, 56)),
}

# Lorelei's hair variants as tags; the first one is the person.
GIRL, BOY = "1girl", "1boy"
STYLES: Final[Mapping[int, tuple[str, ...]]] = {
    1: (BOY, "short hair"), 2: (BOY, "short hair"), 3: (BOY, "short hair"),
    4: (BOY, "short hair", "spiky hair"), 5: (GIRL, "short hair", "curly hair"),
    6: (GIRL, "short hair", "bangs"), 7: (BOY, "short hair", "bangs"), 8: (BOY, "short hair"),
    9: (BOY, "short hair", "curly hair"), 10: (GIRL, "medium hair", "bangs"),
    13: (GIRL, "long hair", "bangs"), 14: (GIRL, "hair bun", "bangs"), 15: (GIRL, "long hair"),
    16: (GIRL, "medium hair", "bangs"), 17: (GIRL, "medium hair"),
    19: (GIRL, "medium hair", "bangs"), 20: (BOY, "medium hair", "spiky hair"),
    21: (GIRL, "long hair"), 22: (BOY, "short hair", "curly hair"),
    23: (GIRL, "medium hair", "bangs"), 24: (GIRL, "long hair", "curly hair"),
    26: (GIRL, "hair bun"), 27: (BOY, "mohawk"), 29: (GIRL, "ponytail"),
    31: (GIRL, "ponytail", "curly hair"), 33: (GIRL, "ponytail"), 34: (BOY, "bald"),
    35: (GIRL, "long hair", "curly hair"), 38: (GIRL, "hair bun"),
    39: (BOY, "short hair", "curly hair"), 40: (GIRL, "long hair", "hair over one eye"),
    42: (GIRL, "ponytail", "bangs"), 43: (BOY, "short hair", "bangs"), 47: (BOY, "short hair"),
}  # fmt: skip
EYES: Final[Mapping[str, Sequence[int]]] = {
    "": (2, 4, 6, 9, 10, 11, 14, 17, 21, 23, 24),
    "closed eyes": (1, 15, 22),
    "one eye closed": (12, 18),
    "half-closed eyes": (3, 8),
}
MOUTHS: Final[Mapping[str, Sequence[str]]] = {
    "smile": ("happy01", "happy02", "happy06", "happy13", "happy18"),
    "smile, open mouth": ("happy05", "happy12"),
    "smile, teeth": ("happy07", "happy16"),
    "frown": ("sad04", "sad05", "sad09"),
    "frown, teeth": ("sad06",),
    "open mouth": ("sad01", "sad02"),
    "tongue out": ("sad08",),
}
BROWS: Final[Mapping[str, Sequence[int]]] = {"": (2, 3, 6, 7, 9, 10, 11), "angry": (4, 13)}
GLASSES: Final[Mapping[str, Sequence[int]]] = {"glasses": (1, 3, 4, 5), "sunglasses": (2,)}


@dataclass(frozen=True, slots=True)
class Portrait:
    """One character: its tags, and DiceBear's parts and colours (hex)."""

    tags: tuple[str, ...]
    parts: tuple[tuple[str, Any], ...]
    shirt: str

    def svg(self, size: int = SIZE) -> str:
        """Return the drawing."""
        from dicebear import Avatar

        svg = Avatar(
            _style("lorelei"), {"seed": "portrait", "size": size, **dict(self.parts)}
        ).to_string()
        return _dress(svg, self.shirt)

    def draw(self, size: int = SIZE) -> NDArray[np.uint8]:
        """Return the image, (size, size, 3)."""
        return rasterise(self.svg(size), size)


def _dress(svg: str, colour: str) -> str:
    """Put a shirt over the background and below the character."""
    place = svg.index("<rect", svg.rindex("</defs>"))
    place = svg.index("/>", place) + len("/>")
    shirt = (
        '<path d="M120 1000C130 850 300 830 420 790Q520 900 640 790C760 830 880 850 890 '
        f'1000Z" fill="#{colour}" '
        'stroke="#000" stroke-width="14"/>'
    )
    return svg[:place] + shirt + svg[place:]


def rasterise(svg: str, size: int) -> NDArray[np.uint8]:
    """Return a drawing as pixels, (size, size, 3)."""
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB"))


@cache
def _style(name: str) -> Any:
    from dicebear import Style

    return Style(json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8")))


def shade(colour: Shade, rng: random.Random) -> str:
    """Draw a shade of a colour: six hex digits."""
    hue, saturation, value = (rng.uniform(*limits) for limits in colour)
    return "".join(
        f"{round(255 * c):02x}"
        for c in colorsys.hsv_to_rgb(hue / 360 % 1, saturation / 100, value / 100)
    )


def held_out(hair: str, background: str) -> bool:
    """Return whether this pair of colours is held out of the training, so that prompts can be new
    to the model.

    One pair in eleven: each hair colour and each background has one or none.
    """
    return (list(HAIR).index(hair) + 3 * list(BACKGROUND).index(background)) % len(HAIR) == 0


def portrait(rng: random.Random, *, unseen: bool | None = False) -> Portrait:
    """Draw a character. unseen: only held-out pairs of colours (True), none of them (False), any
    (None).
    """
    number = rng.choice(list(STYLES))
    who, *style = STYLES[number]
    while True:
        hair, background = rng.choice(list(HAIR)), rng.choice(list(BACKGROUND))
        if unseen is None or held_out(hair, background) == unseen:
            break
    shirt, skin = rng.choice(list(SHIRT)), rng.choices(list(SKIN), (5, 2, 2))[0]
    eyes, mouth = (
        rng.choices(list(EYES), (8, 2, 1, 1))[0],
        rng.choices(list(MOUTHS), (5, 2, 2, 3, 1, 2, 1))[0],
    )
    brows = rng.choices(list(BROWS), (8, 2))[0]
    eyewear = rng.choices(("", *GLASSES), (6, 3, 1))[0]
    beard = who == BOY and rng.random() < 0.35
    earrings, freckles = rng.random() < 0.12, rng.random() < 0.12
    flower = who == GIRL and rng.random() < 0.15
    hair_tag = "" if "bald" in style and not beard else f"{hair} hair"
    tags = [who, hair_tag, *style, f"{background} background", f"{shirt} shirt"]
    tags += ["" if skin == "light" else f"{skin} skin", eyes, brows, eyewear, *mouth.split(", ")]
    extras = {"beard": beard, "earrings": earrings, "freckles": freckles, "hair flower": flower}
    tags += [name if shown else "" for name, shown in extras.items()]

    def variant(numbers: Sequence[int]) -> str:
        return f"variant{rng.choice(numbers):02d}"

    parts: dict[str, Any] = {
        "hairVariant": variant([number]), "hairColor": shade(HAIR[hair], rng),
        "skinColor": shade(SKIN[skin], rng), "backgroundColor": shade(BACKGROUND[background], rng),
        "eyesVariant": variant(EYES[eyes]), "eyebrowsVariant": variant(BROWS[brows]),
        "mouthVariant": rng.choice(MOUTHS[mouth]), "noseVariant": variant((1, 2, 4, 5)),
        "headVariant": "variant01", "earringsColor": "e0a020", "hairAccessoriesColor": "ffffff",
        "glassesVariant": variant(GLASSES[eyewear]) if eyewear else "variant01",
        "glassesProbability": 100 if eyewear else 0, "beardVariant": variant((1, 2)),
        "beardProbability": 100 if beard else 0, "earringsProbability": 100 if earrings else 0,
        "earringsVariant": "variant01", "frecklesProbability": 100 if freckles else 0,
        "hairAccessoriesProbability": 100 if flower else 0, "scale": 1.04, "translateY": -1,
    }  # fmt: skip
    return Portrait(tuple(filter(None, tags)), tuple(parts.items()), shade(SHIRT[shirt], rng))


# The VAE sees other drawings too, so that it can hold what a LoRA brings. All CC0 1.0.
OTHERS: Final = (
    "lorelei",
    "open-peeps",
    "pixel-art",
    "notionists",
    "voxel-art",
    "cutouts",
    "lorelei-neutral",
)


def other(rng: random.Random, size: int = SIZE) -> NDArray[np.uint8]:
    """Draw an image that is not a portrait of this set: another style, at any scale and position,
    in any colours.
    """
    from dicebear import Avatar

    name = rng.choice(OTHERS)
    any_colour: Shade = ((0, 360), (0, 90), (20, 100))
    options: dict[str, Any] = {
        "seed": str(rng.random()), "size": size, "backgroundColor": shade(any_colour, rng),
        "scale": rng.uniform(0.8, 2.5), "translateX": rng.uniform(-25, 25),
        "translateY": rng.uniform(-25, 25), "flip": rng.choice(("none", "horizontal")),
    }  # fmt: skip
    if name.startswith("lorelei"):
        options |= {
            f"{part}Color": shade(any_colour, rng)
            for part in ("eyes", "mouth", "eyebrows", "glasses")
        }
    if name == "lorelei":
        options |= {"hairColor": shade(any_colour, rng), "skinColor": shade(any_colour, rng)}
    return rasterise(Avatar(_style(name), options).to_string(), size)


def caption(
    tags: Sequence[str],
    rng: random.Random,
    *,
    empty: float = 0.12,
    drop: float = 0.1,
    stray: float = 0.15,
) -> str:
    """Write tags as one training caption: shuffled, some left out, now and then none at all.

    At times a word that means nothing is put in, so that the model learns to draw past words that
    it does not know: a LoRA's trigger is one before it is trained.
    """
    if rng.random() < empty:
        return ""
    kept = [tag for tag in tags if rng.random() >= drop]
    if rng.random() < stray:
        kept.append("".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 7))))
    return ", ".join(rng.sample(kept, len(kept)))
