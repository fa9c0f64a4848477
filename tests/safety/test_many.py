"""Tens of thousands of images: memory is flat while they are tagged, and a new threshold takes
seconds.
"""

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasetkit import api
from taggers import registry
from taggers.base import Identity, Labels, round_scores
from taggers.labels import read_labels

HALF = 10_000
# How many of the 10,861 labels are chosen, and how many more score above the floor, as with the
# real models.
CHOSEN, ABOVE = 35, 250
LABELS: Labels = read_labels(Path(api.__file__).parent / "data" / "selected_tags_v3.csv")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Megabytes of this process, each time the tagger is called.
RESIDENT: list[float] = []


class Many:
    """A tagger with the real labels, whose scores follow from an image's colour."""

    identity = Identity("many-for-tests", "0", "colour")
    labels = LABELS
    batch_size = 1
    pr_threshold = None
    fills_cores = False
    notice = ""
    device = "cpu"

    def prepare(self, image: Image.Image) -> object:
        return image.getpixel((0, 0))

    def scores(self, batch: Sequence[object]) -> NDArray[np.float32]:
        RESIDENT.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6)
        rows = np.zeros((len(batch), len(LABELS)), np.float32)
        for row, colour in zip(rows, batch, strict=True):
            draw = np.random.default_rng(list(colour))  # type: ignore[call-overload]
            row[draw.integers(0, len(LABELS), ABOVE)] = draw.uniform(0.01, 0.3, ABOVE)
            row[draw.integers(0, len(LABELS), CHOSEN)] = draw.uniform(0.4, 1, CHOSEN)
        return round_scores(rows)

    def close(self) -> None:
        pass


def images(folder: Path, numbers: range) -> None:
    """Write images of one colour each, all different."""
    folder.mkdir()
    for number in numbers:
        colour = (number >> 16, number >> 8 & 255, number & 255)
        Image.new("RGB", (4, 4), colour).save(folder / f"{number}.bmp")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_20_000_images_and_a_new_threshold_for_10_000_takes_5_seconds(
    workdir, monkeypatch
):
    monkeypatch.setitem(registry.TAGGERS, "many-for-tests", "tests.safety.test_many:Many")
    (workdir / "dsk.toml").write_text("", encoding="utf-8")
    images(workdir / "a", range(HALF))
    images(workdir / "b", range(HALF, 2 * HALF))
    options = {"tagger": "many-for-tests", "trigger": ("sks",)}
    RESIDENT.clear()
    tagged = api.tag(workdir, api.TagOptions(**options, recursive=True))  # type: ignore[arg-type]
    assert tagged.inferred == 2 * HALF == len(tagged.changes)
    early, late = max(RESIDENT[: HALF // 5]), max(RESIDENT)
    print(f"{early:.0f} MB at the first 2,000, {late:.0f} MB at most")
    assert late - early < 20
    before = time.process_time()
    again = api.tag(workdir / "a", api.TagOptions(**options, threshold=0.6))  # type: ignore[arg-type]
    seconds = time.process_time() - before
    print(f"10,000 images under another threshold: {seconds:.1f} s of CPU")
    assert again.inferred == 0 and len(again.changes) > 0.9 * HALF
    assert seconds < 5
    some = random.Random(0).choice(range(HALF))
    assert (workdir / "a" / f"{some}.txt").read_text(encoding="utf-8").startswith("sks, ")
