"""Optimizers: each imported by its name and made with its arguments and the learning rate of each
trained part.

Nothing but torch is imported before a name asks for it: bitsandbytes alone takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from datasetkit.core.errors import ConfigError, MissingExtra
from trainer.optimizers.optimizer_names import OPTIMIZERS as OPTIMIZERS
from trainer.optimizers.optimizer_names import check_rates as check_rates
from trainer.optimizers.optimizer_names import finds_its_rate as finds_its_rate
from trainer.optimizers.optimizer_names import import_path as import_path
from trainer.optimizers.optimizer_names import literal_args as literal_args

# What a name of ours stands for beside its class; `optimizer_args` stands above it. sd-scripts has
# the same momentum. Adafactor's own rate would stand in the place of those that are given.
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sgdnesterov": {"momentum": 0.9, "nesterov": True},
    "adafactor": {"relative_step": False, "scale_parameter": False, "warmup_init": False},
}
# What the extra `optimizers` brings.
_EXTRA: Final = frozenset(
    {"bitsandbytes", "lion_pytorch", "prodigyopt", "dadaptation", "schedulefree", "prodigyplus"}
)
_PACKAGES: Final = {
    "lion_pytorch": "lion-pytorch",
    "pytorch_optimizer": "pytorch-optimizer",
    "prodigyplus": "prodigy-plus-schedule-free",
}
# Schedules that leave an averaging optimizer its own course.
_STEADY: Final = frozenset({"constant", "constant_with_warmup"})
# What metadata calls a class of ours, so that readers know it.
_PUBLISHED: Final[Mapping[str, str]] = {"trainer.optimizers.prodigy:Prodigy": "prodigyopt:Prodigy"}


def groups(
    parameters: Mapping[str, Iterable[Parameter]], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the optimizer's groups, each with its `name` and `lr`; a part without parameters or
    rate has none.

    parameters: part -> what is trained of it, rates: part -> learning rate.
    """
    lists = {name: list(own) for name, own in parameters.items()}
    made: list[dict[str, Any]] = [
        {"name": name, "params": own, "lr": rates[name]}
        for name, own in lists.items()
        if own and rates[name] > 0
    ]
    if not made:
        hint = "give unet_lr or text_encoder_lr above 0, and a network for that part"
        raise ConfigError("nothing would be trained", hint=hint)
    return made


def make(
    optimizer_type: str, param_groups: Sequence[dict[str, Any]], arguments: Mapping[str, Any]
) -> Optimizer:
    """Return the optimizer over `groups(...)`. arguments: of its class, as `literal_args` reads
    them.
    """
    check_rates(optimizer_type, {f"{group['name']}_lr": group["lr"] for group in param_groups})
    if "lr" in arguments:
        raise ConfigError(
            "optimizer_args: lr", hint="learning rates are unet_lr and text_encoder_lr"
        )
    made_by = _load(optimizer_type)
    given = {**_ARGUMENTS.get(optimizer_type.casefold(), {}), **arguments}
    try:
        with redirect_stdout(sys.stderr):  # some print what they do
            made = made_by(list(param_groups), lr=param_groups[0]["lr"], **given)
    except (TypeError, ValueError) as error:
        said = " ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"{optimizer_type} does not take {said or 'its groups'}: {error}"
        ) from error
    assert isinstance(made, Optimizer)
    if averages(made):
        made.train()  # type: ignore[attr-defined]  # not all begin so
    return made


def averages(optimizer: Optimizer) -> bool:
    """Tell whether what is of use is an average of the steps, which the weights hold only after
    `eval()`.

    So it is with the schedule-free ones (Defazio et al. 2024, arXiv:2405.15682).
    """
    return any(
        "train_mode" in group and group.get("use_schedulefree", True)
        for group in optimizer.param_groups
    )


@contextmanager
def in_use(optimizer: Optimizer) -> Iterator[None]:
    """Let the weights be those that are saved, drawn with and measured; afterwards they are bit by
    bit as before.

    The way back that the optimizers have is a rounding away: a run must not depend on how often it
    was looked at.
    """
    if not averages(optimizer) or not any(group["train_mode"] for group in optimizer.param_groups):
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
            for weight, was in zip(weights, before, strict=True):
                weight.copy_(was)


def check_schedule(optimizer: Optimizer, optimizer_type: str, schedule: str) -> None:
    """Raise ConfigError for a course of the learning rate that an optimizer cannot go."""
    if averages(optimizer) and schedule not in _STEADY:
        hint = "set lr_scheduler = 'constant', or 'constant_with_warmup' with lr_warmup_steps"
        raise ConfigError(
            f"{optimizer_type} needs no schedule, and lr_scheduler = {schedule!r} is one", hint=hint
        )


def needs_a_rate(optimizer_type: str) -> bool:
    """Tell whether the optimizer fails in a step whose rate is 0."""
    return import_path(optimizer_type).endswith(":DAdaptSGD")


def described(optimizer_type: str, pairs: Sequence[str]) -> str:
    """Return the class of an optimizer and its arguments, as metadata tells them."""
    path = import_path(optimizer_type)
    spelled = ",".join(f"{key}={value!r}" for key, value in literal_args(pairs).items())
    return f"{_PUBLISHED.get(path, path).replace(':', '.')}({spelled})"


def step_size(group: Mapping[str, Any]) -> float:
    """Return the rate at which a group really moves: lr, times the `d` that D-Adaptation and
    Prodigy found.
    """
    shared = group.get("shared_d")  # of ProdigyPlusScheduleFree with split_groups_mean
    found = group.get("d", 1.0) if shared is None else shared
    return float(group["lr"]) * (float(found.item()) if isinstance(found, Tensor) else float(found))


def _load(optimizer_type: str) -> type[Any]:
    """Import the class of an optimizer."""
    module, _, name = import_path(optimizer_type).partition(":")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        root = (error.name or module).partition(".")[0]
        extra = 'pip install "datasetkit[optimizers]", or ' if root in _EXTRA else ""
        raise MissingExtra(
            f"{optimizer_type}: {error}", hint=f"{extra}pip install {_PACKAGES.get(root, root)}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise ConfigError(f"optimizer_type = {optimizer_type!r}: {module} has no optimizer {name}")
    return found
