"""Turn the keys and values of other trainers' files into options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_origin

from datasetkit.core.files import display
from datasetkit.core.suggest import nearest
from datasetkit.core.toml_text import refuse_control
from datasetkit.options.declare import DeclaredOption, declared
from datasetkit.options.network_args import OF_LYCORIS
from datasetkit.options.networks import LYCORIS
from datasetkit.options.train import TrainOptions
from trainer.config.findings import Findings, shown
from trainer.config.keys import FLOW, TABLE, ZERO_IS_UNSET, Key, KeyMeaning, is_off

FOLDERS: Final = ("train_data_dir", "reg_data_dir", "dataset_config")
_OPTIONS: Final = {d.name: d for d in declared(TrainOptions)}
# The largest rank; one above it makes LoKr's factors full, as the largest does.
LARGEST_DIM: Final = 4096
_UNSET: Final = object()
_NEAR: Final = 0.7  # the least similarity of a key that a hint suggests
# The type of the keys of a dataset.toml that are not options.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "batch_size": (int,), "num_repeats": (int,), "image_dir": (str,), "is_reg": (bool,),
    "class_tokens": (str,), "custom_attributes": (dict,), "conditioning_data_dir": (str,),
}  # fmt: skip
OF_SUBSET: Final = frozenset(d.name for d in declared(TrainOptions) if d.about.level == "subset")
OF_DATASET: Final = frozenset(d.name for d in declared(TrainOptions) if d.about.level == "dataset")
# sd-scripts takes these for each dataset; here they are of the run.
VALIDATION: Final = frozenset(("validation_split", "validation_seed"))
_INHERITED: Final = OF_SUBSET | {"num_repeats", "class_tokens", "custom_attributes"}
# Where a key stands -> the keys that may stand there, besides those of the table.
LEVELS: Final[Mapping[str, frozenset[str]]] = {
    "config.toml": frozenset(_OPTIONS) - FLOW,
    "[general]": _INHERITED | OF_DATASET | VALIDATION | {"batch_size", "conditioning_data_dir"},
    "[[datasets]]": _INHERITED | OF_DATASET | VALIDATION | {"batch_size", "conditioning_data_dir"},
    "[[datasets.subsets]]": _INHERITED | {"image_dir", "is_reg", "conditioning_data_dir"},
}
RUN: Final = "config.toml"


def translated(
    table: Mapping[str, Any],
    file: str,
    findings: Findings,
    keys: Mapping[str, Key],
    level: str = RUN,
) -> dict[str, Any]:
    """Return the options of a table of a file; what is not an option is added to the findings.

    keys: what becomes of the other keys. level: where the table stands, a key of LEVELS.
    """
    options: dict[str, Any] = {}
    for key, value in table.items():
        if key in LEVELS[level]:
            read = _value(key, value, is_run=level == RUN)
            if read is not _UNSET:
                options[key] = read
        elif key in keys:
            _judge(keys[key], value, file, findings)
        elif is_off(value):
            findings.unknown.append(key)
        elif level != RUN and (elsewhere := _elsewhere(key)):
            findings.refuse(file, key, f"{key} does not belong into {level}", elsewhere)
        else:
            many = findings.are_many
            hint = "remove it" if many else _suggestion(key, value, LEVELS[level])
            findings.refuse(file, key, f"unknown key {key!r}", hint)
    return options


def _judge(key: Key, value: Any, file: str, findings: Findings) -> None:
    """Add what a key of the table means with this value."""
    if key.is_off(value):
        return
    if key.meaning is KeyMeaning.NOT_NEEDED:
        findings.ignored[key.name] = key.text
    elif key.meaning is KeyMeaning.ONE_VALUE:
        accepted = " or ".join(map(repr, key.off))
        hint = f"give {accepted}" + (f"; {key.text}" if key.text else "")
        findings.refuse(file, key.name, f"{key.name} = {shown(value)} is not supported", hint)
    else:
        findings.refuse(
            file,
            key.name,
            f"{key.name} = {shown(value)} is not supported",
            f"{key.text}; remove it, or switch it off",
        )


def _elsewhere(key: str) -> str:
    """Say where a key belongs that is at the wrong place in a dataset.toml, "" if nowhere."""
    if key in OF_DATASET | VALIDATION | {"batch_size"}:
        return "put it under [[datasets]] or [general]"
    if key in ("image_dir", "is_reg"):
        return "put it under [[datasets.subsets]]"
    return "it has no effect there: put it into config.toml, or --set it" if key in _OPTIONS else ""


def _suggestion(key: str, value: Any, names: Collection[str]) -> str:
    """Return the hint for an unknown key: a near one of the same type, or what it means
    elsewhere.
    """
    elsewhere = next((row for row in TABLE if row.name == key), None)
    if elsewhere is not None and elsewhere.meaning is KeyMeaning.OPTION:
        return f"did you mean {elsewhere.text!r}?"
    if key in OF_LYCORIS:
        return f'write network_module = "{LYCORIS}" and network_args = ["{key}=..."]'
    if elsewhere is not None and elsewhere.meaning is KeyMeaning.ARGUMENT:
        return f'write it as an argument of the network: network_args = ["{elsewhere.text}=..."]'
    choice = nearest(key, [n for n in names if _takes(n, value)], cutoff=_NEAR)
    return f"did you mean {choice!r}?" if choice else "remove it"


def _takes(name: str, value: Any) -> bool:
    """Tell whether an option could take a value of this type."""
    return isinstance(value, _TYPES.get(name) or _types(name))


def _types(name: str) -> tuple[type, ...]:
    types: list[type] = []
    for kind in _OPTIONS[name].kinds:
        origin = get_origin(kind)
        if origin is tuple:
            types.append(list)
        else:
            types.append(kind if origin is None and not isinstance(kind, UnionType) else str)
    # True is an int for Python, and 1 may be meant as 1.0.
    return tuple(types) + ((int,) if float in types else ())


def _value(key: str, value: Any, *, is_run: bool) -> Any:
    """Convert a value: other trainers write numbers as text, sizes as text, lists with one rate;
    _UNSET where it means that the option is not set.
    """
    if value is None or (key in ZERO_IS_UNSET and _is_zero(value)):
        return _UNSET
    if is_run and isinstance(value, str) and not value.strip():
        return _UNSET
    if key not in _OPTIONS:
        return value
    if key == "resolution":
        return _resolution(value)
    if key == "text_encoder_lr" and isinstance(value, list):
        return _rates(value)
    if key == "max_token_length" and value == 255:
        return 225  # what sd-scripts makes of it
    return _converted(_OPTIONS[key], value)


def converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of options that are known to be such."""
    values = {name: _converted(_OPTIONS[name], value) for name, value in options.items()}
    return {name: value for name, value in values.items() if value is not _UNSET}


