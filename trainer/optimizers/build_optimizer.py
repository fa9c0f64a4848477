"""Build an optimizer from its name, its arguments and the learning rate of each trained part.

Packages are imported only when a name needs them: bitsandbytes alone takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from datasetkit.core.errors import ConfigError, MissingExtra
from datasetkit.core.install import install_command, package_command
from trainer.optimizers.optimizer_names import OPTIMIZERS as OPTIMIZERS
from trainer.optimizers.optimizer_names import check_rates as check_rates
from trainer.optimizers.optimizer_names import estimates_lr as estimates_lr
from trainer.optimizers.optimizer_names import import_path as import_path
from trainer.optimizers.optimizer_names import literal_args as literal_args

# Arguments that a name implies; `optimizer_args` overrides them. The momentum is sd-scripts'.
# Adafactor would otherwise use its own rate instead of the given ones.
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sgdnesterov": {"momentum": 0.9, "nesterov": True},
    "adafactor": {"relative_step": False, "scale_parameter": False, "warmup_init": False},
}
# Modules that the extra `optimizers` installs.
_EXTRA: Final = frozenset(
    {"bitsandbytes", "lion_pytorch", "prodigyopt", "dadaptation", "schedulefree", "prodigyplus"}
)
_PACKAGES: Final = {
    "lion_pytorch": "lion-pytorch",
    "pytorch_optimizer": "pytorch-optimizer",
    "prodigyplus": "prodigy-plus-schedule-free",
}
# LR schedules that fit an optimizer that averages its steps.
_CONSTANT: Final = frozenset({"constant", "constant_with_warmup"})
# Names in the metadata for classes of this package, so that readers recognise them.
_PUBLISHED: Final[Mapping[str, str]] = {"trainer.optimizers.prodigy:Prodigy": "prodigyopt:Prodigy"}


def parameter_groups(
    parameters: Mapping[str, Iterable[Parameter]], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups, each with `name` and `lr`; a part without parameters
    or with a rate of 0 has none.

    parameters: part -> trained parameters; rates: part -> learning rate.
    """
    lists = {name: list(values) for name, values in parameters.items()}
    groups: list[dict[str, Any]] = [
        {"name": name, "params": values, "lr": rates[name]}
        for name, values in lists.items()
        if values and rates[name] > 0
    ]
    if not groups:
        hint = "set unet_lr or text_encoder_lr above 0, and train a network for that part"
        raise ConfigError("nothing would be trained", hint=hint)
    return groups


def build(
    optimizer_type: str, param_groups: Sequence[dict[str, Any]], arguments: Mapping[str, Any]
) -> Optimizer:
    """Return the optimizer over `parameter_groups(...)`. arguments: from `literal_args`."""
    check_rates(optimizer_type, {f"{group['name']}_lr": group["lr"] for group in param_groups})
    if "lr" in arguments:
        raise ConfigError("optimizer_args has lr", hint="set unet_lr and text_encoder_lr instead")
    optimizer_class = _load(optimizer_type)
    all_arguments = {
        **_ARGUMENTS.get(optimizer_type.casefold(), {}),
        **_fused(optimizer_class, param_groups, arguments),
        **arguments,
    }
    try:
        with redirect_stdout(sys.stderr):  # some print remarks
            optimizer = optimizer_class(
                list(param_groups), lr=param_groups[0]["lr"], **all_arguments
            )
    except Exception as error:  # of any class
        passed = " ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"{optimizer_type} does not accept {passed or 'the parameter groups'}: {error}",
            hint=accepted("optimizer_args", optimizer_class, ("params", "lr")),
        ) from error
    assert isinstance(optimizer, Optimizer)
    if keeps_average(optimizer):
        optimizer.train()  # type: ignore[attr-defined]  # some start in eval mode
    return optimizer


