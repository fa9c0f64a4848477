"""What is found while a file of another trainer is read: all its problems become one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

PAGE: Final = "docs/from-sd-scripts.md"
_MOST = 40  # characters of a value in a message


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

    problems: list[Problem] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def refuse(self, file: str, key: str, text: str, hint: str = "") -> None:
        problem = Problem(file, key, text, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def notes(self) -> tuple[str, ...]:
        """Return the warnings that the plan begins with."""
        if not self.unknown:
            return tuple(self.notices)
        keys = ", ".join(map(display, sorted(set(self.unknown))))
        return (*self.notices, f"unknown keys that are off have no effect: {keys}")

    def require_none(self) -> None:
        """Raise ConfigError if there are problems: one error for all of them."""
        problems = sorted(self.problems)
        if not problems:
            return
        files = list(dict.fromkeys(p.file for p in problems))
        if len(problems) == 1:
            raise ConfigError(f"{files[0]}: {problems[0].text}", hint=problems[0].hint)
        raise ConfigError(
            f"{' and '.join(files)}: {len(problems)} keys must be changed",
            hint=f"{PAGE} says what becomes of each key",
            details=list(_lines(problems, named=len(files) > 1)),
        )


def _lines(problems: Iterable[Problem], *, named: bool) -> Iterable[str]:
    for problem in problems:
        where = f"{problem.file}: " if named else ""
        yield f"{where}{problem.text}" + (f": {problem.hint}" if problem.hint else "")


def shown(value: Any) -> str:
    """Return a value as a message shows it: at most one short line."""
    text = repr(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
