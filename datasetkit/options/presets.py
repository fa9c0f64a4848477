"""Presets of `[train]`: fragments of a dsk.toml, by family, goal and memory.

`preset = "sdxl-character-tight@1"` names three layers; a later one wins: the defaults, then the
family, the goal, the memory, and last what dsk.toml says itself. The number is the version, so that
a project keeps its values when a later version of dsk ships others; without it the newest counts.
Those of the user are files in the configuration folder; their values are written out into dsk.toml.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import display
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.toml_text import read_toml

SHIPPED: Final = Path(__file__).parents[1] / "data" / "presets"
LAYERS: Final = ("family", "goal", "memory")
NEWEST: Final = 1
# Tables that a preset may have; more than these would do more than set numbers.
TABLES: Final = ("train", "plan-repeats")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A fragment. parts: layer -> its name, such as goal -> character; families: in which it
    counts, () for all.
    """

    layer: str
    name: str
    title: str
    families: tuple[str, ...] = ()
    source: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PresetName:
    """What the name of a shipped preset says. memory: "" for none."""

    family: str
    goal: str = ""
    memory: str = ""
    version: int = NEWEST

    @property
    def text(self) -> str:
        parts = "-".join(filter(None, (self.family, self.goal, self.memory)))
        return f"{parts}@{self.version}"


@cache
def shipped(version: int = NEWEST) -> tuple[Preset, ...]:
    """Return the fragments of a version. Raises ConfigError for one that dsk does not have."""
    folder = SHIPPED / str(version)
    if not folder.is_dir():
        raise ConfigError(
            f"dsk has no presets of version {version}", hint=f"the newest is {NEWEST}"
        )
    return tuple(_fragment(path) for path in sorted(folder.glob("*.toml")))


def _fragment(path: Path) -> Preset:
    data = read_toml(path)
    about = data.pop("preset")
    layer, family = about["layer"], about.get("family", ())
    families = (family,) if isinstance(family, str) else tuple(family)
    return Preset(layer, about[layer] if layer != "family" else families[0], about["name"],
                  families, about.get("source", ""), data)  # fmt: skip


def names(layer: str, version: int = NEWEST) -> dict[str, str]:
    """Return the names of a layer with their titles: family -> sdxl: SDXL, ..."""
    return {each.name: each.title for each in shipped(version) if each.layer == layer}


def parse(text: str) -> PresetName:
    """Read the name of a shipped preset. Raises ConfigError."""
    body, _, number = text.partition("@")
    if number and not (number.isascii() and number.isdecimal() and len(number) < 6):
        raise ConfigError(
            f"preset = {display(text)!r}: the version is not a number", hint="e.g. sdxl-character@1"
        )
    version = int(number) if number else NEWEST
    families, goals, memory = (names(layer, version) for layer in LAYERS)
    for family in families:
        for goal in ("", *goals):
            for kind in ("", *memory):
                if body == "-".join(filter(None, (family, goal, kind))):
                    return PresetName(family, goal, kind, version)
    examples = [f"{family}-{goal}" for family in families for goal in goals]
    raise ConfigError(
        f"preset = {display(text)!r} is not a preset of dsk",
        hint=did_you_mean(body, examples, "e.g. sdxl-character@1", form="'{}'")
        if not is_own(body)
        else f"it is one of your own, which count for one run: --set preset={body}; the studio "
        "writes their values into dsk.toml",
    )


def layers(name: PresetName) -> tuple[Preset, ...]:
    """Return the fragments that a name stands for; a later one wins."""
    wanted = {"family": name.family, "goal": name.goal, "memory": name.memory}
    return tuple(
        each
        for layer in LAYERS
        for each in shipped(name.version)
        if each.layer == layer
        and each.name == wanted[layer]
        and (not each.families or name.family in each.families)
    )


def merged(fragments: Iterable[Preset]) -> dict[str, dict[str, Any]]:
    """Return the tables of fragments; a later one wins."""
    tables: dict[str, dict[str, Any]] = {}
    for each in fragments:
        for table, values in each.tables.items():
            tables.setdefault(table, {}).update(values)
    return tables


def with_preset(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a table [train] with the values of its preset below its own. Raises ConfigError."""
    name = table.get("preset")
    if not isinstance(name, str) or not name:
        return table
    return {**merged(layers(parse(name))).get("train", {}), **table}


# ---- of the user


def with_own(table: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return a table [train] with the values of a preset of the user below its own; None where the
    user has none of this name. Raises ConfigError for one with values that dsk does not have.
    """
    folder = own_folder()
    if folder is None or not is_own(name):
        return None
    preset, warnings = _own(folder / f"{name}.toml")
    if warnings:
        raise ConfigError(
            f"your preset {name}: {warnings[0]}",
            hint=f"correct or delete {display(folder / f'{name}.toml')}",
        )
    return with_preset({**preset.tables.get("train", {}), **table})


def own_folder() -> Path | None:
    """Return the folder of the user's presets, None without a home folder."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        if named and Path(named).is_absolute():
            base = Path(named)
        elif sys.platform == "win32":
            base = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
        elif sys.platform == "darwin":
            base = Path.home() / "Library/Application Support"
        else:
            base = Path.home() / ".config"
    except RuntimeError:  # the user has no home folder
        return None
    return base / "datasetkit" / "presets"


def is_own(text: str) -> bool:
    """Tell whether the user has a preset of a name."""
    folder = own_folder()
    return folder is not None and is_name(text) and (folder / f"{text}.toml").is_file()


def is_name(text: str) -> bool:
    """Tell whether a text can be the name of a preset of the user."""
    return _NAME.fullmatch(text) is not None


def own() -> tuple[tuple[Preset, tuple[str, ...]], ...]:
    """Return the user's presets, each with what is wrong with it, a line each."""
    folder = own_folder()
    paths = sorted(folder.glob("*.toml")) if folder is not None and folder.is_dir() else []
    return tuple(_own(path) for path in paths if is_name(path.stem))


def _own(path: Path) -> tuple[Preset, tuple[str, ...]]:
    try:
        data = read_toml(path)
    except DskError as error:
        return Preset("own", path.stem, path.stem), (error.message,)
    about = data.pop("preset", {})
    about = about if isinstance(about, dict) else {}
    family = about.get("family", ())
    families = (family,) if isinstance(family, str) else tuple(family)
    warnings: list[str] = []
    tables = {name: _known(name, table, warnings) for name, table in data.items()}
    title = str(about.get("name") or path.stem)
    kept = {name: table for name, table in tables.items() if table}
    return Preset("own", path.stem, title, families, "", kept), tuple(warnings)


def _known(name: str, table: object, warnings: list[str]) -> dict[str, Any]:
    """Return the options of a table that dsk knows and that have a valid value."""
    from datasetkit.options import toml  # here: it uses this module
    from datasetkit.options.declare import by_name

    if name not in TABLES or not isinstance(table, dict):
        warnings.append(f"[{display(name)}] is not a table of a preset: {', '.join(TABLES)}")
        return {}
    cls = toml.options_class(name)
    options = by_name(cls)
    unknown = [key for key in table if key not in options]
    wrong = toml.wrong_values(cls, {k: v for k, v in table.items() if k in options})
    warnings += [f"{display(key)} is not an option of [{name}]" for key in unknown]
    warnings += [message for message, _ in wrong.values()]
    return {
        key: value
        for key, value in table.items()
        if key in options and key not in wrong and not options[key].path
    }
