"""What is found while a file of another trainer is read: all its problems become one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

PAGE: Final = "docs/from-sd-scripts.md"
_MOST = 40  # characters of a value in a message
_LONGEST = 300  # characters of a line
_MOST_LINES = 100


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One key that keeps a file from being read. text: begins with the key."""

    file: str
    key: str
    text: str
    hint: str = ""


@dataclass(slots=True)
class Findings:
    """What one or two files hold besides options. ignored: key -> why it has no effect; unknown:
    keys that are not known, and off.
    """

    problems: dict[Problem, None] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def are_many(self) -> bool:
        """Tell whether there are more problems than a message names."""
        return len(self.problems) > _MOST_LINES

    def refuse(self, file: str, key: str, text: str, hint: str = "") -> None:
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
        self.problems[Problem(file, key, text, hint)] = None

    def notes(self) -> tuple[str, ...]:
        """Return the warnings that the plan begins with."""
        if not self.unknown:
            return tuple(self.notices)
        unknown = sorted(set(self.unknown))
        keys = ", ".join(map(display, unknown[:_MOST_LINES]))
        keys += f" and {len(unknown) - _MOST_LINES:,} more" if len(unknown) > _MOST_LINES else ""
        return (*self.notices, f"unknown keys that are off have no effect: {keys}")

    def require_none(self) -> None:
        """Raise ConfigError if there are problems: one error for all of them."""
        problems = sorted(self.problems)
        if not problems:
            return
        files = list(dict.fromkeys(p.file for p in problems))
        if len(problems) == 1:
            raise ConfigError(f"{files[0]}: {problems[0].text}", hint=problems[0].hint)
        lines = list(_lines(problems[:_MOST_LINES], named=len(files) > 1))
        if self.are_many:
            lines.append(f"and {len(problems) - _MOST_LINES:,} more")
        raise ConfigError(
            f"{' and '.join(files)}: {len(problems):,} keys must be changed",
            hint=f"{PAGE} says what becomes of each key",
            details=lines,
        )


def _lines(problems: Iterable[Problem], *, named: bool) -> Iterable[str]:
    for problem in problems:
        where = f"{problem.file}: " if named else ""
        yield f"{where}{problem.text}" + (f": {problem.hint}" if problem.hint else "")


def shown(value: Any) -> str:
    """Return a value as a message shows it: at most one short line."""
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
