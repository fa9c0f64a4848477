"""Draw the eight regularisation images of the quickstart: other girls, in two CC0 styles of
DiceBear.

Needs the packages dicebear-core, dicebear-styles and resvg-py (the `dev` extra). The results are in
reg-images/ beside this file, so the quickstart does not need these packages. To run it again, into
any folder:

    python examples/quickstart/make_reg_images.py [FOLDER]
"""

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import resvg_py
from dicebear import Avatar, Style
from PIL import Image

HERE = Path(__file__).parent
SIZE = 512  # pixels per side
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Girl:
    """One drawn character: the style, and which of its parts and colours (hex, no #) are used."""

    name: str
    style: str
    parts: Mapping[str, str]


def peep(name: str, head: str, expression: str, skin: str, clothing: str, background: str) -> Girl:
    """Describe a character in the style Open Peeps, a remix of drawings by Pablo Stanley
    (CC0 1.0).
    """
    parts = {
        "headVariant": head,
        "expressionVariant": expression,
        "skinColor": skin,
        "clothingColor": clothing,
    }
    parts |= {"headContrastColor": "f59797"}  # the hair of those heads that are drawn in colour
    return Girl(name, "open-peeps", parts | {"backgroundColor": background})


def lorelei(
    name: str, hair: str, eyes: str, mouth: str, hair_colour: str, skin: str, background: str
) -> Girl:
    """Describe a character in the style Lorelei, a remix of drawings by Lisa Wischofsky
    (CC0 1.0).
    """
    parts = {
        "hairVariant": hair,
        "eyesVariant": eyes,
        "mouthVariant": mouth,
        "hairColor": hair_colour,
    }
    parts |= {
        "eyebrowsVariant": "variant10",
        "headVariant": "variant01",
        "noseVariant": "variant02",
    }
    return Girl(name, "lorelei", parts | {"skinColor": skin, "backgroundColor": background})


GIRLS = (
    peep("girl 1.png", "bangs", "smile", "ffdbb4", "8fa7df", "f7e7ce"),
    peep("girl 2.png", "longBangs", "cute", "d08b5b", "ffcf77", "cfe8f3"),
    peep("girl 3.jpg", "mediumStraight", "calm", "edb98a", "e279c7", "ffffff"),
    peep("girl 4.png", "mediumBangs", "smileBig", "ffdbb4", "9ddadb", "f3d6de"),
    peep("girl 5.jpg", "long", "smile", "ae5d29", "78e185", "e8e4f5"),
    lorelei("girl 6.png", "variant35", "variant21", "happy05", "8a4b2d", "ffe3cf", "d9ecd0"),
    lorelei("girl 7.png", "variant42", "variant20", "happy02", "d8a23a", "fbd9c0", "dbe7f6"),
    lorelei("girl 8.jpg", "variant19", "variant09", "happy14", "3b3b5c", "f6d5bd", "fdf3d8"),
)
# What a seed would add by chance is left out, so that the description above is all there is to see.
BY_CHANCE = (
    "accessories",
    "beard",
    "earrings",
    "facialHair",
    "freckles",
    "glasses",
    "hairAccessories",
    "mask",
)


def draw(girl: Girl) -> Image.Image:
    """Draw one character, RGB, SIZE pixels a side."""
    text = files("dicebear_styles").joinpath(f"{girl.style}.json").read_text("utf-8")
    style = Style(json.loads(text))
    absent = {f"{part}Probability": 0 for part in BY_CHANCE if part in style.components()}
    avatar = Avatar(style, {"seed": girl.name, "size": SIZE, **absent, **girl.parts})
    png = resvg_py.svg_to_bytes(svg_string=avatar.to_string(), width=SIZE, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return image.convert("RGB")


def encode(girl: Girl) -> bytes:
    """Return the bytes of the file: PNG with a palette (flat colours), or JPEG."""
    out = io.BytesIO()
    image = draw(girl)
    if girl.name.endswith(".png"):
        image.quantize(64, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def main(folder: Path) -> None:
    """Write the eight files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for girl in GIRLS:
        (folder / girl.name).write_bytes(encode(girl))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "reg-images")