def _fused(
    optimizer_class: Any, groups: Sequence[dict[str, Any]], arguments: Mapping[str, Any]
) -> dict[str, bool]:
    """Return the argument for AdamW's update in one kernel, which is faster on an NVIDIA or AMD GPU
    than a kernel for each operation, and rounds differently.
    """
    if optimizer_class is not torch.optim.AdamW or not _on_cuda(groups):
        return {}
    excluded = {"foreach", "differentiable"} & {name for name, value in arguments.items() if value}
    return {} if excluded else {"fused": True}


def _on_cuda(groups: Sequence[dict[str, Any]]) -> bool:
    return all(parameter.is_cuda for group in groups for parameter in group["params"])


def accepted(option: str, made: type[Any], apart: Sequence[str]) -> str:
    """Return which arguments a class takes, as a hint; "" where it does not say. apart: arguments
    that are not given by the option.
    """
    try:
        parameters = signature(made).parameters.values()
    except (TypeError, ValueError):
        return ""
    names = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [name for name in names if name not in apart]
    return f"{option} takes {', '.join(names)}" if names else f"{option} takes nothing"


def keeps_average(optimizer: Optimizer) -> bool:
    """Tell whether the useful weights are an average, which the parameters hold only after
    `eval()`.

    This is true of the schedule-free optimizers (Defazio et al. 2024, arXiv:2405.15682).
    """
    return any(
        "train_mode" in group and group.get("use_schedulefree", True)
        for group in optimizer.param_groups
    )


@contextmanager
def eval_mode(optimizer: Optimizer) -> Iterator[None]:
    """Switch to the weights to save, preview and validate; restore the others exactly afterwards.

    The optimizers' own `train()` restores them only up to rounding, and a run must not depend on
    how often it was validated.
    """
    if not keeps_average(optimizer) or not any(
        group["train_mode"] for group in optimizer.param_groups
    ):
        yield
        return
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [weight.detach().clone() for weight in weights]
    optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


def check_schedule(optimizer: Optimizer, optimizer_type: str, schedule: str) -> None:
    """Raise ConfigError for an LR schedule that does not fit the optimizer."""
    if keeps_average(optimizer) and schedule not in _CONSTANT:
        hint = "set lr_scheduler = 'constant', or 'constant_with_warmup' with lr_warmup_steps"
        raise ConfigError(
            f"{optimizer_type} needs a constant LR schedule, not {schedule!r}", hint=hint
        )


def needs_nonzero_lr(optimizer_type: str) -> bool:
    """Tell whether the optimizer fails in a step with a learning rate of 0."""
    return import_path(optimizer_type).endswith(":DAdaptSGD")


def describe(optimizer_type: str, pairs: Sequence[str]) -> str:
    """Return an optimizer's class and arguments for the metadata."""
    path = import_path(optimizer_type)
    arguments = ",".join(f"{key}={value!r}" for key, value in literal_args(pairs).items())
    return f"{_PUBLISHED.get(path, path).replace(':', '.')}({arguments})"


def effective_lr(group: Mapping[str, Any]) -> float:
    """Return a group's effective learning rate: lr times the `d` estimated by D-Adaptation or
    Prodigy.
    """
    shared = group.get("shared_d")  # ProdigyPlusScheduleFree with split_groups_mean
    d = group.get("d", 1.0) if shared is None else shared
    return float(group["lr"]) * (float(d.item()) if isinstance(d, Tensor) else float(d))


def _load(optimizer_type: str) -> type[Any]:
    """Import an optimizer class."""
    module, _, name = import_path(optimizer_type).partition(":")
    try:
        optimizer_class = getattr(import_module(module), name, None)
    except ImportError as error:
        root = (error.name or module).partition(".")[0]
        extra = f"{install_command('optimizers')}, or " if root in _EXTRA else ""
        raise MissingExtra(
            f"{optimizer_type}: {error}",
            hint=f"{extra}{package_command(_PACKAGES.get(root, root))}",
        ) from error
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise ConfigError(
            f"optimizer_type = {optimizer_type!r}: {module} has no optimizer {name}",
            hint="give a name such as AdamW, or the import path of a class of optimizer",
        )
    return optimizer_class
