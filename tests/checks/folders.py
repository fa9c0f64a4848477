"""A sound dataset, and what its images and captions are: each test spoils one thing of it."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datasetkit import api
from datasetkit.checks.base import CheckFinding
from datasetkit.figure_style import font

ASSETS = Path(__file__).parents[2] / "examples" / "assets"
# Each tag is in two or three of the four captions; `sks` leads them all.
CAPTIONS = {
    "a": "sks, 1girl, smile",
    "b": "sks, 1girl, smile, hat",
    "c": "sks, hat, outdoors",
    "d": "sks, 1girl, outdoors",
}


@cache
def shapes(seed: int, size: tuple[int, int] = (512, 512)) -> Image.Image:
    """Draw sharp shapes, no two seeds alike, with nothing in them that looks like text or a
    face.
    """
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(draw.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        corners = draw.uniform(-0.2, 1.2, (3, 2)) * size
        pen.polygon(
            [tuple(corner) for corner in corners.tolist()],
            fill=tuple(draw.integers(0, 256, 3).tolist()),
        )
    return image


@cache
def encoded(seed: int, size: tuple[int, int] = (512, 512), form: str = "PNG") -> bytes:
    """Return the file of `shapes`."""
    file = io.BytesIO()
    shapes(seed, size).save(file, form)
    return file.getvalue()


def write_image(path: Path, seed: int, size: tuple[int, int] = (512, 512)) -> Path:
    """Write a sharp image of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "JPEG" if path.suffix.lower() == ".jpg" else "PNG"
    path.write_bytes(encoded(seed, size, form))
    return path


def caption(image: Path, text: str) -> Path:
    """Write the caption of an image."""
    path = image.with_suffix(".txt")
    path.write_text(text + "\n", encoding="utf-8")
    return path


def sound(folder: Path, first: int = 1) -> Path:
    """Make a folder of four images with captions in which no check finds anything. first: the
    seed of the first.
    """
    for seed, (stem, text) in enumerate(CAPTIONS.items(), first):
        caption(write_image(folder / f"{stem}.png", seed), text)
    return folder


def laid_out(folder: Path) -> Path:
    """Make a laid-out dataset of the same kind: four images to train, four of the class."""
    sound(folder / "train" / "3_sks")
    for seed in range(11, 15):
        write_image(folder / "reg" / "1_girl" / f"{seed}.png", seed)
    return folder


def text_on(image: Image.Image, words: str = "www.example.com") -> Image.Image:
    """Write a watermark across an image."""
    marked = image.copy()
    ImageDraw.Draw(marked).rectangle((30, 400, 482, 480), fill="white")
    font(44).draw(ImageDraw.Draw(marked), (48, 412), words, "black")
    return marked


def astronauts(number: int) -> Image.Image:
    """Return a photo of a face, several times side by side."""
    with Image.open(ASSETS / "photos" / "astronaut.png") as photo:
        face = photo.convert("RGB").crop((96, 0, 352, 256))
    wide = Image.new("RGB", (256 * number, 256))
    for place in range(number):
        wide.paste(face, (256 * place, 0))
    return wide.resize((512 * number, 512))


def findings(folder: Path, *checks: str, **options: object) -> tuple[CheckFinding, ...]:
    """Return what some checks, or all, find in a folder; nothing is remembered, which is
    quicker.
    """
    chosen = api.CheckOptions(only=checks, **options)  # type: ignore[arg-type]
    return api.check(folder, chosen, context=api.RunContext(dry_run=True)).findings


def names(folder: Path, *checks: str, **options: object) -> set[str]:
    """Return the names of the images, captions and folders in which something is found."""
    return {finding.path.name for finding in findings(folder, *checks, **options)}
