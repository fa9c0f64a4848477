"""The command that uploads: publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import HOW, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.train import PANEL


@command(app, panel=PANEL, table="publish")
def publish(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            help="A LoRA file, or a dataset: its folder or its dsk.toml.",
            show_default=False,
        ),
    ],
    *,
    given: Given,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask before the upload.", rich_help_panel=HOW),
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Upload a LoRA with a model card, or a dataset, to the Hugging Face hub; private unless
    --public.

    It lists what leaves this machine and asks. The login is that of `hf auth login`.

    Example: dsk publish output/sks.safetensors --repo me/sks-lora
    """
    from datasetkit.cli import run, show_publish

    options = opt.options(path if path.is_dir() else path.parent, "publish", given)

    def upload(api: Any, context: Any) -> Any:
        plan = api.plan_publishing(path, options, context)
        if not json:
            show_publish.plan(plan)
        if not dry_run and not yes:
            show_publish.confirm(plan)
        return api.publish(plan, context)

    run.verb("publish", upload, show_publish.published, json, dry_run, wait)
