"""Rendering the training set: portraits with their tags, and other drawings for the VAE, in worker
processes.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.tools.tinybase import data

Kind = Literal["seen", "unseen", "any", "other"]
_UNSEEN: Final = {"seen": False, "unseen": True, "any": None}


@dataclass(frozen=True, slots=True)
class RenderedImages:
    """Images, uint8 of shape (count, size, size, 3), and the tags of each; other drawings have
    none.
    """

    pixels: NDArray[np.uint8]
    tags: tuple[tuple[str, ...], ...]


def render(kind: Kind, count: int, seed: int, workers: int = 2) -> RenderedImages:
    """Draw `count` images; the same seed draws the same, with any number of workers."""
    if workers == 1:
        return _joined([one(kind, seed, number) for number in range(count)])
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return _joined(pool.map(partial(one, kind, seed), range(count), chunksize=64))


def one(kind: Kind, seed: int, number: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw one image by its number, with its tags."""
    rng = random.Random(f"{kind} {seed} {number}")
    if kind == "other":
        return data.other(rng), ()
    portrait = data.portrait(rng, unseen=_UNSEEN[kind])
    return portrait.draw(), portrait.tags


def _joined(drawn: Sequence[tuple[NDArray[np.uint8], tuple[str, ...]]]) -> RenderedImages:
    return RenderedImages(
        np.stack([pixels for pixels, _ in drawn]), tuple(tags for _, tags in drawn)
    )


def kept(folder: Path, name: str, kind: Kind, count: int, seed: int) -> RenderedImages:
    """Return a set from its files in `folder`, drawn and written first where it is not there."""
    pixels, tags = folder / f"{name}.npy", folder / f"{name}.json"
    if not tags.is_file():
        rendered = render(kind, count, seed)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(pixels, rendered.pixels)
        tags.write_text(
            json.dumps(rendered.tags), encoding="utf-8"
        )  # last: it stands for a whole set
    return RenderedImages(
        np.load(pixels, mmap_mode="r"), tuple(tuple(t) for t in json.loads(tags.read_text("utf-8")))
    )
