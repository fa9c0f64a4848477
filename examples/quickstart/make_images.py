"""Compose the messy image folder of the quickstart from examples/assets, with Pillow alone.

One drawn character, Sylvie, on painted and plain backgrounds: whole, to the waist, as a portrait
and close up; in several sizes and formats, with the names that files get from cameras, phones,
browsers and friends. The results are in images/ beside this file. To run it again, into any folder:

    python examples/quickstart/make_images.py [FOLDER]
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageFilter

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
JPEG_QUALITY = 88
WEBP_QUALITY = 85

Framing = Literal["full", "waist", "portrait", "close-up"]


@dataclass(frozen=True, slots=True)
class Frame:
    """Which rows of a sprite are visible. top, bottom: rows of the sprite (700 high) at the image's
    edges.
    """

    top: int
    bottom: int


# Rows above 0 are space over the head; the sprites end at row 700, above the knees, so no frame
# goes lower.
FRAMES: dict[Framing, Frame] = {
    "full": Frame(-60, 700),
    "waist": Frame(-50, 425),
    "portrait": Frame(-40, 290),
    "close-up": Frame(15, 222),
}
# Column of the middle of the face, by outfit: the dress of the green one swings out to the right.
FACE_COLUMN = {"blue": 163, "green": 186}
# How far the background is out of focus, in pixels of an image 1000 high: the nearer she is, the
# more.
BLUR: dict[Framing, float] = {"full": 0.0, "waist": 1.5, "portrait": 4.0, "close-up": 7.0}
# The share of the background's height that is visible behind her.
DEPTH: dict[Framing, float] = {"full": 1.0, "waist": 0.85, "portrait": 0.7, "close-up": 0.6}


@dataclass(frozen=True, slots=True)
class Shot:
    """One image. size: width and height in pixels. background: a file of assets/backgrounds, or a
    #colour.

    x: where her face is, as a fraction of the width. scene: which part of the background, 0 left to
    1 right.
    """

    name: str
    size: tuple[int, int]
    outfit: str
    mood: str
    framing: Framing
    background: str
    x: float = 0.5
    scene: float = 0.5


SHOTS = (
    Shot(
        "IMG_2041.JPG", (960, 1280), "blue", "smile", "full", "bg_uni", scene=0.35
    ),  # lies on its side, see sideways
    Shot("IMG_2042.JPG", (1280, 720), "blue", "normal", "full", "bg_club", x=0.62),
    Shot("IMG_2043.JPG", (1600, 900), "green", "smile", "waist", "bg_uni", x=0.36),
    Shot(
        "IMG-20240502-WA0003.jpg", (720, 960), "green", "giggle", "waist", "bg_meadow", scene=0.45
    ),
    Shot("DSC00017.JPG", (2000, 1333), "green", "normal", "waist", "bg_meadow", x=0.4, scene=0.2),
    Shot("DSC00018.JPG", (1200, 1600), "blue", "giggle", "waist", "bg_lecturehall", scene=0.75),
    Shot(
        "20240501_182233.jpg", (1080, 1440), "blue", "surprised", "portrait", "bg_club", scene=0.3
    ),
    Shot("photo (3).jpeg", (900, 1200), "blue", "smile", "portrait", "bg_meadow", scene=0.6),
    Shot("photo (4).jpeg", (800, 800), "green", "surprised", "close-up", "bg_uni", scene=0.8),
    Shot("download.jpg", (512, 768), "green", "normal", "full", "#ffffff", x=0.42),
    Shot("download (1).jpg", (768, 768), "blue", "giggle", "portrait", "bg_uni", scene=0.1),
    Shot("Screenshot 2024-05-01.png", (854, 480), "green", "smile", "portrait", "#dfe7ee", x=0.5),
    Shot("сильви 7.png", (512, 640), "blue", "normal", "waist", "#ffffff"),
    Shot("a.jpg", (832, 1216), "green", "surprised", "full", "bg_club", x=0.44, scene=0.05),
    Shot("a.png", (480, 480), "blue", "surprised", "portrait", "#bcd4e6"),
    Shot("02.webp", (1200, 1600), "green", "smile", "full", "bg_lecturehall", x=0.44, scene=0.9),
    Shot("9.jpg", (700, 700), "blue", "normal", "close-up", "#9a9a9a"),
    Shot("10.jpg", (1024, 1024), "blue", "smile", "full", "bg_meadow", x=0.4, scene=0.7),
    Shot(
        "sylvie_final.jpg", (768, 1024), "green", "giggle", "portrait", "bg_lecturehall", scene=0.5
    ),
    Shot("sylvie_final FINAL.jpg", (1024, 768), "green", "giggle", "full", "bg_uni", x=0.35),
    Shot("scan0001.JPEG", (1000, 1400), "blue", "smile", "waist", "#f4efe6"),
    Shot(
        "wallpaper 1920x1080.jpg",
        (1920, 1080),
        "blue",
        "normal",
        "portrait",
        "bg_lecturehall",
        x=0.66,
        scene=0.6,
    ),
    Shot("Untitled.webp", (640, 640), "green", "normal", "close-up", "bg_meadow", scene=0.5),
    Shot("sylvie cutout.png", (456, 700), "green", "smile", "full", "transparent"),
)


def backdrop(shot: Shot) -> Image.Image:
    """Return the plain or painted background, RGB, as large as the image."""
    width, height = shot.size
    if shot.background.startswith("#"):
        return Image.new("RGB", shot.size, shot.background)
    with Image.open(ASSETS / "backgrounds" / f"{shot.background}.jpg") as file:
        scene = file.convert("RGB")
    # The part that is seen has the image's shape; its foot is the scene's foot, where there is
    # ground to stand on.
    seen_height = min(scene.height * DEPTH[shot.framing], scene.width * height / width)
    seen_width = seen_height * width / height
    left = (scene.width - seen_width) * shot.scene
    bottom = scene.height - (scene.height - seen_height) * (0.0 if shot.framing == "full" else 0.6)
    box = (left, bottom - seen_height, left + seen_width, bottom)
    grown = scene.resize(shot.size, Image.Resampling.BICUBIC, box=box)
    blur = BLUR[shot.framing] * height / 1000
    return grown.filter(ImageFilter.GaussianBlur(blur)) if blur else grown


def figure(shot: Shot) -> tuple[Image.Image, tuple[int, int]]:
    """Return the sprite, RGBA, in the size that the framing wants, and the place of its top left
    corner.
    """
    with Image.open(ASSETS / "sylvie" / f"sylvie_{shot.outfit}_{shot.mood}.png") as file:
        sprite = file.convert("RGBA")
    width, height = shot.size
    frame = FRAMES[shot.framing]
    scale = height / (frame.bottom - frame.top)
    # Premultiplied, so that no colour of a transparent pixel bleeds into her outline.
    size = (round(sprite.width * scale), round(sprite.height * scale))
    grown = sprite.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return grown, (
        round(width * shot.x - FACE_COLUMN[shot.outfit] * scale),
        round(-frame.top * scale),
    )


def compose(shot: Shot) -> Image.Image:
    """Return the image as it is looked at: RGB, or the bare sprite with its transparency."""
    if shot.background == "transparent":
        with Image.open(ASSETS / "sylvie" / f"sylvie_{shot.outfit}_{shot.mood}.png") as file:
            return file.convert("RGBA")
    image = backdrop(shot)
    sprite, place = figure(shot)
    image.paste(sprite, place, sprite)
    return image


def sideways(image: Image.Image) -> tuple[Image.Image, Image.Exif]:
    """Return the image as a phone on its side stores it, and the EXIF that says so, with a place
    (GPS) in it.
    """
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be turned by 90 degrees clockwise
    exif[0x010F] = "Example"  # Make
    exif[0x0110] = "Phone 1"  # Model
    exif[0x0132] = "2024:05:01 18:22:33"  # DateTime
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (51.0, 28.0, 40.0)  # the old observatory in Greenwich
    gps[3], gps[4] = "W", (0.0, 0.0, 5.0)
    return image.transpose(Image.Transpose.ROTATE_90), exif


def encode(shot: Shot) -> bytes:
    """Return the bytes of the file, in the format that its name says."""
    image = compose(shot)
    out = io.BytesIO()
    match Path(shot.name).suffix.lower():
        case ".png":
            image.save(out, "PNG", optimize=True)
        case ".webp":
            image.save(out, "WEBP", quality=WEBP_QUALITY, method=4)
        case _ if shot.name == "IMG_2041.JPG":
            turned, exif = sideways(image)
            turned.save(out, "JPEG", quality=JPEG_QUALITY, exif=exif)
        case _:
            image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def main(folder: Path) -> None:
    """Write every image into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        (folder / shot.name).write_bytes(encode(shot))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "images")
