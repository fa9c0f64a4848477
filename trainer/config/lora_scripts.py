"""Read a TOML of lora-scripts as a config.toml of sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from datasetkit.options.networks import LYCORIS
from trainer.config.keys import is_off

# A switch -> the keys that count only where it is on.
_SWITCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "enable_block_weights": (
        "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold",
    ),
    "enable_base_weight": ("base_weights", "base_weights_multiplier"),
    "enable_preview": (
        "sample_prompts", "prompt_file", "positive_prompts", "negative_prompts", "sample_width",
        "sample_height", "sample_cfg", "sample_seed", "sample_steps", "sample_every_n_epochs",
        "sample_every_n_steps", "randomly_choice_prompt",
    ),
}  # fmt: skip
_ARGUMENTS: Final[Mapping[str, str]] = {
    "lycoris_algo": "algo", "conv_dim": "conv_dim", "conv_alpha": "conv_alpha",
    "dropout": "dropout", "train_norm": "train_norm", "lokr_factor": "factor",
    "dylora_unit": "unit", "down_lr_weight": "down_lr_weight", "mid_lr_weight": "mid_lr_weight",
    "up_lr_weight": "up_lr_weight", "block_lr_zero_threshold": "block_lr_zero_threshold",
}  # fmt: skip
_OF_LYCORIS: Final = ("lycoris_algo", "conv_dim", "conv_alpha", "dropout", "train_norm")
_PROMPT_FILES: Final = (".txt", ".toml", ".json")
_PRODIGY: Final[Mapping[str, str]] = {"prodigy_d0": "d0", "prodigy_d_coef": "d_coef"}


def flattened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat file of lora-scripts under the keys of sd-scripts."""
    table = dict(data)
    for switch, keys in _SWITCHES.items():
        if switch in table and is_off(table[switch]):
            for key in keys:
                table.pop(key, None)
    if table.get("network_module") != LYCORIS:
        for key in (*_OF_LYCORIS, "lokr_factor"):
            table.pop(key, None)
    if str(table.get("lycoris_algo", "")) != "lokr":
        table.pop("lokr_factor", None)
    _extend(table, "network_args", _ARGUMENTS)
    _extend(table, "optimizer_args", _PRODIGY)
    prompts = table.get("sample_prompts")
    if isinstance(prompts, str) and not prompts.lower().endswith(_PROMPT_FILES):
        table.pop("sample_prompts")  # the prompts themselves, not the name of a file
    return table


def _extend(table: dict[str, Any], name: str, keys: Mapping[str, str]) -> None:
    """Append to a list of arguments what stands in keys of its own."""
    more = [f"{arg}={table.pop(key)}" for key, arg in keys.items() if _is_given(table, key)]
    custom = table.pop(f"{name}_custom", None)
    args = [*_list(table.get(name)), *more, *_list(custom)]
    if args:
        table[name] = [arg for number, arg in enumerate(args) if arg not in args[:number]]


def _is_given(table: dict[str, Any], key: str) -> bool:
    if is_off(table.get(key)):
        table.pop(key, None)
        return False
    return True


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []
