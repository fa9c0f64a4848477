"""The command that compares LoRAs by images: `dsk grid`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.train import PANEL


@command(app, panel=PANEL, table="grid", show="show_grid.grid", on_gpu=True)
def grid(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES|DIR...",
            help="LoRA files, or the folder that a training wrote them to.",
            show_default=False,
        ),
    ],
    *,
    given: Given,
) -> Call:
    """Draw images with LoRAs along up to three axes (epoch, weight, seed, prompt, ...), to see
    which file and weight to use.

    Each image is a PNG of its own; contact sheets and index.html show them side by side, with what
    the base model draws alone. A second run draws the missing images.

    Example: dsk grid output --x epoch --y weight=0.5,0.8,1 --z seed=1-4 --prompt "sks, 1girl"
    """
    first = files[0]
    options = opt.options(first if first.is_dir() else first.parent, "grid", given)
    return lambda api, context: api.grid(files, options, context)
