"""Prints the tables: `python -m tests.benchmarks [NAME] [--images N] [--rounds N]`; without a
name, all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import (
    check,
    cutout,
    faces,
    find_lr,
    images,
    lora_resize,
    resize,
    review,
    scale,
    tag,
    train,
    undo,
)
from tests.benchmarks.measure import Row, table
from tests.benchmarks.model import TINY, Vit

NAMES = (
    "resize",
    "tag",
    "check",
    "cutout",
    "faces",
    "train",
    "review",
    "undo",
    "scale",
    "lora-resize",
    "find-lr",
)
# The model takes half a second an image, so five rounds on all of them would last half an hour.
RESIZED, TAGGED, CHECKED, CUT, FACED, ROUNDS = 200, 60, 60, 16, 60, 5
# What is cut out was shrunk before: sides of about a third of a camera's. Of more images some
# have no subject.
CUT_SHRINK = 3
# A round of training is five runs, some of half a minute, some of more than one.
TRAINED = 3
REVIEWED = 3
UNDONE, QUICK_UNDONE = 3, 50
QUICK_IMAGES, QUICK_SHRINK = 2, 2
QUICK_WALL = 300
_SIZES = {1: "6-12 megapixels", CUT_SHRINK: "0.7-1.3 megapixels", QUICK_SHRINK: "a smoke run"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the images, measure what was asked for, print one table for each."""
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="datasetkit-bench-") as temporary:
        work = Path(asked.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n",
            flush=True,
        )
        for name in (asked.name,) if asked.name else NAMES:
            if name == "lora-resize":
                print(lora_resize.table(lora_resize.measure(asked.rounds or 3)), flush=True)
                continue
            if name == "find-lr":
                seeds = (0,) if asked.quick else find_lr.SEEDS
                print(find_lr.table("unet", find_lr.measure(work, "unet", seeds)), flush=True)
                continue
            if name in _OF_COMMANDS:
                print(_OF_COMMANDS[name](asked, work), flush=True)
                continue
            for one in (
                _trained(asked, work) if name == "train" else (_measured(name, asked, work),)
            ):
                print(table(*one), flush=True)


def _measured(name: str, asked: argparse.Namespace, work: Path) -> tuple[str, list[Row]]:
    usual = {"resize": RESIZED, "tag": TAGGED, "check": CHECKED, "cutout": CUT, "faces": FACED}[
        name
    ]
    count = QUICK_IMAGES if asked.quick else asked.images or usual
    rounds = 1 if asked.quick else asked.rounds
    shrink = QUICK_SHRINK if asked.quick else CUT_SHRINK if name == "cutout" else 1
    made = images.make(work / "images", count, shrink=shrink)
    what = f"{count} JPEGs of {_SIZES[shrink]}, {rounds} rounds"
    if name == "resize":
        return f"resize: {what}, quality {asked.quality}", resize.measure(
            made, work, rounds, asked.quality
        )
    if name == "check":
        return f"check: {what}", check.measure(made, work, rounds)
    if name == "cutout":
        return f"cutout: {what}", cutout.measure(made, work, rounds)
    if name == "faces":
        return f"faces: {what}", faces.measure(made, work, rounds)
    return f"tag: {what}", tag.measure(made, work, rounds, TINY if asked.quick else Vit())


def _trained(asked: argparse.Namespace, work: Path) -> Iterator[tuple[str, list[Row]]]:
    """Train on a miniature and on a model of the full size; in a smoke run on a random base."""
    shrink = QUICK_SHRINK if asked.quick else 1
    made = images.make(work / "images", QUICK_IMAGES, shrink=shrink)
    for model in (train.QUICK,) if asked.quick else (train.MINI, train.FULL):
        rounds = 1 if asked.quick else min(asked.rounds, TRAINED)
        what = f"{model.size} pixels, {model.steps} steps, {rounds} rounds"
        yield f"train: {model.name}, {what}", train.measure(made, work, rounds, model)


def _reviewed(asked: argparse.Namespace, work: Path) -> str:
    """Use the review page; without a browser the table says so, and the other benchmarks go on."""
    count = QUICK_WALL if asked.quick else asked.images or review.IMAGES
    rounds = 1 if asked.quick else min(asked.rounds, REVIEWED)
    if not review.possible():
        return f"## review: {review.NO_BROWSER}\n"
    return review.table(
        f"review: {count:,} images, {rounds} rounds", review.measure(work, count, rounds)
    )


def _undone(asked: argparse.Namespace, work: Path) -> str:
    count = QUICK_UNDONE if asked.quick else asked.images or undo.IMAGES
    rounds = 1 if asked.quick else min(asked.rounds, UNDONE)
    title = f"undo: {count:,} images with captions, {rounds} rounds"
    return undo.table(title, undo.measure(work, count, rounds))


def _scaled(asked: argparse.Namespace, work: Path) -> str:
    count = scale.QUICK_IMAGES if asked.quick else asked.images or scale.IMAGES
    sizes = (count // scale.SHARE, count)
    title = f"scale: {sizes[0]:,} and {sizes[1]:,} small images with captions"
    return scale.table(title, scale.measure(work, sizes))


# Tables that are made of small images of their own.
_OF_COMMANDS = {"review": _reviewed, "undo": _undone, "scale": _scaled}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=NAMES, help="which benchmark; both without a name"
    )
    parser.add_argument(
        "--images", type=int, help=f"how many (default: {RESIZED} to resize, {TAGGED} to tag)"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often each way runs (default: %(default)s)"
    )
    parser.add_argument(
        "--quality", type=int, default=90, help="of the JPEGs written (default: %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two small images and a tiny model: does it still run?",
    )
    parser.add_argument("--work", help="a folder that keeps images and model for the next time")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
