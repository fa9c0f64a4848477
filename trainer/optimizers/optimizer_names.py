"""Names of optimizers and their arguments, as options give them; it needs no torch, so that a plan
can read them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.suggest import did_you_mean

# sd-scripts' names. Any other class is named by its own import path, as `torch.optim.RAdam`.
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
    # prodigyopt's, without a wait for the GPU at each parameter.
    "Prodigy": "trainer.optimizers.prodigy:Prodigy",
    # The tutorials' name, and what sd-scripts once made of it.
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
    known = {name.casefold(): path for name, path in OPTIMIZERS.items()}
    if path := known.get(optimizer_type.casefold()):
        return path
    module, _, name = optimizer_type.replace(":", ".").rpartition(".")
    if module and name:
        return f"{module}:{name}"
    otherwise = (
        f"choose {', '.join(OPTIMIZERS)}, or a class by its import path, such as torch.optim.RAdam"
    )
    hint = did_you_mean(optimizer_type, OPTIMIZERS, otherwise, form="'{}'")
    raise ConfigError(f"optimizer_type = {optimizer_type!r} is not known", hint=hint)


def finds_its_rate(optimizer_type: str) -> bool:
    """Tell whether the optimizer looks for the step size itself; its learning rates are then
    factors, usually 1.
    """
    name = import_path(optimizer_type).partition(":")[2]
    return name.startswith(("DAdapt", "Prodigy"))


def check_rates(optimizer_type: str, rates: Mapping[str, float]) -> None:
    """Raise ConfigError where the optimizer cannot keep these rates apart. rates: option name ->
    learning rate.

    D-Adaptation and Prodigy estimate one step size for all groups and raise in their first step
    when the rates of two groups differ; 0 (the part is not trained) may stand beside any other.
    """
    name = import_path(optimizer_type).partition(":")[2]
    if not (name.startswith("DAdapt") or name == "Prodigy"):
        return
    trained = {key: rate for key, rate in rates.items() if rate}
    if len(set(trained.values())) > 1:
        said = ", ".join(f"{key} = {rate:g}" for key, rate in trained.items())
        hint = (
            "give the same rate to all parts (1 is usual), or 0 to the part that shall not "
            "be trained"
        )
        raise ConfigError(
            f"{optimizer_type} finds one step size for all parts, but {said}", hint=hint
        )


def literal_args(pairs: Sequence[str], option: str = "optimizer_args") -> dict[str, Any]:
    """Read `key=value` pairs whose values are Python literals: `weight_decay=0.01`,
    `betas=0.9,0.99`, `decouple=True`.

    A word that is no literal is an error and no text: `decouple=true` must not become the text
    "true", which is true for "false" as well.
    """
    read: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not sign or not key.isidentifier() or key in read:
            raise ConfigError(f"{option}: {pair!r}", hint="give each argument once, as key=value")
        try:
            read[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            hint = (
                "a value is a number, True, False, None, numbers parted by commas, or a "
                "text in quotes"
            )
            raise ConfigError(f"{option}: {pair!r} cannot be read", hint=hint) from error
    return read
