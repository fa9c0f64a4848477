"""Turn the keys and values of sd-scripts' files into options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.toml_text import refuse_control
from datasetkit.options.train import TrainOptions
from trainer.config.keys import FIXED, IGNORED, OFF, UNSUPPORTED

FOLDERS: Final = ("train_data_dir", "reg_data_dir", "dataset_config")


def translated(
    table: Mapping[str, Any], where: str, ignored: dict[str, str], also: Sequence[str]
) -> dict[str, Any]:
    """Return a table's options; collect ignored keys, and raise for unknown or unsupported ones."""
    names = {f.name for f in fields(TrainOptions)}
    options: dict[str, Any] = {}
    for key, value in table.items():
        if key in FIXED and value in FIXED[key]:
            continue
        if key in FIXED and key not in UNSUPPORTED:
            hint = "give " + " or ".join(repr(v) for v in FIXED[key])
            raise ConfigError(f"{where}: {key} = {value!r} is not supported", hint=hint)
        if key in IGNORED:
            ignored[key] = IGNORED[key]
        elif key in UNSUPPORTED:
            if value not in OFF:
                raise ConfigError(
                    f"{where}: {key} = {value!r} is not supported",
                    hint=f"{UNSUPPORTED[key]}; remove it, or switch it off",
                )
        elif key in names or key in also:
            options[key] = _value(key, value)
        else:
            keys = [*names, *IGNORED, *UNSUPPORTED, *FIXED, *also, *FOLDERS]
            hint = did_you_mean(key, keys, "remove it", form="'{}'")
            raise ConfigError(f"{where}: unknown key {key!r}", hint=hint)
    return options


def _value(key: str, value: Any) -> Any:
    """Convert a value: sd-scripts writes sizes as text and accepts lists with one rate."""
    if key == "resolution":
        if isinstance(value, str):
            try:
                value = [int(side) for side in value.split(",")]
            except ValueError:
                raise ConfigError(
                    f"resolution = {value!r}", hint="write 512 or '512,768'"
                ) from None
        if isinstance(value, list) and len(value) == 1:
            return value[0]
    if key == "text_encoder_lr" and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def resolve(path: str, file: Path | None) -> Path:
    """Resolve a path in a file: relative to the file if it exists there, else to the current
    folder.
    """
    refuse_control(path, where="a path" if file is None else f"{display(file.name)}: a path")
    beside = file.parent / path if file else Path(path)
    return beside if beside.exists() else Path(path)
