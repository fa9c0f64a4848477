"""The command that copies a LoRA to a web interface: keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.train import PANEL


@command(app, panel=PANEL, table="keep", show="show_keep.kept")
def keep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA file.", show_default=False)],
    *,
    given: Given,
) -> Call:
    """Copy a LoRA to the folder of a web interface, with a preview, its trigger and its weight.

    The copy has the same bytes; beside it are NAME.preview.png and NAME.json, which A1111, Forge
    and ComfyUI read.

    Example: dsk keep output/sks-000008.safetensors --to webui/models/Lora --weight 0.8
    """
    options = opt.options(file.parent, "keep", given)
    return lambda api, context: api.keep(file, options, context)
