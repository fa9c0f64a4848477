"""Read a run's options from `[train]` of a dsk.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.toml_text import parse_toml
from datasetkit.dataset import layout
from datasetkit.options import trust
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.declare import by_name
from datasetkit.options.toml import Config
from datasetkit.options.train import TrainOptions
from trainer.tinybase import shipped

_OPTIONS: Final = by_name(TrainOptions)
_MODELS: Final = [name for name, option in _OPTIONS.items() if option.path == "model"]
_PATHS: Final = [n for n, option in _OPTIONS.items() if option.path not in ("", "model")]


def of_project(
    config: Config, overrides: Mapping[str, Any], *, only_read: bool = False
) -> TrainOptions:
    """Return `[train]` of a dsk.toml with overrides; paths in the file are relative to its
    folder. only_read: see Config.build.
    """
    overrides = one_resolution(overrides)
    options = config.build(TrainOptions, "train", overrides, only_read=only_read)
    root = config.root
    if root is None:
        return options
    paths: dict[str, Any] = {
        n: getattr(options, n) for n in _PATHS if overrides.get(n) is None and getattr(options, n)
    }
    for name in _MODELS:
        value = getattr(options, name)
        # A hub id looks like a path; it is a path if it exists. `tiny` is always the shipped base.
        if (
            value
            and value != shipped.NAME
            and overrides.get(name) is None
            and (root / value).exists()
        ):
            paths[name] = value
    absolute: dict[str, Any] = {name: str(root / value) for name, value in paths.items()}
    return replace(options, **absolute)


def one_resolution(overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return overrides in which a `resolution` also replaces the `resolutions` of a file."""
    if overrides.get("resolution") is None or overrides.get("resolutions") is not None:
        return overrides
    return {**overrides, "resolutions": ()}


def outside_notices(config: Config, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line for each path of `[train]` that is written outside of the project."""
    if config.root is None:
        return ()
    table = {k: v for k, v in config.table("train").items() if overrides.get(k) is None}
    return outside_lines(table, config.root)


def outside_lines(table: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """Return a line for each path of a file that is written outside of the folder `root`."""
    paths = trust.outside(TrainOptions, table, root)
    return tuple(
        f"{name} lies outside of {display(root)}: {display(path)}" for name, path in paths.items()
    )


def data_folder(folder: Path, config: Config) -> Path:
    """Return the laid-out dataset of a folder: for a project the output of `dsk layout`, else the
    folder itself.
    """
    if config.root == folder.resolve() and layout.dataset_roots(folder)[0] == folder:
        return Path(config.build(LayoutOptions, "layout", only_read=True).out)
    return folder


def setting(text: str) -> tuple[str, Any]:
    """Parse `--set name=value` (or train.name=value); the value is TOML, a bare word is a
    string.
    """
    key, sign, value = text.partition("=")
    key = key.strip().removeprefix("train.")
    if not sign or not key.isidentifier():
        raise ConfigError(
            f"--set {display(text)}", hint="write --set network_dim=64, or --set output_name=sks"
        )
    value = value.strip()
    try:
        return key, parse_toml(f"value = {value}", source=f"--set {display(text)}")["value"]
    except ConfigError as error:
        if value.startswith(('"', "'", "[", "{")):  # it was meant as TOML
            hint = "" if error.hint.startswith("look for") else error.hint
            raise ConfigError(
                f"--set {display(text)}: the quote or bracket is not closed, or an escape is wrong",
                hint=hint or "close it, or leave the quotes out",
            ) from None
        return key, value
