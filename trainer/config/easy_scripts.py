"""Read a TOML of LoRA_Easy_Training_Scripts as a config.toml and a dataset.toml of sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from datasetkit.options.networks import LYCORIS

# Tables of name = value, which sd-scripts writes as lists of "name=value".
_LISTS: Final = ("network_args", "optimizer_args", "lr_scheduler_args")
# In these, ${replace} stands for easy_name.
_NAMED: Final = ("output_dir", "output_name", "resume", "log_prefix")


def split(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keys of the run, and a dataset.toml; {} where the file has no subsets."""
    run: dict[str, Any] = {}
    general: dict[str, Any] = {}
    subsets = data.get("subsets", [])
    for name, section in data.items():
        if name == "subsets":
            continue
        if not isinstance(section, dict):
            run[name] = section
            continue
        parts = {"args", "dataset_args"}
        run |= {key: value for key, value in section.items() if key not in parts}
        run |= _table(section.get("args"))
        general |= _table(section.get("dataset_args"))
    for name in _LISTS:
        if isinstance(run.get(name), dict):
            run[name] = [f"{key}={value}" for key, value in run[name].items()]
    run.setdefault("network_module", _module(run.get("network_args")))
    _replace_name(run)
    if not subsets:
        return general | run, {}
    if isinstance(subsets, list):
        subsets = [_without_name(row) for row in subsets]
    return run, {"general": general, "datasets": [{"subsets": subsets}]}


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _module(args: Any) -> str:
    """Return the kind of network: only LyCORIS's has an algo, only DyLoRA a unit."""
    names = [str(arg).partition("=")[0] for arg in args] if isinstance(args, list) else []
    if "algo" in names:
        return LYCORIS
    return "networks.dylora" if "unit" in names else "networks.lora"


def _replace_name(run: dict[str, Any]) -> None:
    name = run.get("easy_name")
    for key in _NAMED:
        if isinstance(name, str) and isinstance(run.get(key), str):
            run[key] = run[key].replace("${replace}", name)


def _without_name(subset: Any) -> Any:
    if not isinstance(subset, dict):
        return subset
    return {key: value for key, value in subset.items() if key != "name"}
