"""`dsk resize` beside ImageMagick's mogrify and a plain Pillow loop: speed, and what is lost
against full Lanczos.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run

BASELINE, ALONE = "mogrify -resize '1024x1024>'", "the same on one thread"
OURS, PLAIN = "dsk resize", "plain Pillow loop"
GOAL, MOST_LOSS = 5.0, 0.1
# The images that the loss is measured on: it hardly differs from image to image, and each
# takes a second.
JUDGED = 24


def measure(images: Sequence[Path], work: Path, rounds: int, quality: int) -> list[Row]:
    """Measure in turns; every way writes the same quality and subsampling (4:4:4 from 95, else
    4:2:0).
    """
    source = linked(images, work / "resize-in")
    ways: dict[str, Callable[[], Cost]] = {}
    mogrify = shutil.which("mogrify")
    outs = {
        way: work / f"resize-out-{number}"
        for number, way in enumerate((BASELINE, ALONE, OURS, PLAIN))
    }
    if mogrify:
        sampling = "1x1" if quality >= 95 else "2x2"
        settings = ["-resize", "1024x1024>", "-quality", str(quality), "-sampling-factor", sampling]
        # By default ImageMagick's OpenMP shares one image's rows among all cores.
        for way, limit in ((BASELINE, []), (ALONE, ["-limit", "thread", "1"])):
            theirs: list[str | Path] = [
                mogrify,
                *limit,
                *settings,
                "-path",
                outs[way],
                *sorted(source.iterdir()),
            ]
            ways[way] = partial(_once, theirs, outs[way], len(images))
    ours = python(
        "datasetkit", "resize", source, outs[OURS], "--max", "1024", "--quality", str(quality)
    )
    ways[OURS] = partial(_once, ours, outs[OURS], len(images))
    plain = python("tests.benchmarks.plain", source, outs[PLAIN], str(quality))
    ways[PLAIN] = partial(_once, plain, outs[PLAIN], len(images))
    costs = in_turns(ways, rounds)
    judged = [path.name for path in images[:JUDGED]]
    notes = {way: f"PSNR {fidelity(source, outs[way], judged):.2f} dB" for way in ways}
    notes[OURS] += f"; goal {GOAL:g}, within {MOST_LOSS} dB"
    found = rows(costs, BASELINE if mogrify else PLAIN, len(images), notes)
    return found if mogrify else [Row(BASELINE, 0, 0, 0, note="mogrify is not installed"), *found]


def linked(images: Sequence[Path], folder: Path) -> Path:
    """Return a fresh folder with these images as hard links: nothing is copied, nothing of the
    last round is left.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in images:
        os.link(path, folder / path.name)
    return folder


def _once(command: Sequence[str | Path], out: Path, count: int) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cost, _ = run(command)
    if len(list(out.glob("*.jpg"))) != count:
        raise RuntimeError(f"{command[0]} wrote {len(list(out.glob('*.jpg')))} images of {count}")
    return cost


def fidelity(source: Path, out: Path, names: Sequence[str]) -> float:
    """Return the mean PSNR in dB, over RGB, of shrunk files against a full decode and a Lanczos to
    their size.
    """
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return statistics.mean(
            pool.map(_psnr, [source / name for name in names], [out / name for name in names])
        )


def _psnr(source: Path, shrunk: Path) -> float:
    with Image.open(source) as full, Image.open(shrunk) as small:
        reference = full.convert("RGB").resize(small.size, Image.Resampling.LANCZOS)
        difference = np.asarray(reference, np.float32) - np.asarray(
            small.convert("RGB"), np.float32
        )
    # An image that lost nothing at all would be infinitely good: 99 dB.
    return 10 * math.log10(255**2 / max(float(np.mean(difference**2)), 8e-6))
