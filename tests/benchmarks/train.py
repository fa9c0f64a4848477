"""`dsk train` beside a plain loop of diffusers and peft: the seconds of a settled step, and the
memory of all of it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.measure import Cost, Row, in_turns, python, rows, run

PLAIN, OURS = "plain loop, float32", "dsk train, float32"
PLAIN_BF16, OURS_BF16 = "plain loop, bf16 autocast", "dsk train, bf16"
UNCACHED = "dsk train, float32, latents not kept"
GOALS = {OURS: "goal 1.00", OURS_BF16: f"goal 1.60 x {OURS}", UNCACHED: f"goal: {OURS} 1.30 x this"}
RANK = 16


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained on. size: the side of its images; steps: of a run, of which the first is
    not counted.

    kind: the argument of tests.benchmarks.base.
    """

    name: str
    size: int
    steps: int
    kind: str = ""


MINI = Model("miniature Stable Diffusion 1.5", 512, 6, "--mini")
FULL = Model("Stable Diffusion 1.5", 512, 4)
QUICK = Model("random", 64, 2, "--random")


def measure(images: Sequence[Path], work: Path, rounds: int, model: Model) -> list[Row]:
    """Measure in turns, each run a process of its own: one image a step, rank 16, UNet and text
    encoder, AdamW.
    """
    base = plant(work / model.name.replace(" ", "-"), model)
    data = captioned(images, work / "train-in")
    notes: dict[str, list[str]] = {}

    def noted(way: str, cost: Cost, steps: Sequence[float], waited: float | None) -> Cost:
        settled = statistics.median(steps[1:])
        share = "" if waited is None else f", {waited / sum(steps):.1%} of it waiting for images"
        notes.setdefault(way, []).append(f"{settled:.3g} s a step{share}")
        return replace(cost, seconds=settled, cpu=cost.cpu / len(steps))

    def plain(way: str, precision: str) -> Cost:
        given = (base, data / "train" / "1_sks", model.steps, model.size, precision, "cache")
        cost, out = run(python("tests.benchmarks.plain_train", *map(str, given)))
        return noted(way, cost, json.loads(out), None)

    def ours(way: str, precision: str, *, cache: bool = True) -> Cost:
        cost, out = run(
            python(
                "tests.benchmarks.train_once",
                data,
                *settings(base, work / "train-out", model, precision, cache),
            )
        )
        return noted(way, cost, *json.loads(out))

    ways = {
        PLAIN: lambda: plain(PLAIN, "no"),
        OURS: lambda: ours(OURS, "no"),
        UNCACHED: lambda: ours(UNCACHED, "no", cache=False),
        PLAIN_BF16: lambda: plain(PLAIN_BF16, "bf16"),
        OURS_BF16: lambda: ours(OURS_BF16, "bf16"),
    }
    costs = in_turns(ways, rounds)
    told = {
        way: "; ".join(filter(None, (message[-1], GOALS.get(way, ""))))
        for way, message in notes.items()
    }
    return rows(costs, PLAIN, 1, told)


def settings(base: Path, out: Path, model: Model, precision: str, cache: bool) -> list[str]:
    """Return the options of [train] that make a run the plain loop's equal."""
    given = {
        "pretrained_model_name_or_path": base, "output_dir": out, "resolution": model.size,
        "enable_bucket": "false", "train_batch_size": 1, "max_train_steps": model.steps,
        "network_dim": RANK, "network_alpha": RANK, "learning_rate": 1e-4, "text_encoder_lr": 1e-4,
        "lr_scheduler": "constant", "optimizer_type": "AdamW", "mixed_precision": precision,
        "cache_latents": str(cache).lower(), "save_state": "false", "save_every_n_epochs": 0,
        "shuffle_caption": "false",
    }  # fmt: skip
    return [f"{key}={value}" for key, value in given.items()]


def captioned(images: Sequence[Path], folder: Path) -> Path:
    """Lay images out as a dataset of one concept, each with a caption."""
    concept = folder / "train" / "1_sks"
    concept.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(images):
        (concept / path.name).unlink(missing_ok=True)
        (concept / path.name).hardlink_to(path)
        (concept / path.name).with_suffix(".txt").write_text(
            f"sks, an image, number {number}\n", encoding="utf-8"
        )
    return folder


def plant(folder: Path, model: Model) -> Path:
    """Write a base model with random weights as a diffusers folder, once; returns the folder."""
    if not (folder / "model_index.json").exists():
        run(python("tests.benchmarks.base", folder, *filter(None, [model.kind])))
    return folder
