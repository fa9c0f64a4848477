"""Presets for the page: those that dsk ships, and the user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import ConfigError, InputError, PlanConflict
from datasetkit.core.files import display, write_atomic, writing
from datasetkit.options import presets, toml
from datasetkit.options.declare import by_name
from datasetkit.options.presets import Preset
from datasetkit.verbs.studio.errors import NotFound

Json = dict[str, Any]


def listed() -> Json:
    """Return the layers of the shipped presets, and the user's own."""
    own = [
        {**_view(preset), "goal": None, "warnings": list(warnings)}
        for preset, warnings in presets.own()
    ]
    keys = {"family": "families", "goal": "goals", "memory": "memory"}
    shipped = {
        key: [{"name": name, "title": title} for name, title in presets.names(layer).items()]
        for layer, key in keys.items()
    }
    return {"version": presets.NEWEST, **shipped, "own": own}


def _view(preset: Preset) -> Json:
    return {
        "name": preset.name,
        "title": preset.title,
        "layer": preset.layer,
        "families": list(preset.families),
        "source": preset.source,
        "tables": {name: dict(values) for name, values in preset.tables.items()},
    }


def one(name: str) -> Json:
    """Return a preset: shipped, by the name of its parts, or the user's own. Raises NotFound."""
    for preset, warnings in presets.own():
        if preset.name == name:
            return {**_view(preset), "version": None, "layers": [], "warnings": list(warnings)}
    try:
        parsed = presets.parse(name)
    except ConfigError as error:
        raise NotFound(error.message, hint=error.hint) from None
    layers = presets.layers(parsed)
    return {
        "name": parsed.text,
        "title": " · ".join(dict.fromkeys(each.title for each in layers)),
        "version": parsed.version,
        "layers": [_view(each) for each in layers],
        "tables": presets.merged(layers),
        "warnings": [],
    }


def save(name: str, title: str, tables: Mapping[str, Any], *, replace: bool) -> Json:
    """Write a preset of the user. Raises PlanConflict if there is one of that name, unless
    `replace`; InputError for a wrong name or value.
    """
    path = _path(name)
    data: Json = {"preset": {"name": title or name}}
    for table, values in tables.items():
        if table not in presets.TABLES or not isinstance(values, dict):
            raise InputError(
                f"a preset has no table [{display(table)}]", hint=", ".join(presets.TABLES)
            )
        cls = toml.options_class(table)
        toml.build(cls, values, {}, where=f"[{table}]")
        options = by_name(cls)
        data[table] = {key: value for key, value in values.items() if not options[key].path}
    if path.exists() and not replace:
        raise PlanConflict(
            f"there is a preset {display(name)} already", hint="replace it, or take another name"
        )
    with writing(path):
        make_folders(path.parent, mode=0o700)
        write_atomic(path, tomli_w.dumps(data).encode())
    return one(name)


def remove(name: str) -> Json:
    """Delete a preset of the user. Raises NotFound."""
    path = _path(name)
    if not path.is_file():
        raise NotFound(f"you have no preset {display(name)}")
    with writing(path):
        path.unlink()
    return listed()


def _path(name: str) -> Path:
    folder = presets.own_folder()
    if folder is None:
        raise InputError("there is no home folder", hint="set XDG_CONFIG_HOME to a folder")
    if not presets.is_name(name):
        raise InputError(
            f"{display(name)} cannot be the name of a preset",
            hint="small letters, digits, - and _, at most 64",
        )
    return folder / f"{name}.toml"
