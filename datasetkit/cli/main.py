"""`dsk`: the commands, and the one place where an error becomes a line, a hint and an exit code."""

from __future__ import annotations

import errno
import gc
import io
import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from datasetkit import __version__
from datasetkit.cli import interruption
from datasetkit.cli.command import CommandGroup
from datasetkit.core.errors import DskError, Exit, StorageError
from datasetkit.core.files import storage_error
from datasetkit.core.stopping import RunPause, Terminated, end_by_signals

# How many objects are made until the next search for cycles.
_COLLECT_EVERY = 100_000


class _Commands(CommandGroup):
    """A group in which a command may have a name of two words: `reg generate` beside `reg`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if two in self.commands else args)


app = typer.Typer(
    name="dsk",
    cls=_Commands,
    help="From a folder of photos or drawings to a trained LoRA.",
    epilog="Start with: dsk init, then dsk run dsk.toml. dsk undo reverts any change.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


# The base class of Typer's errors for a wrong command line. Typer vendors click, which is not meant
# to be imported.
# What a disk answers to any call, also to those that are not about to write.
_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


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
    # Disabled while the commands were imported; what they made stays, so no search goes through it.
    # With Python's thresholds searches take a tenth of a command's time, and find next to nothing.
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 20)
    gc.enable()


def main() -> None:
    """Run `dsk` and exit with its code."""
    end_by_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file or a pipe has the code page of Windows, which has no characters for many tags.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


def register_commands() -> None:
    """Import the modules of the commands, which register them; help lists them in this order."""
    for module in (
        "prepare",
        "images",
        "review",
        "dataset",
        "check",
        "train",
        "find_lr",
        "grid",
        "lora",
        "keep",
        "publish",
        "project",
    ):
        import_module(f"datasetkit.cli.{module}")


def commands() -> dict[str, Any]:
    """Return every command by its full name, such as `models list`, with its parameters."""
    register_commands()
    found: dict[str, Any] = {}
    groups: Any = typer.main.get_command(app)
    for name, entry in groups.commands.items():
        below = getattr(entry, "commands", None)
        found |= {name: entry} if below is None else {f"{name} {n}": c for n, c in below.items()}
    for name, entry in found.items():
        entry.make_context(name, [], resilient_parsing=True)  # builds its parameters
    return found


def require_valid(arguments: Sequence[str]) -> None:
    """Raise the usage error of a command line that is to run later."""
    if not arguments:
        return
    group: Any = typer.main.get_command(app)
    with group.make_context("dsk", list(arguments), resilient_parsing=False) as context:
        name, found, rest = group.resolve_command(context, list(arguments))
        while hasattr(found, "commands"):
            inner = found.make_context(name, rest, parent=context)
            name, found, rest = found.resolve_command(inner, rest)
        found.make_context(name, rest, parent=context)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; print an expected error as one line and a
    hint.
    """
    register_commands()
    interruption.forget()
    try:
        # Commands return nothing; the value is the code of an Exit that was raised.
        code = app(args=arguments, prog_name="dsk", standalone_mode=False) or Exit.DONE
        return _interrupted(arguments) if code == Exit.INTERRUPTED else int(code)
    except SystemExit as ended:
        return (
            _reader_left()
            if isinstance(ended.__context__, BrokenPipeError)
            else int(ended.code or 0)
        )
    except _UsageError as error:
        return _misused(error)
    except RunPause as pause:
        return _paused(pause, arguments)
    except StorageError as error:
        return _full(error, arguments)
    except DskError as error:
        return _complain(error.message, error.hint, error.exit_code, error.details)
    except typer.Abort:  # Ctrl-C or Ctrl-D at a question; all are asked before anything changes
        return _complain("interrupted", "nothing was changed", Exit.INTERRUPTED)
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except Terminated as error:
        return _ended("terminated", Exit(128 + error.signum), arguments)
    except sqlite3.Error as error:
        return _complain(
            f"cannot use the project's store: {error}",
            "check the free space and permissions of .dsk/",
            Exit.STORAGE,
        )
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        if error.errno not in _STORAGE_ERRORS:
            raise  # a bug
        return _full(storage_error(Path(error.filename or Path.cwd()), error), arguments)


def _misused(error: Exception) -> int:
    """Print a usage error in the same form as every other error."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # Typer has printed the help
        return Exit.USAGE
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    message = _plain(message, error.__cause__)
    return _complain(
        message, f"see {context.command_path if context else 'dsk'} --help", Exit.USAGE
    )


# What a value is not, by the first word of the error that pydantic has for it.
_NOT_A = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def _plain(message: str, cause: BaseException | None) -> str:
    """Return a message of Typer without the sentence that pydantic has for a value."""
    message = message.replace("Value error, ", "")  # Typer's checks of words add it
    if cause is None or not hasattr(cause, "errors"):
        return message
    first = cause.errors(include_url=False)[0]
    if first["msg"] not in message:
        return message
    wanted = _NOT_A.get(first["type"].split("_")[0], "a valid value")
    return message.replace(first["msg"], f"{first['input']!r} is not {wanted}")


def _reader_left() -> int:
    """Exit without an error when the reader of stdout has closed the pipe; Python would complain
    when it flushes stdout at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return Exit.DONE


def _interrupted(arguments: list[str]) -> int:
    return _ended("interrupted", Exit.INTERRUPTED, arguments)


def _ended(message: str, code: Exit, arguments: list[str]) -> int:
    """Print what an interrupted command has left, and what to do next."""
    step = interruption.next_step(arguments, commands())
    return _complain(message, step.hint, code, command=step.command)


def _paused(pause: RunPause, arguments: list[str]) -> int:
    from datasetkit.cli.console import paused

    step = interruption.described(arguments)
    paused(pause.message, step.command if step else "")
    return pause.exit_code


def _full(error: StorageError, arguments: list[str]) -> int:
    """Print an error of the disk; a command that had begun may need another one to go on."""
    step = interruption.described(arguments)
    if step is None:
        return _complain(error.message, error.hint, error.exit_code)
    hint = error.hint.removesuffix(" and run the command again")
    return _complain(
        error.message,
        "; ".join(filter(None, (hint, step.hint))),
        error.exit_code,
        command=step.command,
    )


def _complain(
    message: str, hint: str, code: Exit, details: Sequence[str] = (), *, command: str = ""
) -> int:
    from datasetkit.cli.console import complain

    complain(message, hint, details, command=command)
    return code
