"""Datasets for tests of the review page: thousands of images are hard links to a few files."""

from __future__ import annotations

import os
import random
from pathlib import Path

from PIL import Image, ImageDraw

from datasetkit.captions import vocabulary
from datasetkit.core.files import image_id
from datasetkit.core.records import Caption
from datasetkit.project.store import Store, caption_hash
from taggers.base import pack

DISTINCT = 40
MODEL = "toy@1+toy"
TAGS_A_IMAGE = 25


def drawing(path: Path, seed: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Draw discs at random: images that are no near-duplicates of each other."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse((x, y, x + rng.randrange(20, 120), y + rng.randrange(20, 120)), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=85)
    return path


def caption_tags(number: int, *, most: int = TAGS_A_IMAGE) -> tuple[str, ...]:
    """Return the tags of image `number`, common ones more often; every fourth has `lips`."""
    rng = random.Random(number)
    names = vocabulary.load().names
    chosen = [names[4 + int(1500 * rng.random() ** 3)] for _ in range(most)]
    rest = dict.fromkeys(("solo", *(name for name in chosen if name != "lips")))
    return (*(("lips",) if number % 4 == 0 else ()), *rest)


def many(folder: Path, number: int, *, captions: bool = True) -> Path:
    """Make a folder of `number` images with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    originals = [
        drawing(folder.parent / "originals" / f"{n}.jpg", n) for n in range(min(DISTINCT, number))
    ]
    for n in range(number):
        os.link(originals[n % len(originals)], folder / f"p{n:05}.jpg")
        if captions:
            (folder / f"p{n:05}.txt").write_text(
                ", ".join(caption_tags(n)) + "\n", encoding="utf-8"
            )
    return folder


def scored(folder: Path, *, threshold: float = 0.35) -> None:
    """Store scores for the images of a folder, and write the captions that they give."""
    words = vocabulary.load()
    (folder / ".dsk").mkdir(exist_ok=True)
    hashes, rows = [], {}
    for path in sorted(folder.glob("*.jpg")):
        image = image_id(path)
        rng = random.Random(image)
        row = [0.0] * len(words.names)
        for place in rng.sample(range(4, 1500), 60):
            row[place] = round(rng.uniform(0.05, 0.99), 4)
        rows[image] = pack(row)
        chosen = sorted(
            (-row[n], n)
            for n in range(len(row))
            if row[n] >= threshold and words.categories[n] == "general"
        )
        caption = Caption(tuple(words.names[n] for _, n in chosen))
        path.with_suffix(".txt").write_text(caption.text() + "\n", encoding="utf-8")
        hashes.append(caption_hash(caption))
    with Store.open(folder.resolve()) as store:
        store.put_labels(MODEL, list(zip(words.names, words.categories, strict=True)))
        store.put_scores(MODEL, rows.items())
        with store.transaction() as database:
            database.executemany(
                "INSERT OR IGNORE INTO generated VALUES (?)", [(one,) for one in hashes]
            )