def _is_zero(value: Any) -> bool:
    return value in (0, "0") and not isinstance(value, bool)


def _converted(option: DeclaredOption, value: Any) -> Any:
    """Convert a value to the type of an option where nothing is lost."""
    kinds = option.kinds
    if isinstance(value, bool) and not value and bool not in kinds:
        return _UNSET
    if isinstance(value, str) and str not in kinds:
        return _from_text(value.strip(), kinds)
    if isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    if isinstance(value, int) and bool in kinds and value in (0, 1):
        return bool(value)
    return value


def _from_text(text: str, kinds: tuple[Any, ...]) -> Any:
    if bool in kinds:
        return {"true": True, "false": False}.get(text.casefold(), text)
    if int not in kinds and float not in kinds:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and (int in kinds or "." not in text) else number


def _resolution(value: Any) -> Any:
    """Read `512`, `"512"`, `"512,768"` or `[512, 768]`; anything else is left as it is."""
    if isinstance(value, str):
        sides = [side.strip() for side in value.split(",")]
        value = [int(side) for side in sides] if all(map(str.isdecimal, sides)) else value
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _rates(value: list[Any]) -> Any:
    """Return one rate for a list of equal ones."""
    if not value:
        return _UNSET
    value = [_from_text(rate, (float,)) if isinstance(rate, str) else rate for rate in value]
    return value[0] if all(rate == value[0] for rate in value) else value


def resolve(path: str, file: Path | None) -> Path:
    """Resolve a path in a file: relative to the file if it exists there, else to the current
    folder.
    """
    refuse_control(path, where="a path" if file is None else f"{display(file)}: a path")
    beside = file.parent / path if file else Path(path)
    return beside if beside.exists() else Path(path)


def also_here(path: str, file: Path) -> str:
    """Return the notice for a path that exists beside the file and in the current folder, where
    sd-scripts would look; "" for others.
    """
    beside, here = file.parent / path, Path(path)
    if not (beside.exists() and here.exists()) or beside.resolve() == here.resolve():
        return ""
    return (
        f"{display(beside)} is used, beside {display(file)}; sd-scripts would use {display(here)}"
    )
