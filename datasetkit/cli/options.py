"""The switches that commands share, each written once, and what is common to every
command's body.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Folder = Annotated[
    Path, typer.Argument(help="The folder that holds the images.", show_default=False)
]
Here = Annotated[Path, typer.Argument(help="A folder of the project; the current one by default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for another dsk run in this project to end.")
]
Recursive = Annotated[
    bool | None, typer.Option("--recursive/--no-recursive", "-r", help="Go into subfolders.")
]
FollowLinks = Annotated[
    bool | None,
    typer.Option("--follow-links/--no-follow-links", help="Read images that are symbolic links."),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Threads that read images; 0: one more than cores.", show_default="0"),
]
Provider = Annotated[
    str | None, typer.Option(help="Where the model runs: auto, cpu, cuda, ...", show_default="auto")
]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Refuse images of more pixels than this.", show_default="64000000"),
]
Trigger = Annotated[
    str | None,
    typer.Option(
        help="Trigger words, comma-separated; they stand first in every caption, exactly once."
    ),
]
Exclude = Annotated[
    str | None,
    typer.Option(
        help="Tags to leave out: names, globs (*_hair), groups (@face), category:rating; "
        "comma-separated."
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="Only images that pass a filter, e.g. tag:lips AND NOT score:<0.4.", metavar="FILTER"
    ),
]
Additional = Annotated[
    str | None, typer.Option(help="Tags that every caption gets, after the trigger.")
]
Replace = Annotated[str | None, typer.Option(help="Other spellings: old=new,old=new.")]
Implies = Annotated[
    str | None,
    typer.Option(
        help="Drop a tag that a narrower one makes redundant (hat beside baseball cap): none, "
        "common, or a TOML file.",
        show_default="none",
    ),
]
EscapeBrackets = Annotated[
    bool | None,
    typer.Option(
        "--escape-brackets/--no-escape-brackets",
        help=r"Write \( and \) as prompts do; captions need not.",
    ),
]


def words(text: str | None) -> list[str] | None:
    """Split a comma-separated option; None where it was not given."""
    if text is None:
        return None
    return [word for piece in text.split(",") if (word := piece.strip())]


def sides(text: str | None) -> list[int] | None:
    """Read a size: `512` or `512x768`; None where it was not given."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    try:
        return [int(width), int(height or width)]
    except ValueError:
        raise typer.BadParameter(f"--size {text}: write 512 or 512x768") from None


def tag_options(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of `dsk tag`: in a concept's folder its own [[concept]] table joins [tag],
    as in a run.
    """
    from datasetkit.verbs.shared import concept_folders  # here, so that --help need not load it

    options = concept_folders.tag_options(folder, given)
    if options.recursive and given.get("trigger") is None:
        concept_folders.refuse_concepts_below(folder)
    return options


def plan_options(folder: Path, given: Mapping[str, object]) -> Any:
    """Build the options of `dsk plan-repeats`: what it does not say itself, `[layout]` of the
    dsk.toml does.
    """
    from datasetkit.verbs import plan_repeats  # here, so that --help need not load it

    return plan_repeats.plan_options(folder, given)


def options(folder: Path, verb: str, given: Mapping[str, object]) -> Any:
    """Build a verb's options: default < the dsk.toml that governs the folder < what was given
    (None: was not).
    """
    from datasetkit.options import toml  # here, so that --help need not load it

    return toml.find(folder).build(toml.options_class(verb), verb, given)
