"""Decide what options of a translated file mean together, as the program that wrote it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.network_args import read as read_network
from datasetkit.options.networks import LYCORIS, MODULES
from datasetkit.options.toml import wrong_values
from datasetkit.options.train import TrainOptions
from trainer.config.findings import Findings
from trainer.config.keys import IDLE_UNLESS, Key, KeyMeaning, is_off
from trainer.config.values import LARGEST_DIM

# Of the two kinds of noise that the GUI of kohya_ss offers, the options of each.
_NOISE: Final[Mapping[str, tuple[str, ...]]] = {
    "Original": ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"),
    "Multires": ("multires_noise_iterations", "multires_noise_discount"),
}
_OLD_SWITCHES: Final = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
# Networks that sd-scripts has and that are none of those here, however near their names are.
_OTHER_NETWORKS: Final = ("networks.dylora", "networks.lora_fa", "networks.oft")
_EVERY: Final = ("sample_every_n_epochs", "sample_every_n_steps", "sample_at_first")
_RANK: Final = re.compile(r"(conv_dim\s*=\s*)(\d+)")


def renamed(table: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the keys of a run under the names of the options; where two keys say the same, the
    option's own name counts.
    """
    options: dict[str, Any] = {}
    for name, value in table.items():
        key = keys.get(name)
        if key is not None and key.meaning is KeyMeaning.OPTION and name not in _OLD_SWITCHES:
            options.setdefault(key.text, value)
        else:
            options[name] = value
    for switch, optimizer in _OLD_SWITCHES.items():
        if options.pop(switch, False) is True and not options.get("optimizer_type"):
            options["optimizer_type"] = optimizer
    kind = table.get("noise_offset_type")
    if isinstance(kind, str) and kind in _NOISE:
        others = [name for other, names in _NOISE.items() if other != kind for name in names]
        options = {name: value for name, value in options.items() if name not in others}
    return options


def settle(
    options: dict[str, Any], overrides: Mapping[str, Any], file: str, findings: Findings
) -> dict[str, Any]:
    """Leave out the options that have no effect in the program that wrote the file, and add what is
    wrong with the others to the findings. overrides: of the command line.
    """
    options = dict(options)
    merged = {**options, **overrides}
    for name, (other, values) in IDLE_UNLESS.items():
        is_idle = merged.get(other) not in values if values else is_off(merged.get(other))
        if options.get(name) == 0 and is_idle:
            del options[name]
    if options.get("lr_scheduler_type"):
        options.pop("lr_scheduler", None)
    _settle_previews(options, overrides, findings)
    _settle_rank(options)
    wrong = wrong_values(TrainOptions, options)
    for name, (text, hint) in wrong.items():
        if name == "network_module" and options[name] in _OTHER_NETWORKS:
            text = f"network_module = {options[name]!r} is not supported"
            hint = f"choose {', '.join(MODULES)} or {LYCORIS}"
        findings.refuse(file, name, text, hint)
    if not {"network_module", "network_args"} & {*wrong, *overrides}:
        _check_network(options, file, findings)
    return options


def _settle_previews(
    options: dict[str, Any], overrides: Mapping[str, Any], findings: Findings
) -> None:
    """Leave out prompts that no preview image is asked for, and previews without prompts."""
    merged = {**options, **overrides}
    if not any(merged.get(name) for name in _EVERY):
        options.pop("sample_prompts", None)
    elif not merged.get("sample_prompts"):
        asked = [name for name in _EVERY if options.pop(name, None)]
        if asked:
            findings.notices.append(
                f"no preview images: {asked[0]} is set, and sample_prompts names no file of prompts"
            )


def _settle_rank(options: dict[str, Any]) -> None:
    """Lower the rank that people write to make LoKr's factors full: they are full either way."""
    args = options.get("network_args", [])
    texts = [arg for arg in args if isinstance(arg, str)] if isinstance(args, list) else []
    if options.get("network_module") != "networks.lokr" and "algo=lokr" not in texts:
        return
    dim = options.get("network_dim")
    if isinstance(dim, int) and dim > LARGEST_DIM:
        options["network_dim"] = LARGEST_DIM

    def lower(match: re.Match[str]) -> str:
        return match[1] + str(min(int(match[2]), LARGEST_DIM))

    if len(texts) == len(args):
        options["network_args"] = [_RANK.sub(lower, arg) for arg in texts]


def _check_network(options: Mapping[str, Any], file: str, findings: Findings) -> None:
    """Add what is wrong with each argument of the network."""
    module = options.get("network_module", "networks.lora")
    args = list(options.get("network_args", ()))
    dim, alpha = options.get("network_dim", 4), options.get("network_alpha", 1.0)
    if not isinstance(dim, int) or not isinstance(alpha, int | float):
        return

    def problem(some: list[str]) -> ConfigError | None:
        try:
            read_network(module, some, dim=dim, alpha=alpha)
        except ConfigError as error:
            return error
        return None

    whole = problem(args)
    if whole is None:
        return
    method = [arg for arg in args if arg.startswith("algo=")]
    each = [problem([*method, arg]) for arg in args if arg not in method]
    errors = [error for error in (problem(method), *each) if error is not None]
    for error in errors or [whole]:
        findings.refuse(file, "network_args", error.message, error.hint)
