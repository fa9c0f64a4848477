"""Prints the table: `python -m tests.benchmarks [resize|tag|train] [--pictures N] [--rounds N] [--quick]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks import pictures, resize, tag, train
from tests.benchmarks.measure import Row, table
from tests.benchmarks.model import TINY, Vit

NAMES = ("resize", "tag", "train")
# The model takes half a second a picture, so five rounds on all of them would last half an hour.
RESIZED, TAGGED, ROUNDS = 200, 60, 5
# A round of training is five runs, some of half a minute, some of more than one.
TRAINED = 3
QUICK_PICTURES, QUICK_SHRINK = 2, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures, measure what was asked for, print one table for each."""
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="datasetkit-bench-") as temporary:
        work = Path(asked.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n", flush=True)
        for name in (asked.name,) if asked.name else NAMES:
            for one in _trained(asked, work) if name == "train" else (_measured(name, asked, work),):
                print(table(*one), flush=True)


def _measured(name: str, asked: argparse.Namespace, work: Path) -> tuple[str, list[Row]]:
    count = QUICK_PICTURES if asked.quick else asked.pictures or (RESIZED if name == "resize" else TAGGED)
    rounds = 1 if asked.quick else asked.rounds
    shrink = QUICK_SHRINK if asked.quick else 1
    made = pictures.make(work / "pictures", count, shrink=shrink)
    what = f"{count} JPEGs of {'6-12 megapixels' if shrink == 1 else 'a smoke run'}, {rounds} rounds"
    if name == "resize":
        return f"resize: {what}, quality {asked.quality}", resize.measure(made, work, rounds, asked.quality)
    return f"tag: {what}", tag.measure(made, work, rounds, TINY if asked.quick else Vit())


def _trained(asked: argparse.Namespace, work: Path) -> Iterator[tuple[str, list[Row]]]:
    """Train on the stand-in, and on a model of the full size unless it is a smoke run."""
    shrink = QUICK_SHRINK if asked.quick else 1
    made = pictures.make(work / "pictures", QUICK_PICTURES, shrink=shrink)
    for model in (train.QUICK,) if asked.quick else (train.STANDIN, train.FULL):
        rounds = 1 if asked.quick else min(asked.rounds, TRAINED)
        what = f"{model.size} pixels, {model.steps} steps, {rounds} rounds"
        yield f"train: {model.name}, {what}", train.measure(made, work, rounds, model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="which benchmark; both without a name")
    parser.add_argument("--pictures", type=int, help=f"how many (default: {RESIZED} to resize, {TAGGED} to tag)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each way runs (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs written (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two small pictures and a tiny model: does it still run?")
    parser.add_argument("--work", help="a folder that keeps pictures and model for the next time")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
