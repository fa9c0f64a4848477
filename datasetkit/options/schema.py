"""The JSON schema of dsk.toml, made from the declarations; editors read it by the `#:schema` line.

It keeps to draft 4, the one that Taplo (Even Better TOML) knows.
"""

from __future__ import annotations

from dataclasses import MISSING
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from datasetkit.options.declare import DeclaredOption, declared
from datasetkit.options.run import ConceptOptions
from datasetkit.options.toml import TABLES, options_class

SHIPPED: Final = Path(__file__).parents[1] / "data" / "dsk.schema.json"
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema() -> dict[str, Any]:
    """Return the schema of a whole dsk.toml."""
    tables: dict[str, Any] = {name: _table(options_class(name)) for name in TABLES}
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "dsk.toml",
        "description": "What a project of datasetkit is: its concepts and the options of commands.",
        "type": "object",
        "additionalProperties": False,
        "properties": {**tables, "concept": {"type": "array", "items": _table(ConceptOptions)}},
    }


def _table(options_class: type) -> dict[str, Any]:
    options = [d for d in declared(options_class) if d.about.counts_from != "command line"]
    table: dict[str, Any] = {
        "type": "object",
        "description": (options_class.__doc__ or "").partition("\n\n")[0].replace("\n    ", " "),
        "additionalProperties": False,
        "properties": {d.name: _option(d) for d in options},
    }
    required = [d.name for d in options if d.default is MISSING]
    return table | ({"required": required} if required else {})


def _option(d: DeclaredOption) -> dict[str, Any]:
    about = d.about
    text = about.help + (f" When to change it: {about.change}." if about.change else "")
    kinds = [_kind(d, kind) for kind in d.kinds]
    described: dict[str, Any] = {"description": text}
    if d.default is not MISSING and d.default is not None:
        described["default"] = list(d.default) if isinstance(d.default, tuple) else d.default
    return described | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _kind(d: DeclaredOption, kind: Any) -> dict[str, Any]:
    """Return the schema of one of the types that a value may have."""
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(arguments)}
    if arguments:
        several: dict[str, Any] = {"type": "array", "items": _kind(d, arguments[0])}
        fixed = arguments[-1] is not Ellipsis
        return several | ({"minItems": 2, "maxItems": 2} if fixed else {})
    plain: dict[str, Any] = {"type": _TYPES[kind]}
    if kind in (int, float) and d.about.range is not None:
        plain |= dict(zip(("minimum", "maximum"), d.about.range, strict=True))
    # Those of a Literal type are checked where it stands.
    words = [word for word in d.about.choices if type(word) is kind]
    return plain | ({"enum": words} if words else {})
