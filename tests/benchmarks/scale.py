"""What each command costs on many small images: CPU seconds and bytes of memory per image, at two
sizes.

python -m tests.benchmarks scale [--images N]; a fifth of N is the smaller size.
"""

from __future__ import annotations

import gc
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from datasetkit import api
from datasetkit.captions import vocabulary
from datasetkit.checks import registry as registry_of_checks
from datasetkit.project.session import RunContext
from taggers import registry
from taggers.base import Identity, Labels, ResolvedTagger
from tests.benchmarks.measure import python, run

IMAGES, QUICK_IMAGES = 10_000, 500
# The smaller size is a fifth of the larger one, or a tenth as in `.ci/run`.
SHARE = 5
TAGS: Final = 20
_VOCABULARY: Final = 2_000
_NOTHING: Final = "nothing"


# ---- the images
# --------------------------------------------------------------------------------------------------


def make(folder: Path, count: int) -> None:
    """Write distinct images of 1 kB with captions of 20 tags: a dozen JPEGs that are encoded once,
    with a running number in a comment segment behind the start of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [_jpeg(n) for n in range(12)]
    words = _words()
    for n in range(count):
        comment = b"\xff\xfe" + (10).to_bytes(2, "big") + f"{n:08d}".encode()
        data = encoded[n % len(encoded)]
        # A tag has the same share of the captions at every size.
        tags = ", ".join(words[(n * 31 + k * k * 7) % len(words)] for k in range(TAGS))
        _write(f"{folder}{os.sep}{n:07d}.jpg", data[:2] + comment + data[2:])
        _write(f"{folder}{os.sep}{n:07d}.txt", f"sks, {tags}\n".encode())


def _words() -> list[str]:
    """Return the most frequent tags of the vocabulary."""
    known = vocabulary.load()
    named = zip(known.names, known.categories, strict=True)
    return [name for name, category in named if category == "general"][:_VOCABULARY]


def _jpeg(number: int) -> bytes:
    shades = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(shades).resize((64 + number, 64)).save(file, "JPEG", quality=80)
    return file.getvalue()


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)


# ---- a tagger that does nothing
# --------------------------------------------------------------------------------------------------


class NothingTagger:
    """Gives every image the same two tags, and reads no pixel of it."""

    identity = Identity(_NOTHING, "1", "none")
    labels = Labels.from_pairs([("outdoors", "general"), ("sky", "general")])
    batch_size = 256
    pr_threshold = None
    notice = ""
    device = "cpu"
    fills_cores = True

    @staticmethod
    def resolve(name: str, *_: object) -> ResolvedTagger:
        return ResolvedTagger(NothingTagger.identity, NothingTagger, lambda: None)

    def prepare(self, image: Image.Image) -> object:
        return None

    def scores(self, batch: Sequence[object]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.full((len(batch), 2), 0.9, np.float32)

    def close(self) -> None:
        pass


# ---- the commands
# --------------------------------------------------------------------------------------------------

# These decode the images or run models: their cost per image hides all else.
_OF_PIXELS: Final = tuple(name for name, check in registry_of_checks.CHECKS.items() if check.needs)


class Command(NamedTuple):
    """One row: a command, called with the folder of the images. most: microseconds of CPU per image
    that are the goal where nothing is to do; None for a first run.
    """

    name: str
    call: Callable[[Path], object]
    most: float | None = None


def _tag(folder: Path) -> object:
    registry.TAGGERS[_NOTHING] = "tests.benchmarks.scale:NothingTagger"
    return api.tag(folder, api.TagOptions(tagger=_NOTHING, existing="overwrite"))


def _rules(folder: Path, *, dry_run: bool = False) -> object:
    options = api.RulesOptions(additional=("best quality",), exclude=("*_hair", "sky"))
    return api.rules(folder, options, RunContext(dry_run=dry_run))


def _layout(folder: Path) -> object:
    return api.layout(
        (f"2_x={folder}",), api.LayoutOptions(out=str(folder.with_name(f"{folder.name}-out")))
    )


def _check(folder: Path) -> object:
    return api.check(folder, api.CheckOptions(skip=_OF_PIXELS))


def _report(folder: Path) -> object:
    return api.report(folder, api.ReportOptions())


def _resize(folder: Path) -> object:
    return api.resize(folder, folder.with_name(f"{folder.name}-48"), api.ResizeOptions(max=48))


# In this order: each begins with what those before it left. A run after one that changed something
# reads everything, and keeps that it had nothing to do; the run after that is from what was kept.
COMMANDS: Final = (
    Command("report", _report),
    Command("report again", _report, 45),
    Command("rules --dry-run", lambda folder: _rules(folder, dry_run=True)),
    Command("rules", _rules),
    Command("rules again", _rules),
    Command("rules, nothing changed since", _rules, 45),
    Command("check", _check),
    Command("check again", _check, 45),
    Command("plan-repeats", lambda f: api.plan_repeats(f, api.PlanRepeatsOptions())),
    Command("layout", _layout),
    Command("layout again", _layout),
    Command("layout, nothing changed since", _layout, 20),
    Command("resize", _resize),
    Command("resize again", _resize),
    Command("resize, nothing changed since", _resize, 20),
    Command("tag", _tag),
    Command("tag again", _tag),
    Command("tag, nothing changed since", _tag, 20),
)


# ---- measuring
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """A command at two sizes. cpu: CPU seconds, user and system, of the command alone. peak: bytes
    of memory that its process held.
    """

    command: Command
    images: tuple[int, int]
    cpu: tuple[float, float]
    peak: tuple[int, int]

    @property
    def microseconds(self) -> float:
        """Return the CPU microseconds per image at the larger size."""
        return self.cpu[1] / self.images[1] * 1e6

    @property
    def growth(self) -> float:
        """Return the CPU per image at the larger size as a multiple of that at the smaller one."""
        return (self.cpu[1] / self.images[1]) / (self.cpu[0] / self.images[0])

    @property
    def bytes_each(self) -> float:
        """Return the bytes of memory that each further image takes."""
        return (self.peak[1] - self.peak[0]) / (self.images[1] - self.images[0])


def measure(
    work: Path, sizes: tuple[int, int], commands: Sequence[str] = (), rounds: int = 1
) -> list[ScaleRow]:
    """Run the commands in their order on datasets of two sizes. commands: their names; all without
    one. rounds: of which the least CPU and the highest peak count.
    """
    costs: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for size in sizes * rounds:
        shutil.rmtree(work / "scale", ignore_errors=True)
        folder, few = work / "scale" / "many" / "imgs", work / "scale" / "few"
        make(folder, size)
        for number, command in enumerate(COMMANDS):
            if not commands or command.name in commands:
                # Imports and tables are loaded on a few images first: they are a constant.
                warm = few / str(number) / "imgs"
                make(warm, 3)
                costs.setdefault((command.name, size), []).append(_once(command.name, folder, warm))
    shutil.rmtree(work / "scale")
    return [
        ScaleRow(
            command, sizes,
            (min(c for c, _ in small), min(c for c, _ in large)),
            (max(p for _, p in small), max(p for _, p in large)),
        )
        for command in COMMANDS
        if (command.name, sizes[0]) in costs
        for small, large in [(costs[command.name, sizes[0]], costs[command.name, sizes[1]])]
    ]  # fmt: skip


def _once(name: str, folder: Path, warm: Path) -> tuple[float, int]:
    """Run a command in a process of its own; return its CPU seconds and its peak memory."""
    cost, printed = run(python("tests.benchmarks.scale", name, folder, warm))
    return float(printed.splitlines()[-1]), cost.peak


def main(name: str, folder: Path, warm: Path) -> None:
    """Run a command on a few images, then on many; print the CPU seconds of these."""
    call = next(command.call for command in COMMANDS if command.name == name)
    call(warm)
    gc.collect()
    began = time.process_time()
    call(folder)
    print(time.process_time() - began)


def table(title: str, rows: Sequence[ScaleRow]) -> str:
    """Lay the rows out as a Markdown table."""
    lines = [
        f"## {title}",
        "",
        "| command | CPU s | us of CPU an image | growth | peak MB | kB an image | goal, us |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.command.name} | {r.cpu[0]:.2f}, {r.cpu[1]:.2f} | {r.microseconds:.0f} "
        f"| {r.growth:.2f} | {r.peak[0] / 1e6:.0f}, {r.peak[1] / 1e6:.0f} "
        f"| {r.bytes_each / 1e3:.1f} | {r.command.most or ''} |"
        for r in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
