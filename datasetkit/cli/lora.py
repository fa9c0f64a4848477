"""The commands for LoRA files after training: `dsk lora info`, `check`, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, CommandGroup, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.train import PANEL

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILES...", help="LoRA files, .safetensors.", show_default=False),
]

lora = typer.Typer(
    name="lora",  # `command` names results by it
    cls=CommandGroup,
    no_args_is_help=True,
    help="LoRA files: look at them, find what is wrong; resize, convert, merge, extract.\n\n"
    "Example: dsk lora info output/sks.safetensors",
)
app.add_typer(lora, rich_help_panel=PANEL)


@command(lora, "info")
def info(files: Files, json: opt.Json = False) -> None:
    """Show what LoRA files are: family, ranks, precision, training, tags, and whether their hash is
    true.

    Any LoRA is read: kohya, LyCORIS (LoCon, LoHa, LoKr, DoRA), diffusers, peft. torch is not
    needed.

    Example: dsk lora info output/sks.safetensors
    """
    from datasetkit.cli import run, show_lora

    run.look("lora info", lambda api: api.lora_info(files), show_lora.info, json)


@command(lora, "check", table="lora-check")
def check(
    files: Files,
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Find what is wrong with LoRA files: numbers that are not finite, missing tensors, layers
    without effect, underflow, outliers, a stale hash.

    Layers that are dead because of the clip skip are named with that reason. The exit code is 3 if
    a file has an error.

    Example: dsk lora check output/sks.safetensors --plot sks-norms.png
    """
    from datasetkit.cli import run, show_lora

    options = opt.options(files[0].parent, "lora-check", given)
    result = run.verb(
        "lora check",
        lambda api, context: api.lora_check(files, options, context),
        show_lora.check,
        json,
        dry_run,
        wait,
    )
    if result.exit_code:
        raise typer.Exit(result.exit_code)


@command(lora, "resize", table="lora-resize", show="show_lora.resize")
def resize(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA file.", show_default=False)],
    *,
    given: Given,
) -> Call:
    """Lower the ranks of a LoRA: a smaller file of the same strength, with the best approximation
    that each rank has.

    Give one rule: --rank for one number, --fro for the share of each layer that must be kept.
    --dry-run prints what would be kept.

    Example: dsk lora resize output/sks.safetensors --fro 0.95 --dry-run
    """
    options = opt.options(file.parent, "lora-resize", given)
    return lambda api, context: api.lora_resize(file, options, context)


@command(lora, "convert", table="lora-convert", show="show_lora.convert")
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA file.", show_default=False)],
    *,
    given: Given,
) -> Call:
    """Give a LoRA the keys of kohya's files, or of diffusers'; the numbers stay as they are.

    peft's files of one model are read too, with the adapter_config.json beside them.

    Example: dsk lora convert output/sks.safetensors --to diffusers
    """
    options = opt.options(file.parent, "lora-convert", given)
    return lambda api, context: api.lora_convert(file, options, context)


@command(lora, "merge", table="lora-merge", show="show_lora.merge")
def merge(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE[:WEIGHT]...", help="LoRA files, each with its weight.", show_default=False
        ),
    ],
    *,
    given: Given,
) -> Call:
    """Merge LoRAs into one, exactly or cut to a rank, or into a checkpoint.

    The sum is that of the changes, each times its weight; a weight may be negative.

    Example: dsk lora merge style.safetensors:0.8 sks.safetensors:0.6 --out both.safetensors
    """
    options = opt.options(Path(), "lora-merge", given)
    return lambda api, context: api.lora_merge(files, options, context)


@command(lora, "extract", table="lora-extract", show="show_lora.extract")
def extract(
    tuned: Annotated[
        str,
        typer.Argument(
            metavar="TUNED", help="The tuned model: a checkpoint or a folder.", show_default=False
        ),
    ],
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="The model that it was tuned from.", show_default=False
        ),
    ],
    *,
    given: Given,
) -> Call:
    """Make a LoRA of the difference of two models.

    Give --rank for one rank, or --fro for the share of each layer's difference that must be kept.

    Example: dsk lora extract tuned.safetensors v1-5-pruned.safetensors --rank 64
    """
    options = opt.options(Path(), "lora-extract", given)
    return lambda api, context: api.lora_extract(tuned, base, options, context)
