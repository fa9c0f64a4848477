"""The commands as Typer knows them, for tests of their help and of their pages."""

from __future__ import annotations

from typing import Any

from datasetkit.cli.main import commands as commands


def options(command: Any) -> list[str]:
    """Return the long names of a command's options, without --help and without the second half of
    switches.
    """
    return [
        next(name for name in param.opts if name.startswith("--"))
        for param in command.params
        if param.param_type_name == "option" and param.name != "help"
    ]
