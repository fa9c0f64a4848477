"""The commands that the page runs: a verb, folders and options become one command line of `dsk`.

Options pass the same checks as those of a dsk.toml. Paths must lie in the roots, and no option may
import code that dsk does not know. The command line is what a terminal would be given, and is what
the page shows; it never goes through a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import InputError
from datasetkit.core.files import config_path, display
from datasetkit.options import toml, trust
from datasetkit.options.command_line import typed
from datasetkit.options.declare import DeclaredOption, declared
from datasetkit.verbs.studio.errors import NotAllowed
from datasetkit.verbs.studio.session import StudioSession
from trainer.optimizers.optimizer_names import import_path

# The table of dsk.toml with the options of each command that the page may run; "" for none.
TABLES: Final[Mapping[str, str]] = {
    "rename": "rename", "resize": "resize", "cutout": "cutout",
    "faces list": "faces", "faces crop": "faces", "faces erase": "faces",
    "tag": "tag", "caption": "caption", "rules": "rules", "check": "check",
    "plan-repeats": "plan-repeats", "layout": "layout", "reg": "reg",
    "reg generate": "reg-generate", "report": "report", "export": "export", "import": "import",
    "train": "train", "find-lr": "find-lr", "grid": "grid", "run": "", "keep": "keep",
    "lora check": "lora-check", "lora resize": "lora-resize", "lora convert": "lora-convert",
    "lora merge": "lora-merge", "lora extract": "lora-extract",
}  # fmt: skip
# Switches of these commands that are no options of dsk.toml.
SWITCHES: Final[Mapping[str, frozenset[str]]] = {
    "train": frozenset({"resume", "extend"}),
    "check": frozenset({"fix"}),
    "plan-repeats": frozenset({"apply"}),
}
_MOST_ARGUMENTS: Final = 1000
# Words that stand for something else than a path in an option that has one.
_NO_PATH: Final = ("", "none", "common", "all")


@dataclass(frozen=True, slots=True)
class StudioCommand:
    """A command line without `dsk`, which runs in the folder of the project."""

    verb: str
    words: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The line as it is typed in a terminal."""
        return shlex.join(("dsk", *self.words))

    def with_words(self, *words: str) -> StudioCommand:
        return replace(self, words=(*self.words, *words))


def shown(commands: Iterable[StudioCommand]) -> str:
    """Return commands as they are typed in a terminal: each runs only after the one before it."""
    return " && ".join(command.shown for command in commands)


def command(
    session: StudioSession, verb: str, arguments: Sequence[object], options: Mapping[str, Any]
) -> StudioCommand:
    """Return the command line of a request. Raises InputError for an unknown verb or a wrong
    argument, ConfigError for an option that is wrong, NotAllowed for a path outside of the roots
    and for code that would be imported.
    """
    if verb not in TABLES:
        raise InputError(
            f"the page cannot run dsk {display(verb)}", hint=f"known: {', '.join(TABLES)}"
        )
    switches = {name: options[name] for name in options if name in SWITCHES.get(verb, ())}
    values = {name: value for name, value in options.items() if name not in switches}
    if not all(isinstance(value, bool) for value in switches.values()):
        raise InputError(f"{', '.join(switches)} must be true or false")
    table = TABLES[verb]
    if values and not table:
        raise InputError(f"dsk {verb} has no options", hint="set them in dsk.toml")
    checked = _checked(session, table, values) if table else {}
    words = [*verb.split(), *_arguments(session, arguments)]
    words += typed(table, checked) if checked else []
    words += [f"--{name.replace('_', '-')}" for name, value in switches.items() if value]
    if session.options.allow_import and verb == "train":
        words.append("--allow-import")
    return StudioCommand(verb, tuple(words))


def _arguments(session: StudioSession, arguments: Sequence[object]) -> list[str]:
    """Return the folders and files of a command, as seen from the project where they lie in it."""
    if len(arguments) > _MOST_ARGUMENTS:
        raise InputError(f"the request has more than {_MOST_ARGUMENTS:,} arguments")
    words: list[str] = []
    for argument in arguments:
        if not isinstance(argument, str) or not argument or argument.startswith("-"):
            raise InputError(f"{display(str(argument))} is not the name of a folder or a file")
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in argument):
            raise InputError(f"{display(argument)} has control characters")
        name, equals, folder = argument.rpartition("=")  # dsk layout: NAME=DIR
        words.append(name + equals + seen(session, session.roots.path(folder, "the folder")))
    return words


def seen(session: StudioSession, path: Path) -> str:
    """Return a path as it is typed in the folder of the project."""
    project = session.roots.project
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def _checked(session: StudioSession, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request, with paths as they are typed."""
    cls = toml.options_class(table)
    toml.build(cls, values, {}, where=f"[{table}]")
    refuse_imports(session, table, values)
    refuse_unknown_optimizer(table, values)
    checked = dict(values)
    for d in declared(cls):
        if d.name in values and d.about.path:
            checked[d.name] = _placed(session, d, values[d.name])
    return checked


def refuse_imports(session: StudioSession, table: str, values: Mapping[str, Any]) -> None:
    """Raise NotAllowed for a class that is named by an import path, unless dsk.toml has the same
    text, or the studio was started with --allow-import.
    """
    if session.options.allow_import:
        return
    present: Mapping[str, Any] = {}
    path = config_path(session.root)
    if path is not None:
        present = toml.load(path).table(table)
    cls = toml.options_class(table)
    for d in declared(cls):
        value = values.get(d.name)
        if not d.about.imports_code or not isinstance(value, str):
            continue
        is_path = "." in value or ":" in value
        is_known = present.get(d.name) == value and not any(
            trust.unknown_imports(cls, {d.name: value})
        )
        if is_path and not is_known:
            raise NotAllowed(
                f"{d.name} = {display(value)} imports code, and the page cannot set that",
                hint=f"write it into dsk.toml yourself, or start: dsk {session.command} "
                "--allow-import",
            )


def refuse_unknown_optimizer(table: str, values: Mapping[str, Any]) -> None:
    """Raise ConfigError for the name of an optimizer that the trainer does not know."""
    name = values.get("optimizer_type")
    if table == "train" and isinstance(name, str):
        import_path(name)


def _placed(session: StudioSession, d: DeclaredOption, value: Any) -> Any:
    """Return the value of an option that names paths, each as it is typed. Raises NotAllowed."""
    if isinstance(value, list | tuple):
        return [_placed(session, d, part) for part in value]
    if not isinstance(value, str) or value in _NO_PATH:
        return value
    if d.about.path == "model" and not _is_file(session, value):
        return value  # `tiny`, or a name on the hub
    place = session.roots.output if d.is_written else session.roots.path
    return seen(session, place(value, d.name))


def _is_file(session: StudioSession, value: str) -> bool:
    """Tell whether the name of a model is one of a file or folder."""
    try:
        path = Path(value).expanduser()
        is_written_so = path.is_absolute() or value.startswith((".", "~")) or path.suffix != ""
        return is_written_so or (session.roots.project / path).exists()
    except (OSError, RuntimeError):  # too long a name; the home folder of nobody
        return True
