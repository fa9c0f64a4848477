"""Options of the commands of `dsk lora`."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.options.declare import CheckedOptions, option


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraCheckOptions(CheckedOptions):
    """`dsk lora check`: what to compare with, and what to write."""

    base: str = option(
        "",
        "The base model: norms are also given as a share of its weights, and layers that it does "
        "not have are named. tiny is part of the package.",
        group="LoRA files",
        path="model",
        counts_from="command line",
        shown="none",
        change="you compare runs by their strength, or the LoRA does not load",
    )
    plot: str = option(
        "",
        "Also draw a heat map, a PNG: kinds of layers by blocks, all files on one scale.",
        path="output file",
        counts_from="command line",
        shown="none",
        change="you want to see which blocks were changed most",
    )
    strict: bool = option(
        False,
        "Exit with 20 if there is a warning.",
        change="a script must stop",
    )
