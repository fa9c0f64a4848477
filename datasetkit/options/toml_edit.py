"""Set keys in a table of a TOML file, and leave all else as it is: comments, order, line ends."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import tomli_w

from datasetkit.core.errors import ConfigError

_HEADER: Final = re.compile(r"[ \t]*\[(?P<name>[^\[\]]+)\][ \t]*(#.*)?")
_LIST_HEADER: Final = re.compile(r"[ \t]*\[\[(?P<name>[^\[\]]+)\]\][ \t]*(#.*)?")
_ANY_HEADER: Final = re.compile(r"[ \t]*\[")
_KEY: Final = re.compile(r"(?P<before>[ \t]*(?P<key>[\w-]+|\"[^\"]*\"|'[^']*')[ \t]*=[ \t]*)")


@dataclass(frozen=True, slots=True)
class TableChange:
    """What changes in a table. unset: keys with their default, which stays in the file where a
    comment follows; None for a key that is removed in any case. at: the number, from 0, of the
    table in a list of tables such as [[concept]]; its length adds one. removed: the table goes.
    """

    table: str
    values: Mapping[str, Any] = field(default_factory=dict)
    unset: Mapping[str, Any] = field(default_factory=dict)
    at: int | None = None
    removed: bool = False

    @property
    def header(self) -> str:
        return f"[{self.table}]" if self.at is None else f"[[{self.table}]]"


def with_values(text: str, table: str, values: Mapping[str, Any], *, source: str) -> str:
    """Return the text of a TOML file with values set in a table, which is added if it is missing.

    source: what errors call the file. Raises ConfigError for a file that is written in a way in
    which its keys cannot be replaced, such as a table in braces.
    """
    return with_changes(text, [TableChange(table, values)], source=source)


def with_changes(text: str, changes: Sequence[TableChange], *, source: str) -> str:
    """Return the text of a TOML file with changes made one after the other. Raises as
    `with_values`.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    edited = text.replace("\r\n", "\n")
    for change in changes:
        edited = _with_change(edited, change, source)
    return edited.replace("\n", newline)


def _with_change(text: str, change: TableChange, source: str) -> str:
    lines = text.split("\n")
    start = _header(lines, change.table, change.at)
    kept: dict[str, Any] = {}
    if change.removed and start is not None:
        del lines[start : _table_end(lines, start)]
    elif not change.removed:
        if start is None and (change.values or change.at is not None):
            start = _add_header(lines, change.header)
        if start is not None:
            kept = _change_keys(lines, start, change)
    edited = "\n".join(lines)
    if not _is_as_wanted(text, edited, change, kept):
        shown = "; ".join(f"{key} = {written(value)}" for key, value in change.values.items())
        raise ConfigError(
            f"{source}: {change.header} is written in a way in which its keys cannot be replaced",
            hint=f"set them yourself: {shown}" if shown else "change it yourself",
        )
    return edited


def _add_header(lines: list[str], header: str) -> int:
    """Add a header at the end; return its line."""
    while lines and not lines[-1].strip():
        lines.pop()
    lines += ["", header, ""] if lines else [header, ""]
    return len(lines) - 2


def _change_keys(lines: list[str], start: int, change: TableChange) -> dict[str, Any]:
    """Set and remove the keys below a header; return those that stay with their default."""
    for key, value in change.values.items():
        _set(lines, start, key, written(value))
    return {
        key: default
        for key, default in change.unset.items()
        if _unset(lines, start, key, None if default is None else written(default))
    }


def written(value: Any) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _is_as_wanted(old: str, new: str, change: TableChange, kept: Mapping[str, Any]) -> bool:
    """Tell whether exactly this change was made. kept: keys that have their default now."""
    try:
        wanted, result = (tomllib.loads(text.removeprefix("\ufeff")) for text in (old, new))
        _change(wanted, change, kept)
    except (tomllib.TOMLDecodeError, TypeError, IndexError, AttributeError):
        return False
    return wanted == result


def _change(data: dict[str, Any], change: TableChange, kept: Mapping[str, Any]) -> None:
    """Make a change in the values of a file. Raises IndexError for no such table."""
    tables: Any = data
    key: Any = change.table
    if change.at is not None:
        tables, key = data.setdefault(change.table, []), change.at
        if key == len(tables) and not change.removed:
            tables.append({})
    if change.removed:
        del tables[key]
        if change.at is not None and not tables:
            del data[change.table]
        return
    table = data.get(change.table) if change.at is None else tables[key]
    if table is None and not change.values:
        return
    remaining = {k: v for k, v in (table or {}).items() if k not in change.unset}
    tables[key] = {**remaining, **_plain(change.values), **_plain(kept)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _header(lines: list[str], table: str, at: int | None = None) -> int | None:
    """Return the line of a table's header. One in a text of several lines is found, too; the result
    is compared afterwards.
    """
    pattern = _HEADER if at is None else _LIST_HEADER
    matches = [
        (number, pattern.fullmatch(line.removeprefix("\ufeff")))
        for number, line in enumerate(lines)
    ]
    numbers = [n for n, match in matches if match and match["name"].strip().strip("\"'") == table]
    return next(iter(numbers[at or 0 :]), None)


def _table_end(lines: list[str], start: int) -> int:
    """Return the line behind a table; comments right above the next header belong to that."""
    end = start + 1
    while end < len(lines) and not _ANY_HEADER.match(lines[end]):
        end = end + 1 if _KEY.match(lines[end]) is None else _end(lines, end)
    end = min(end, len(lines))
    while start + 1 < end < len(lines) and lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return end


def _unset(lines: list[str], start: int, key: str, default: str | None) -> bool:
    """Remove a key below a header; tell whether it stays with its default, as a comment follows."""
    number = start + 1
    while number < len(lines) and not _ANY_HEADER.match(lines[number]):
        match = _KEY.match(lines[number])
        if match is None:
            number += 1
            continue
        end = _end(lines, number)
        if match["key"].strip("\"'") == key:
            comment = _comment(lines[number:end], match)
            stays = bool(comment) and default is not None
            lines[number:end] = [f"{match['before']}{default}{comment}"] if stays else []
            return stays
        number = end
    return False


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
