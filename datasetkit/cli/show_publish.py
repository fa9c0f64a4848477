"""What `dsk publish` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasetkit.cli import show_project
from datasetkit.cli.console import counted, listed, say, warn
from datasetkit.cli.show import from_here, problems, size_of

if TYPE_CHECKING:
    from datasetkit.verbs.publish import PublishPlan, PublishResult


def plan(result: PublishPlan) -> None:
    """List what leaves this machine."""
    who = "everybody can see it" if result.options.public else "private"
    say(f"what leaves this machine, to {result.address} ({who}):", "bold")
    problems(result.failed)
    listed([f"  {name}  <- {from_here(path)}" for name, path in result.files.items()])
    if not result.files:
        say(f"  data/train-*.parquet  <- {counted(len(result.images), 'image')}")
    listed([f"  {name}  <- written by dsk" for name in result.texts])
    say(f"{_files(result)}, {size_of(result.size)}")
    say("what people can learn from it:")
    for line in result.discloses:
        say(f"  {line}")
    if result.options.license:
        say(f"licence: {result.options.license}")
    else:
        warn("no licence is given, so nobody else may use it: name one with --license")


def confirm(result: PublishPlan) -> None:
    """Ask before the upload."""
    visible = "everybody can see it" if result.options.public else "private"
    show_project.confirm(
        f"upload {_files(result)} ({size_of(result.size)}) to {result.address} ({visible})?",
        "add --yes if you have read what leaves this machine; --dry-run shows it",
    )


def published(result: PublishResult, dry_run: bool) -> None:
    if dry_run:
        card = result.plan.texts["README.md"]
        say()
        say("README.md", "bold")
        for line in card.splitlines():
            say(f"  {line}")
        say()
        say("a dry run: nothing was uploaded")
        return
    for name in result.kept:
        warn(f"{name} of the repository is kept; --replace-card writes it again")
    made = "created the repository and " if result.created else ""
    say(f"{made}uploaded {_files(result.plan, without=len(result.kept))}: {result.url}")


def _files(result: PublishPlan, without: int = 0) -> str:
    return counted((len(result.files) or 1) + len(result.texts) - without, "file")
