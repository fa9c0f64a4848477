"""How the pictures of the tiny LoRA are made: Sylvie's face on plain colours, and girls of the kind the base draws.

faces/ and held-out/ hold Sylvie, put together from examples/assets with Pillow alone: her 8 pictures on 4 colours each,
of which one is held out, each with its caption. girls/ holds the regularisation set, without captions, drawn as the
tiny base's own training set was; that needs the packages dicebear-core, dicebear-styles and resvg-py (the `dev` extra).
Run it again, into any folder:

    python examples/tiny-lora/make_pictures.py [FOLDER]
"""

import random
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from trainer.tinybase.data import GIRL, portrait

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
SIZE = 128  # pixels a side; the training scales them to 64
GIRLS = 32
JPEG_QUALITY = 92

# Rows of a sprite that are seen, and the column of the middle of the face, by outfit.
TOP, BOTTOM = -30, 250
FACE_COLUMN = {"blue": 163, "green": 186}
MOODS = {
    "giggle": ("closed eyes", "smile", "teeth"),
    "normal": (),
    "smile": ("smile", "open mouth"),
    "surprised": ("open mouth",),
}
COLOURS = {
    "white": "fdfdfd", "grey": "b0b0b0", "red": "dd4848", "orange": "f5a050", "yellow": "fbea7c", "green": "74c07c",
    "blue": "78aee8", "purple": "9a74cc", "pink": "fbc4d8",
}  # fmt: skip
OWN = ("orange hair", "long hair", "bangs")  # what makes her Sylvie


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of her."""

    outfit: str
    mood: str
    background: str

    @property
    def name(self) -> str:
        return f"sylvie-{self.outfit}-{self.mood}-{self.background}"

    @property
    def caption(self) -> str:
        tags = (GIRL, *OWN, *MOODS[self.mood], f"{self.outfit} shirt", f"{self.background} background")
        return ", ".join(tags)


def shots() -> list[tuple[Shot, bool]]:
    """Return all shots, and whether each is held out."""
    rng = random.Random(5)
    made = []
    for outfit in FACE_COLUMN:
        for mood in MOODS:
            chosen = rng.sample(list(COLOURS), 4)
            made += [(Shot(outfit, mood, colour), place == 0) for place, colour in enumerate(chosen)]
    return made


def take(shot: Shot) -> Image.Image:
    """Return a picture, RGB."""
    with Image.open(ASSETS / "sylvie" / f"sylvie_{shot.outfit}_{shot.mood}.png") as file:
        sprite = file.convert("RGBA")
    side = BOTTOM - TOP
    canvas = Image.new("RGBA", (side, side), f"#{COLOURS[shot.background]}")
    canvas.alpha_composite(
        sprite.crop((FACE_COLUMN[shot.outfit] - side // 2, TOP, FACE_COLUMN[shot.outfit] + side // 2, BOTTOM))
    )
    return canvas.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def save(image: Image.Image, path: Path, caption: str = "") -> None:
    """Write a picture, and its caption where it has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=JPEG_QUALITY) if path.suffix == ".jpg" else image.save(path, optimize=True)
    if caption:
        path.with_suffix(".txt").write_text(f"{caption}\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Make all pictures."""
    for shot, held_out in shots():
        save(take(shot), folder / ("held-out" if held_out else "faces") / f"{shot.name}.jpg", shot.caption)
    rng = random.Random(9)
    drawn = 0
    while drawn < GIRLS:
        girl = portrait(rng, unseen=False)
        if GIRL in girl.tags:
            drawn += 1
            save(Image.fromarray(girl.draw()), folder / "girls" / f"girl-{drawn:02d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
