"""`dsk`: the commands, and the one edge where errors become a line, a hint and an exit code."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from types import FrameType
from typing import Annotated

import typer

from datasetkit import __version__
from datasetkit.core.errors import DskError, Exit

app = typer.Typer(
    name="dsk",
    help="From a folder of photos or drawings to a trained LoRA.",
    epilog="Start with: dsk init, then dsk run dsk.toml. Every change can be taken back: dsk undo.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dsk {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a folder of photos or drawings to a trained LoRA."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def main() -> None:
    """Run `dsk` and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every expected error ends here as one line and a hint."""
    # Each registers its commands; help lists them in this order.
    from datasetkit.cli import prepare  # noqa: F401, I001
    from datasetkit.cli import dataset  # noqa: F401
    from datasetkit.cli import project  # noqa: F401

    try:
        app(args=arguments)
        return Exit.DONE
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else Exit.DONE
        return _interrupted() if code == Exit.INTERRUPTED else code
    except DskError as error:
        return _complain(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _interrupted()
    except Terminated:
        return _complain("terminated", "run the same command again to continue", Exit.TERMINATED)
    except sqlite3.Error as error:
        return _complain(
            f"the project's store cannot be used: {error}",
            "check the free space and permissions of .dsk/",
            Exit.STORAGE,
        )
    except BrokenPipeError:
        # Whoever read our output has seen enough; a second complaint at exit would be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _interrupted() -> int:
    return _complain("interrupted", "run the same command again to continue", Exit.INTERRUPTED)


def _complain(message: str, hint: str, code: Exit) -> int:
    from datasetkit.cli.console import complain

    complain(message, hint)
    return code
