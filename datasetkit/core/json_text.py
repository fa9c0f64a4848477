"""Read JSON that other programs wrote."""

from __future__ import annotations

import json
from typing import Any

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.toml_text import unusual


def parse_json(text: str, *, source: str) -> Any:
    """Parse JSON; a key that is given twice is an error. source: what errors call the file.

    Raises ConfigError.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for key, value in pairs:
            if key in names:
                raise ConfigError(
                    f"{source}: {display(key)} is given twice", hint="keep one of them"
                )
            names[key] = value
        return names

    if not text.strip():
        raise ConfigError(f"{source} is empty", hint="save it again in the program that writes it")
    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{source} is not valid JSON: {error.msg} (at line {error.lineno}, column "
            f"{error.colno})",
            hint=_hint(text[error.pos :].lstrip()),
        ) from None
    except (RecursionError, ValueError) as error:
        raise unusual(source, error) from None


def _hint(rest: str) -> str:
    """Return the next step for a text that cannot be parsed from `rest` on."""
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments: remove the one there"
    if rest.startswith("'"):
        return "write double quotes"
    return "look for a missing comma, quote or bracket there"
