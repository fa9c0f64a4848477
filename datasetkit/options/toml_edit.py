"""Set keys in a table of a TOML file, and leave all else as it is: comments, order, line ends."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

from datasetkit.core.errors import ConfigError

_HEADER: Final = re.compile(r"[ \t]*\[(?P<name>[^\[\]]+)\][ \t]*(#.*)?")
_ANY_HEADER: Final = re.compile(r"[ \t]*\[")
_KEY: Final = re.compile(r"(?P<before>[ \t]*(?P<key>[\w-]+|\"[^\"]*\"|'[^']*')[ \t]*=[ \t]*)")


def with_values(text: str, table: str, values: Mapping[str, Any], *, source: str) -> str:
    """Return the text of a TOML file with values set in a table, which is added if it is missing.

    source: what errors call the file. Raises ConfigError for a file that is written in a way in
    which its keys cannot be replaced, such as a table in braces.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    start = _header(lines, table)
    if start is None:
        while lines and not lines[-1].strip():
            lines.pop()
        lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
        start = len(lines) - 1
        lines.append("")
    for key, value in values.items():
        _set(lines, start, key, written(value))
    edited = "\n".join(lines)
    if not _is_as_wanted(text, edited, table, values):
        shown = "; ".join(f"{key} = {written(value)}" for key, value in values.items())
        raise ConfigError(
            f"{source}: [{table}] is written in a way in which its keys cannot be replaced",
            hint=f"set them yourself: {shown}",
        )
    return edited.replace("\n", newline)


def written(value: Any) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _is_as_wanted(old: str, new: str, table: str, values: Mapping[str, Any]) -> bool:
    """Tell whether exactly these values were set."""
    try:
        wanted, result = (tomllib.loads(text.removeprefix("\ufeff")) for text in (old, new))
    except tomllib.TOMLDecodeError:
        return False
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    wanted[table] = {**wanted.get(table, {}), **plain}
    return wanted == result


def _header(lines: list[str], table: str) -> int | None:
    """Return the line of a table's header. One in a text of several lines is found, too; the result
    is compared afterwards.
    """
    for number, line in enumerate(lines):
        match = _HEADER.fullmatch(line.removeprefix("\ufeff"))
        if match and match["name"].strip().strip("\"'") == table:
            return number
    return None


def _set(lines: list[str], start: int, key: str, value: str) -> None:
    """Replace the value of a key below a header, or add the key behind the last one."""
    number = last = start + 1
    while number < len(lines) and not _ANY_HEADER.match(lines[number]):
        match = _KEY.match(lines[number])
        if match is None:
            number += 1
            continue
        end = _end(lines, number)
        last = end
        if match["key"].strip("\"'") == key:
            lines[number:end] = [match["before"] + value + _comment(lines[number:end], match)]
            return
        number = end
    lines.insert(last, f"{key} = {value}")


def _end(lines: list[str], number: int) -> int:
    """Return the line behind a key's value, which may have several lines."""
    for end in range(number + 1, len(lines) + 1):
        if _parses("\n".join(lines[number:end])):
            return end
    return number + 1


def _comment(lines: list[str], match: re.Match[str]) -> str:
    """Return the comment behind a value, with the spaces before it; "" without one."""
    text = "\n".join(lines)
    for place, letter in enumerate(text):
        if letter == "#" and place >= match.end() and _parses(text[:place]):
            before = text[:place]
            return before[len(before.rstrip(" \t")) :] + text[place:]
    return ""


def _parses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
