"""Optimizer names and arguments, as the options give them; needs no torch, so a plan can use it."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.suggest import did_you_mean

# sd-scripts' names. Any other class is given by its import path, such as `torch.optim.RAdam`.
OPTIMIZERS: Final[dict[str, str]] = {
    "AdamW": "torch.optim:AdamW",
    "AdamW8bit": "bitsandbytes.optim:AdamW8bit",
    "PagedAdamW": "bitsandbytes.optim:PagedAdamW",
    "PagedAdamW8bit": "bitsandbytes.optim:PagedAdamW8bit",
    "PagedAdamW32bit": "bitsandbytes.optim:PagedAdamW32bit",
    "Lion": "lion_pytorch:Lion",
    "Lion8bit": "bitsandbytes.optim:Lion8bit",
    "PagedLion8bit": "bitsandbytes.optim:PagedLion8bit",
    "SGDNesterov": "torch.optim:SGD",
    "Adafactor": "transformers.optimization:Adafactor",
    # prodigyopt's, without a GPU synchronisation for each parameter.
    "Prodigy": "trainer.optimizers.prodigy:Prodigy",
    # The name in tutorials, with sd-scripts' former meaning.
    "DAdaptation": "dadaptation:DAdaptAdam",
    "DAdaptAdam": "dadaptation:DAdaptAdam",
    "DAdaptAdaGrad": "dadaptation:DAdaptAdaGrad",
    "DAdaptAdan": "dadaptation:DAdaptAdan",
    "DAdaptAdanIP": "dadaptation.experimental:DAdaptAdanIP",
    "DAdaptLion": "dadaptation:DAdaptLion",
    "DAdaptSGD": "dadaptation:DAdaptSGD",
    "AdamWScheduleFree": "schedulefree:AdamWScheduleFree",
    "RAdamScheduleFree": "schedulefree:RAdamScheduleFree",
    "SGDScheduleFree": "schedulefree:SGDScheduleFree",
    "ProdigyPlusScheduleFree": "prodigyplus:ProdigyPlusScheduleFree",
}


def import_path(optimizer_type: str) -> str:
    """Return `package.module:Class` for a name of `OPTIMIZERS` in any case, or for an
    import path.
    """
    paths = {name.casefold(): path for name, path in OPTIMIZERS.items()}
    if path := paths.get(optimizer_type.casefold()):
        return path
    module, _, name = optimizer_type.replace(":", ".").rpartition(".")
    if module and name:
        return f"{module}:{name}"
    otherwise = f"choose {', '.join(OPTIMIZERS)}, or an import path such as torch.optim.RAdam"
    hint = did_you_mean(optimizer_type, OPTIMIZERS, otherwise, form="'{}'")
    raise ConfigError(f"optimizer_type = {optimizer_type!r} is not known", hint=hint)


def is_plain_torch(optimizer_type: str) -> bool:
    """Tell whether the optimizer is one of the names above that torch itself has."""
    names = {name.casefold() for name in OPTIMIZERS}
    return optimizer_type.casefold() in names and import_path(optimizer_type).startswith(
        "torch.optim:"
    )


def estimates_lr(optimizer_type: str) -> bool:
    """Tell whether the optimizer estimates the learning rate; the given rates are then factors,
    usually 1.
    """
    name = import_path(optimizer_type).partition(":")[2]
    return name.startswith(("DAdapt", "Prodigy"))


def check_rates(optimizer_type: str, rates: Mapping[str, float]) -> None:
    """Raise ConfigError if the optimizer cannot use different rates. rates: option name -> learning
    rate.

    D-Adaptation and Prodigy estimate one learning rate for all groups and fail in their first step
    if two groups differ; a rate of 0 (the part is not trained) is allowed beside any other.
    """
    name = import_path(optimizer_type).partition(":")[2]
    if not (name.startswith("DAdapt") or name == "Prodigy"):
        return
    trained = {key: rate for key, rate in rates.items() if rate}
    if len(set(trained.values())) > 1:
        given = ", ".join(f"{key} = {rate:g}" for key, rate in trained.items())
        hint = "give all parts the same rate (usually 1), or 0 to a part that should not be trained"
        raise ConfigError(
            f"{optimizer_type} estimates one learning rate for all parts, but {given}", hint=hint
        )


def literal_args(pairs: Sequence[str], option: str = "optimizer_args") -> dict[str, Any]:
    """Read `key=value` pairs whose values are Python literals: `weight_decay=0.01`,
    `betas=0.9,0.99`, `decouple=True`.

    A bare word is an error, not a string: with `decouple=false` as the string "false", decouple
    would be true.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not sign or not key.isidentifier() or key in arguments:
            raise ConfigError(f"{option}: {pair!r}", hint="give each argument once, as key=value")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            hint = (
                "a value is a number, True, False, None, numbers separated by commas, or a quoted "
                "string"
            )
            raise ConfigError(f"{option}: {pair!r} cannot be read", hint=hint) from error
        if not _is_finite(arguments[key]):
            raise ConfigError(
                f"{option}: {pair!r} is not a finite number", hint="give a smaller number"
            )
    return arguments


def _is_finite(value: object) -> bool:
    """Tell whether no number of a literal is infinite: 1e400 is."""
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
