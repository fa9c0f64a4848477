"""Read TOML that people wrote, and name the mistakes that they make most."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

WINDOWS_PATH_HINT = r"write Windows paths in single quotes, 'D:\train', or with slashes"
_MOST_BYTES = 4 << 20  # of a config file
_LINE = re.compile(r"at line (\d+)")
_KEY = re.compile(r"\s*([\w.\"'-]+)\s*=")
_TABLE = re.compile(r"\s*(\[\[?[^\]]+\]\]?)")


# Path -> the bytes that are read in its place.
_frozen: dict[Path, bytes] = {}


@contextmanager
def frozen(path: Path, data: bytes) -> Iterator[None]:
    """Read these bytes in the place of a file; what is in it now does not count."""
    _frozen[path] = data
    try:
        yield
    finally:
        del _frozen[path]


def read_toml(path: Path, *, hint: str = "") -> dict[str, Any]:
    """Read a TOML file; a byte-order mark is ignored. hint: the next step if it cannot be opened.

    Raises ConfigError.
    """
    return parse_toml(read_text(path, hint=hint), source=display(path))


def read_text(path: Path, *, hint: str = "") -> str:
    """Read the text of a config file; a byte-order mark is ignored. hint: the next step if it
    cannot be opened.

    Raises ConfigError.
    """
    try:
        data = _frozen.get(path)
        if data is None:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {display(path)}: {error.strerror}", hint=hint) from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(
            f"{display(path)} has more than {_MOST_BYTES >> 20} MiB", hint="name a config file"
        )
    try:
        if b"\0" in data:  # as UTF-16 has without a byte-order mark
            raise UnicodeError
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeError:
        raise ConfigError(f"{display(path)} is not UTF-8 text", hint="save it as UTF-8") from None


def parse_toml(text: str, *, source: str, hint: str = "") -> dict[str, Any]:
    """Parse TOML. source: what errors call the file; hint: the next step after an error that is
    none of the common ones.

    Raises ConfigError.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        common = _common_mistake(text, str(error))
        raise ConfigError(
            f"{source} is not valid TOML: {error}",
            hint=common or hint or "look for a missing quote or bracket there",
        ) from None
    except (RecursionError, ValueError) as error:
        raise unusual(source, error) from None


def unusual(source: str, error: Exception) -> ConfigError:
    """Return the error for a text that a parser of TOML or JSON gives up on."""
    deep = isinstance(error, RecursionError)
    what = "brackets inside brackets, too many" if deep else "a number or a date that is too large"
    return ConfigError(f"{source} has {what}", hint="no config file needs that")


def refuse_control(path: str, *, where: str) -> None:
    """Raise ConfigError for a path with control characters, which `\\t` or `\\n` in double quotes
    became. where: what errors name.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise ConfigError(f"{where} = {path!r} has control characters", hint=WINDOWS_PATH_HINT)


def _common_mistake(text: str, message: str) -> str:
    """Say what a decoding error probably comes from, "" if it is none of the common mistakes."""
    lines = text.splitlines()
    match = _LINE.search(message)
    number = min(int(match[1]), len(lines)) if match else _last_line(lines)
    line = lines[number - 1] if lines else ""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return "this is JSON, and TOML is needed"
    if message.startswith("Cannot overwrite a value"):
        return _given_twice(lines, number)
    if message.startswith("Cannot declare"):
        return f"{line.strip()} is there twice: put all its keys under one of them"
    if re.search(r'"[^"]*\\', line):
        return WINDOWS_PATH_HINT
    if re.search("[“”„‟‘’]", line):
        return "replace the curly quotes by straight ones"
    return ""


def _given_twice(lines: list[str], number: int) -> str:
    """Name the key of a line that an earlier line of its table gives too."""
    key = _KEY.match(lines[number - 1])
    if key is None:
        return "a key is given twice: keep one of them"
    for earlier in range(number - 1, 0, -1):
        line = lines[earlier - 1]
        if _TABLE.match(line):
            break
        if (other := _KEY.match(line)) and other[1] == key[1]:
            return f"{key[1]} is given twice, in lines {earlier} and {number}: keep one of them"
    return f"{key[1]} is given twice: keep one of them"


def _last_line(lines: list[str]) -> int:
    """Return the number of the last line that is not blank."""
    return max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
