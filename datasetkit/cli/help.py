"""The help of commands and groups: one column of names, one of explanations, wrapped by words.

Typer's own table gives the names five columns, which leaves few characters for the explanations on
a terminal of 80 columns.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from datasetkit.cli.command import HOW

WANT: Final = "What you want"
_ARGUMENTS: Final = "Arguments"
# Characters: wider lines are hard to read; wider names stand on a line of their own.
_WIDEST, _NAME_WIDEST = 100, 26
_SWITCH_OFF: Final = "`--no-NAME` turns off a switch that dsk.toml turns on."


def show(command: Any, context: Any) -> None:
    """Print the help of a command or a group."""
    console = Console(highlight=False, width=min(shutil.get_terminal_size().columns, _WIDEST))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join((context.command_path, "[OPTIONS]", *map(_argument, arguments)))
    commands = getattr(command, "commands", None)
    if commands is not None:
        usage += " COMMAND ..."
    _paragraph(console, Text("Usage: ", "bold").append(usage, "not bold"))
    for paragraph in filter(None, ((command.help or "").split("\n\n"))):
        name, colon, rest = paragraph.partition("Example: ")
        _paragraph(console, Text(name).append(colon, "bold").append(rest))
    parameters = command.get_params(context)
    if commands is None:
        panels = _panels(parameters)
    else:
        panels = _listed(commands.values())
        panels["Options"] = [(_option(p), _explanation(p)) for p in parameters]
    rows = [name for several in panels.values() for name, _ in several]
    widest = min(_NAME_WIDEST, console.width // 3)
    width = max((len(name) for name in rows if len(name) <= widest), default=0)
    for n, (title, several) in enumerate(panels.items()):
        console.print(Text("\n" * bool(n)).append(title, "bold"))
        for name, text in several:
            _row(console, name, text, width)
    if command.epilog:
        console.print()
        _lines(console, Text(command.epilog))


def _argument(parameter: Any) -> str:
    name: str = parameter.metavar or parameter.name.upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _panels(parameters: Iterable[Any]) -> dict[str, list[tuple[Text, Text]]]:
    """Return the rows of each panel."""
    panels: dict[str, list[tuple[Text, Text]]] = {_ARGUMENTS: [], WANT: [], HOW: []}
    for p in parameters:
        is_argument = p.param_type_name == "argument"
        panel = HOW if p.name == "help" else getattr(p, "rich_help_panel", None) or WANT
        title = _ARGUMENTS if is_argument else panel
        name = Text(p.metavar or p.name.upper(), "cyan") if is_argument else _option(p)
        panels[title].append((name, _explanation(p)))
    if any(p.secondary_opts and p.show_default is False for p in parameters):
        panels[HOW].append((Text(), Text(_SWITCH_OFF, "dim")))
    return {title: rows for title, rows in panels.items() if rows}


def _option(parameter: Any) -> Text:
    """Return how an option is typed: `-r, --recursive`, `--threshold N|pr`."""
    spellings = sorted(parameter.opts, key=lambda flag: flag.startswith("--"))
    if parameter.secondary_opts and parameter.show_default is not False:
        spellings += parameter.secondary_opts
    name = Text(", ".join(spellings), "cyan")
    return name if parameter.is_flag else name.append(f" {parameter.metavar or 'TEXT'}", "dim")


def _explanation(parameter: Any) -> Text:
    # The backslash is for the shells' completion, which reads the text as Rich's markup.
    text = Text((parameter.help or "").replace(r"\[", "["))
    default = parameter.show_default if isinstance(parameter.show_default, str) else None
    if default is None and parameter.show_default and not getattr(parameter, "is_flag", False):
        default = str(parameter.default) if parameter.default not in (None, "") else None
    if default and not getattr(parameter, "is_flag", False):
        text.append(f" [default: {default}]", "dim")
    return text


def _listed(commands: Iterable[Any]) -> dict[str, list[tuple[Text, Text]]]:
    """Return the commands of a group by panel, each with its first sentence."""
    panels: dict[str, list[tuple[Text, Text]]] = {}
    for command in commands:
        first = (command.help or "").partition("\n\n")[0]
        panel = command.rich_help_panel or "Commands"
        panels.setdefault(panel, []).append((Text(command.name, "cyan"), Text(first)))
    return panels


def _paragraph(console: Console, text: Text) -> None:
    _lines(console, text)
    console.print()


def _lines(console: Console, text: Text, indent: int = 0) -> None:
    """Print a text wrapped by words, without the spaces at which it was broken."""
    for line in _wrapped(console, text, indent):
        console.print(Text(" " * indent).append_text(line))


def _wrapped(console: Console, text: Text, indent: int) -> list[Text]:
    lines = text.wrap(console, max(console.width - indent, 1))
    for line in lines:
        line.rstrip()
    return list(lines)


def _row(console: Console, name: Text, text: Text, width: int) -> None:
    """Print a name and its explanation beside it; below it where the name is too wide."""
    indent = width + 4
    if len(name) > width:
        _lines(console, name, 2)
        _lines(console, text, indent)
        return
    first, *more = _wrapped(console, text, indent)
    console.print(Text("  ").append_text(name).append(" " * (width - len(name) + 2)).append(first))
    for line in more:
        console.print(Text(" " * indent).append_text(line))
