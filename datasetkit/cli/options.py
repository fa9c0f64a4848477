"""The switches that commands share, and how a command's options are built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from datasetkit.cli.command import HOW
from datasetkit.core.files import config_path

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder that holds the images.", show_default=False),
]
In = Annotated[
    Path,
    typer.Argument(metavar="IN", help="The folder that holds the images.", show_default=False),
]
Here = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A folder of the project; the current one by default.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show what would be done; change nothing.", rich_help_panel=HOW),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=HOW),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait for another dsk run in this project to end.", rich_help_panel=HOW
    ),
]
WaitForGpu = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait for another dsk run in this project, or on this GPU, to end.",
        rich_help_panel=HOW,
    ),
]
Now = Annotated[
    bool,
    typer.Option(
        "--now", help="Start also while another dsk run uses the GPU.", rich_help_panel=HOW
    ),
]


def out(what: str, default: str) -> Any:
    """Return the argument for the folder of the new images. what: they are called."""
    return typer.Argument(
        metavar="OUT",
        help=f"Where the {what} go; by default {default} beside IN.",
        show_default=False,
    )


def tag_options(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of `dsk tag`: a concept's folder adds its [[concept]] table to [tag], as in
    a run.
    """
    from datasetkit.verbs.shared import concept_folders  # here, so that --help need not load it

    name_settings(folder)
    options = concept_folders.tag_options(folder, given)
    if options.recursive and given.get("trigger") is None:
        concept_folders.refuse_concepts_below(folder)
    return options


def plan_options(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of `dsk plan-repeats`: defaults come from `[layout]` of the dsk.toml."""
    from datasetkit.verbs import plan_repeats  # here, so that --help need not load it

    name_settings(folder)
    return plan_repeats.plan_options(folder, given)


def options(folder: Path, verb: str, given: Mapping[str, object]) -> Any:
    """Build a verb's options: default < the dsk.toml that governs the folder < what was given
    (None: not given).
    """
    from datasetkit.cli import console
    from datasetkit.options import toml  # here, so that --help need not load it

    name_settings(folder)
    config, cls = toml.find(folder), toml.options_class(verb)
    built: Any = config.build(cls, verb, given)
    if config.is_named:
        for line in config.outside_lines(cls, verb):
            console.warn(line)
    return built


def executor(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of [executor], from the same dsk.toml as those of the verb."""
    from datasetkit.options import toml  # here, so that --help need not load it

    return toml.find(folder).build(toml.options_class("executor"), "executor", given)


def executor_to_try(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of [executor] for a command that only tries the cluster; None where a file
    names one that the user did not name.
    """
    from datasetkit.cli import console
    from datasetkit.options import toml  # here, so that --help need not load it

    config, cls = toml.find(folder), toml.options_class("executor")
    options: Any = config.build(cls, "executor", given, only_read=True)
    if given["address"] is None and not config.is_named and not options.is_local:
        console.remark(f"{config.path} names a cluster: `dsk doctor {config.path}` tries it")
        return None
    return options


def refuse_given(given: Mapping[str, object], why: str) -> None:
    """Raise ConfigError if an option was given that has no meaning here."""
    from datasetkit.core.errors import ConfigError

    if named := [name for name, value in given.items() if value is not None]:
        switch = {"source": "from"}.get(named[0], named[0].replace("_", "-"))
        raise ConfigError(f"--{switch} is for a folder of images", hint=f"leave it out: {why}")


def folder_of(path: Path) -> Path:
    """Return the folder of a dataset; a dsk.toml stands for its folder, and counts as named."""
    from datasetkit.options import toml  # here, so that --help need not load it

    return toml.folder_of(path)


def name_settings(folder: Path) -> None:
    """Name the dsk.toml in force on stderr where it comes from a folder that the user neither named
    nor is in.
    """
    from datasetkit.cli import console

    path = config_path(folder)
    if path is not None and path.parent not in (folder.resolve(), Path.cwd()):
        console.remark(f"settings: {path}")
