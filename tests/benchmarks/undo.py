"""Commands that change names and captions, beside their undo, on small images: CPU seconds, and the
seconds in which a copied dataset waits for the disk.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from datasetkit import api
from datasetkit.core import disk_sync
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.images import RenameOptions
from datasetkit.options.tag import RulesOptions

IMAGES = 10_000
MOST_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Pair:
    """CPU seconds of a command and of its undo; synced: the wall seconds in which the command
    waited for the disk, of all its `seconds`.
    """

    command: str
    cpu: float
    undo: float
    synced: float
    seconds: float


@contextmanager
def sync_times() -> Iterator[list[float]]:
    """Give a list of the seconds that each sync of a file, folder or disk takes meanwhile."""
    times: list[float] = []
    real = {name: vars(disk_sync)[name] for name in ("_sync", "sync_disk")}

    def timed(sync: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            began = time.perf_counter()
            sync(*arguments)
            times.append(time.perf_counter() - began)

        return call

    vars(disk_sync).update({name: timed(sync) for name, sync in real.items()})
    try:
        yield times
    finally:
        vars(disk_sync).update(real)


def measure(work: Path, count: int, rounds: int) -> list[Pair]:
    """Measure each command and its undo on a new dataset; return the medians over the rounds."""
    measured = [_round(work / "undo", count) for _ in range(rounds)]
    return [
        Pair(
            pairs[0].command,
            cpu=statistics.median(pair.cpu for pair in pairs),
            undo=statistics.median(pair.undo for pair in pairs),
            synced=statistics.median(pair.synced for pair in pairs),
            seconds=statistics.median(pair.seconds for pair in pairs),
        )
        for pairs in zip(*measured, strict=True)
    ]


def _round(work: Path, count: int) -> list[Pair]:
    shutil.rmtree(work, ignore_errors=True)
    folder, out = work / "imgs", work / "dataset"
    _make(folder, count)
    commands: dict[str, tuple[Path, Callable[[], object]]] = {
        "rename": (folder, lambda: api.rename(folder, RenameOptions(prefix="p"))),
        "rules": (folder, lambda: api.rules(folder, RulesOptions(additional=("best",)))),
        "layout": (out, lambda: api.layout((f"2_x={folder}",), LayoutOptions(out=str(out)))),
    }
    pairs = []
    for name, (root, command) in commands.items():
        with sync_times() as times:
            began, cpu = time.perf_counter(), time.process_time()
            command()
            cpu = time.process_time() - cpu
            seconds = time.perf_counter() - began
        undo = time.process_time()
        api.undo(root)
        pairs.append(Pair(name, cpu, time.process_time() - undo, sum(times), seconds))
    shutil.rmtree(work)
    return pairs


def _make(folder: Path, count: int) -> None:
    """Write small images of about 85 kB with captions."""
    folder.mkdir(parents=True)
    Image.effect_noise((180, 180), 80).convert("RGB").save(folder / "x 0.png")
    data = (folder / "x 0.png").read_bytes()
    for n in range(count):
        (folder / f"x {n}.png").write_bytes(data + str(n).encode())
        (folder / f"x {n}.txt").write_text(f"sks, tag {n}, lips\n", encoding="utf-8")


def table(title: str, pairs: list[Pair]) -> str:
    lines = [
        f"## {title}",
        "",
        "| command | CPU s | CPU s of its undo | ratio | s in syncs, of all |",
    ]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {p.command} | {p.cpu:.2f} | {p.undo:.2f} | {p.undo / p.cpu:.2f} "
        f"| {p.synced:.2f} of {p.seconds:.2f} |"
        for p in pairs
    ]
    return "\n".join([*lines, ""])
