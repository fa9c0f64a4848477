"""What a file of options may decide. A dsk.toml that lies beside or above images may have come with
them, so it is data from elsewhere; a file that is named on the command line was chosen by the user.

The declarations say which option writes to a path, imports code or counts on the command line
alone (`Option.path`, `imports_code`, `counts_from`), so a new option is covered by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.options.declare import DeclaredOption, declared

# These values of an output path stand for "none".
_NO_PATH: Final = ("", "none")


def refuse_command_line_only(cls: type, table: Mapping[str, Any], *, where: str, verb: str) -> None:
    """Raise ConfigError for options that a file must not set, such as the address to listen on."""
    for d in _set(cls, table):
        if d.about.counts_from == "command line":
            raise ConfigError(
                f"{where}: {d.name} counts on the command line only",
                hint=f"take it out of the file; type it: dsk {verb} {_typed(d, table[d.name])}",
            )


def refuse_found(
    cls: type, table: Mapping[str, Any], root: Path, *, where: str, verb: str, file: str
) -> None:
    """Raise ConfigError for options that count only from a file that is named: paths that are
    written outside of `root`, links resolved, limits that are raised, and those declared so.
    """
    for d in _set(cls, table):
        value = table[d.name]
        if d.about.counts_from == "named file" and value != d.default:
            raise ConfigError(
                f"{where}: {d.name} does not count from a file that is only found",
                hint=_hint(d, value, verb, file),
            )
        if d.about.is_limit and isinstance(value, int) and value > d.default:
            raise ConfigError(
                f"{where}: {d.name} = {value:,} is above {d.default:,}, and a file that is only "
                "found may only lower it",
                hint=_hint(d, value, verb, file),
            )
        if (path := _outside(d, value, root)) is not None:
            raise ConfigError(
                f"{where}: {d.name} = {display(str(value))} lies outside of the folder of "
                f"{display(file)}",
                hint=_hint(d, str(path), verb, file),
            )


def outside(cls: type, table: Mapping[str, Any], root: Path) -> dict[str, Path]:
    """Return the options of a table that write outside of `root`: name -> resolved path."""
    paths = {d.name: _outside(d, table[d.name], root) for d in _set(cls, table)}
    return {name: path for name, path in paths.items() if path is not None}


def is_outside(path: Path, root: Path) -> bool:
    """Tell whether a path leads out of a folder once all links are resolved."""
    return not path.resolve().is_relative_to(root.resolve())


def refuse_imports(cls: type, table: Mapping[str, Any], *, where: str, hint: str = "") -> None:
    """Raise ConfigError for an import path of a class that is in none of the known packages."""
    for _, text, packages in unknown_imports(cls, table, hint=hint):
        raise ConfigError(f"{where}: {text}", hint=packages)


def unknown_imports(
    cls: type, table: Mapping[str, Any], *, hint: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield the options whose class is in none of the known packages: name, message, hint."""
    hint = hint or "add --allow-import if you trust it"
    for d in _set(cls, table):
        packages = d.about.imports_code
        if not packages or not isinstance(value := table[d.name], str):
            continue
        parts = value.replace(":", ".").split(".")
        module = ".".join(parts[:-1])
        is_known = all(map(str.isidentifier, parts)) and any(
            module == package or module.startswith(f"{package}.") for package in packages
        )
        if len(parts) > 1 and not is_known:
            yield (
                d.name,
                f"{d.name} = {display(value)} would import code that dsk does not know",
                f"{hint}; without it a file may name classes of " + ", ".join(packages),
            )


def _set(cls: type, table: Mapping[str, Any]) -> Iterator[DeclaredOption]:
    return (d for d in declared(cls) if d.name in table)


def _outside(d: DeclaredOption, value: Any, root: Path) -> Path | None:
    """Return the resolved path of an option that writes outside of a folder, else None."""
    if not d.is_written or not isinstance(value, str) or value in _NO_PATH:
        return None
    path = root / value
    return path.resolve() if is_outside(path, root) else None


def _hint(d: DeclaredOption, value: Any, verb: str, file: str) -> str:
    if verb == "run":
        return f"name the file: dsk run {display(file)}"
    if verb == "train":
        return f"name the file: dsk train {display(file)}, or type it: {_setting(d.name, value)}"
    return f"type it: dsk {verb} {_typed(d, value)}"


def _typed(d: DeclaredOption, value: Any) -> str:
    """Write an option as it is typed on the command line."""
    if isinstance(value, bool):
        return d.switch if value else d.off_switch
    if isinstance(value, list | tuple):
        return " ".join(f"{d.switch} {display(str(part))}" for part in value)
    return f"{d.switch} {display(str(value))}"


def _setting(name: str, value: Any) -> str:
    return f"--set {name}={display(value) if isinstance(value, str) else json.dumps(value)}"
