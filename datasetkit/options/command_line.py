"""Options as they are typed: the other way of what the command line reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tomli_w

from datasetkit.options.declare import declared
from datasetkit.options.toml import options_class


def typed(table: str, values: Mapping[str, Any]) -> list[str]:
    """Return the words that set options of a table of dsk.toml on the command line."""
    if table == "train":
        return [word for name, value in values.items() for word in ("--set", setting(name, value))]
    words: list[str] = []
    for d in declared(options_class(table)):
        if d.name not in values:
            continue
        value = values[d.name]
        if isinstance(value, bool):
            words.append(d.switch if value else d.off_switch)
        elif not isinstance(value, list | tuple):
            words += [d.switch, _word(value)]
        elif d.kinds == (tuple[int, int],):
            words += [d.switch, "x".join(map(str, value))]
        elif d.about.repeat:
            words += [word for part in value for word in (d.switch, _word(part))]
        else:
            words += [d.switch, ",".join(map(_word, value))]
    return words


def setting(name: str, value: Any) -> str:
    """Return `name=value` for --set, with the value as in TOML."""
    if isinstance(value, list | tuple):
        return f"{name}=[{', '.join(_toml(part) for part in value)}]"
    return f"{name}={_toml(value)}"


def _toml(value: Any) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
