"""The commands as Typer knows them, for tests of their help and of their pages."""

from __future__ import annotations

from typing import Any

import typer.main

from datasetkit.cli import main


def commands() -> dict[str, Any]:
    """Return every command by its full name: `tag`, `models list`, ..."""
    main.register_commands()
    found = {}
    for name, command in typer.main.get_command(main.app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        if below is None:
            found[name] = command
        else:
            found |= {f"{name} {sub}": subcommand for sub, subcommand in below.items()}
    for name, command in found.items():
        command.make_context(name, [], resilient_parsing=True)  # builds its parameters
    return found


def options(command: Any) -> list[str]:
    """Return the long names of a command's options, without --help and without the second half of
    switches.
    """
    return [
        next(name for name in param.opts if name.startswith("--"))
        for param in command.params
        if param.param_type_name == "option" and param.name != "help"
    ]
