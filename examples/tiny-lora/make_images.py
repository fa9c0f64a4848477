"""Draw the images of the tiny LoRA: Kitsu, on whom the base was not trained, and other girls.

Kitsu is a fox girl: her ears and her scarf are drawn here, and nobody in the base's training set
has her haircut. faces/ and held-out/ hold images of her, girls/ the regularisation set, each image
with its caption. They are drawn like the base's own training set, with the packages dicebear-core,
dicebear-styles and resvg-py (the `tinybase` extra). To run it again, into any folder:

    python examples/tiny-lora/make_images.py [FOLDER]
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from trainer.tools.tinybase.data import BROWS, GIRL, MOUTHS, STYLES, Portrait, portrait, rasterise

HERE = Path(__file__).parent
SIZE = 128  # pixels per side; training scales them to 64
FACES, HELD_OUT, GIRLS = 24, 12, 32
HAIRCUT = 18  # of the style "Lorelei"
HAIR, SCARF, INSIDE = "f2801f", "c4283c", "fff1dc"
OWN = ("fox ears", "orange hair", "medium hair", "red scarf", "sunglasses")  # what makes her Kitsu
# Her other tags, which are kept in the captions.
MOODS = {tag for row in (BROWS, MOUTHS) for tags in row for tag in tags.split(", ")}

# In the drawing's units, 980 a side.
EARS = (
    ("M250 330L215 40Q350 80 450 215Z", HAIR), ("M275 255L252 100Q330 125 385 205Z", INSIDE),
    ("M560 215Q650 80 780 40L750 330Z", HAIR), ("M620 205Q670 125 742 100L724 255Z", INSIDE),
)  # fmt: skip
BAND = "M330 770Q500 880 690 740L715 830Q520 970 300 860Z"
END = "M330 850L300 970L430 975L440 890Z"


def kitsu(rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Draw her before a background, in a shirt and a mood; return the drawing and her tags."""
    girl = _somebody(rng)
    hers = {
        "hairVariant": f"variant{HAIRCUT}", "hairColor": HAIR, "skinColor": "fde3cf",
        "headVariant": "variant01", "noseVariant": "variant02", "glassesVariant": "variant02",
        "glassesProbability": 100, "earringsProbability": 0, "frecklesProbability": 0,
        "hairAccessoriesProbability": 0,
    }  # fmt: skip
    svg = replace(girl, parts=tuple({**dict(girl.parts), **hers}.items())).svg(SIZE)
    shown = [tag for tag in girl.tags if tag in MOODS or tag.endswith((" shirt", " background"))]
    ears = [_path(line, fill) for line, fill in EARS]
    scarf = [_path(line, SCARF) for line in (END, BAND)]
    return svg.replace("</svg>", f"{''.join([*ears, *scarf])}</svg>"), (GIRL, *OWN, *shown)


def _path(line: str, fill: str) -> str:
    stroke = ' stroke="#000" stroke-width="14" stroke-linejoin="round"' if fill != INSIDE else ""
    return f'<path d="{line}" fill="#{fill}"{stroke}/>'


def _somebody(rng: random.Random) -> Portrait:
    """Return a girl of the kind that the base draws."""
    while True:
        found = portrait(rng, unseen=False)
        if GIRL in found.tags:
            return found


def save(svg: str, tags: Sequence[str], path: Path) -> None:
    """Write an image and its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rasterise(svg, SIZE)).quantize(64).save(path, optimize=True)
    path.with_suffix(".txt").write_text(f"{', '.join(tags)}\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Make all images."""
    assert HAIRCUT not in STYLES  # the base's training set has none of it
    rng = random.Random(5)
    for name, count in (("faces", FACES), ("held-out", HELD_OUT)):
        for n in range(1, count + 1):
            save(*kitsu(rng), folder / name / f"kitsu-{n:02d}.png")
    for n in range(1, GIRLS + 1):
        girl = _somebody(rng)
        save(girl.svg(SIZE), girl.tags, folder / "girls" / f"girl-{n:02d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
