"""Options of `dsk find-lr`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasetkit.options.declare import CheckedOptions, option


@dataclass(frozen=True, slots=True, kw_only=True)
class FindLrOptions(CheckedOptions):
    """`dsk find-lr`: how the learning rates are searched, and whether they are written."""

    optimizer: Literal["prodigy", "dadapt"] = option(
        "prodigy",
        "The optimizer that estimates the rates. dadapt: D-Adaptation, whose estimate grows by at "
        "most a fifth in a step, because without a limit it runs away.",
        group="Learning rate",
        change="you follow a guide that uses D-Adaptation",
    )
    part: Literal["unet", "text", "both"] = option(
        "both",
        "The part of the model to search for; the others are not trained meanwhile.",
        shown="both: those that [train] trains",
        change="you need one rate only; it takes half the time",
    )
    most: int = option(
        300,
        "Steps of a probe at most; it ends when its estimate is flat.",
        range=(20, 10_000),
        unit="steps",
        change="a probe still grew, or never left its start",
    )
    text: Literal["tenth", "measured"] = option(
        "tenth",
        "The rate of the text encoder: a tenth of the UNet's, which is a habit, or its own.",
        change="the text encoder has to learn a new word",
    )
    seeds: int = option(
        3,
        "Probes of each part, each with another seed; the candidate is their median.",
        range=(1, 20),
        change="probes differ much: 5; or for a first look: 1",
    )
    sweep: bool = option(
        True,
        "Train shortly with AdamW at 1/4, 1/2, 1 and 2 times the candidate, and take the smallest "
        "rate that is as good as the best.",
        change="time is short; the rate is then only a candidate",
    )
    d0: float = option(
        1e-6,
        "Where the estimate starts.",
        range=(1e-12, 1e-2),
        change="it never leaves its start: 1e-5",
    )
    write: bool = option(
        False,
        "Write the rates and AdamW with its betas to [train] of the dsk.toml; dsk undo takes them "
        "back.",
        counts_from="command line",
        change="the next dsk train should use them",
    )
