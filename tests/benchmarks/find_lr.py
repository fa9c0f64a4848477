"""What `dsk find-lr` finds on the tiny base, for five seeds, and what a run with that rate learns.

python -m tests.benchmarks.find_lr [PART] [SEED ...] prints a table; PART is unet or text.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import tiny_lora
from trainer import loop, setup
from trainer.lr_search import rules, search
from trainer.lr_search.rules import PartSearch, SearchPart
from trainer.lr_search.run_options import of_sweep, searched
from trainer.monitor import validation
from trainer.paired import PairedMean, difference
from trainer.plan.plan import find_subsets, make_plan

SEEDS = tuple(range(5))
TRAINED = 120  # steps with the rate that was found
HAND_TUNED = {"unet": 2e-3, "text": 3e-3}


@dataclass(frozen=True, slots=True)
class Measured:
    """A search, and the change of the loss on its grid after a run with its rate."""

    seed: int
    found: PartSearch
    change: PairedMean | None


def measure(work: Path, part: SearchPart, seeds: Iterable[int] = SEEDS) -> list[Measured]:
    """Search with each seed, and train with what was found."""
    data = work / "data"
    if not data.exists():
        tiny_lora.data_set(data)
    rows = []
    for seed in seeds:
        options = searched(tiny_lora.recipe(work / "out", seed=seed, train_batch_size=4))
        plan = make_plan(find_subsets(data, options)[0], options)
        (found,) = search.search(options, plan, [part])
        change = None
        if found.rate is not None:
            trained = of_sweep(options, part, found.rate)
            run = setup.assemble(trained, replace(plan, steps=TRAINED), setup.load_parts(trained))
            images = validation.training_images(plan, options, rules.IMAGES)
            before = validation.losses(run, images).tolist()
            for _ in loop.steps(run):
                pass
            change = difference(validation.losses(run, images).tolist(), before)
        rows.append(Measured(seed, found, change))
    return rows


def table(part: SearchPart, rows: Sequence[Measured]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"## find-lr, {rules.title(part, 'unet')} of the tiny base (by hand: {HAND_TUNED[part]:g})",
        "",
        f"| seed | flats of the probes | ran away | rate | loss after {TRAINED} steps of it |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        flats = ", ".join(
            "-" if p.rate is None else f"{p.rate:.2e} ({p.flat_from})" for p in row.found.probes
        )
        ruined = sum(p.is_ruined for p in row.found.probes)
        change = "-" if row.change is None else row.change.words()
        lines.append(
            f"| {row.seed} | {flats} | {ruined} of {len(row.found.probes)} | "
            f"{row.found.rate} | {change} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    chosen: SearchPart = "text" if "text" in sys.argv[1:] else "unet"
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()] or SEEDS
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            print(table(chosen, measure(Path(folder), chosen, [number])), flush=True)
