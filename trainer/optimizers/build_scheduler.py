"""Build a run's LR scheduler from its options, and reject options that do not fit together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from datasetkit.core.errors import ConfigError, MissingExtra
from datasetkit.core.install import package_command
from datasetkit.options.train import TrainOptions
from trainer.optimizers import build_optimizer, schedule_options
from trainer.optimizers.lr_schedules import SCHEDULES, LrSchedule

_LARGEST: Final = 3.4e38  # of float32, in which a step is taken


def build(optimizer: Optimizer, options: TrainOptions, total: int) -> LRScheduler:
    """Return the scheduler for `total` optimizer steps. Raises ConfigError, MissingExtra."""
    name = schedule_options.name(options)
    build_optimizer.check_schedule(optimizer, options.optimizer_type, name)
    if build_optimizer.needs_nonzero_lr(options.optimizer_type) and _has_zero_lr_step(
        options, total
    ):
        raise ConfigError(
            f"{options.optimizer_type} cannot take a step with a learning rate of 0",
            hint="use no warm-up, and a schedule that does not reach 0 before its end",
        )
    return _unchecked(optimizer, options, total)


def _unchecked(optimizer: Optimizer, options: TrainOptions, total: int) -> LRScheduler:
    if not options.lr_scheduler_type:
        return lambda_lr(optimizer, options.lr_scheduler, schedule_options.checked(options, total))
    schedule_options.check_class(options)
    arguments = build_optimizer.literal_args(options.lr_scheduler_args, "lr_scheduler_args")
    return of_class(optimizer, options.lr_scheduler_type, arguments)


def _has_zero_lr_step(options: TrainOptions, total: int) -> bool:
    """Tell whether any step has a learning rate of 0."""
    return 0 in rates(options, total, {"": 1.0})[""]


def rates(options: TrainOptions, total: int, groups: Mapping[str, float]) -> dict[str, list[float]]:
    """Return the learning rate of each group in each optimizer step, by running the scheduler on
    dummy weights.

    groups: name -> rate. Raises ConfigError for a class that ends before the run, such as a
    OneCycleLR of fewer steps.
    """
    probe = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in groups.values()],
        lr=1.0,
        momentum=0.5,
    )
    scheduler = _unchecked(probe, options, total)
    values: dict[str, list[float]] = {name: [] for name in groups}
    for step in range(total):
        for name, group in zip(groups, probe.param_groups, strict=True):
            rate = float(group["lr"])
            if not 0 <= rate <= _LARGEST:
                raise ConfigError(
                    f"{schedule_options.name(options)} gives a learning rate of {rate:g} in step "
                    f"{step + 1} of {total}",
                    hint="set other lr_scheduler_args: a learning rate is a number from 0",
                )
            values[name].append(rate)
        try:
            replay(scheduler, 1)
        except Exception as error:  # of any class
            raise ConfigError(
                f"{schedule_options.name(options)} fails after step {step + 1} of {total}: {error}",
                hint=f"set lr_scheduler_args for the run's {total} steps",
            ) from error
    return values


def lambda_lr(optimizer: Optimizer, name: str, schedule: LrSchedule) -> LambdaLR:
    """Return a scheduler for all parameter groups; step it after each optimizer step."""
    schedule_options.check_named(name, schedule)
    factor = SCHEDULES[name]
    return LambdaLR(optimizer, lambda step: factor(step, schedule))


def of_class(optimizer: Optimizer, path: str, arguments: Mapping[str, Any]) -> LRScheduler:
    """Return a scheduler of any class by its import path; a bare name is one of
    torch.optim.lr_scheduler.

    Raises ConfigError if it is not a scheduler, needs a metric, or rejects its arguments; and
    MissingExtra.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    module = module or "torch.optim.lr_scheduler"
    try:
        scheduler_class = getattr(import_module(module), name, None)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"lr_scheduler_type = {path!r}: {error}", hint=package_command(package)
        ) from error
    if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, LRScheduler)):
        raise ConfigError(
            f"lr_scheduler_type = {path!r}: {module} has no scheduler {name}",
            hint="give a class of torch such as CosineAnnealingLR, or its import path; the named "
            "schedules are set as lr_scheduler",
        )
    if issubclass(scheduler_class, ReduceLROnPlateau):
        raise ConfigError(
            f"lr_scheduler_type = {path!r}: ReduceLROnPlateau needs a validation metric and is not "
            "supported",
            hint="use a scheduler that only counts steps",
        )
    try:
        return scheduler_class(optimizer, **arguments)
    except Exception as error:  # of any class
        passed = " ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"{path} does not accept {passed or 'an empty argument list'}: {error}",
            hint=build_optimizer.accepted("lr_scheduler_args", scheduler_class, ("optimizer",)),
        ) from error


def replay(scheduler: LRScheduler, steps: int) -> None:
    """Advance a new scheduler by so many steps, to resume a run.

    The state of an arbitrary scheduler class may not fit into JSON (counters, nested schedulers),
    but it depends on the number of steps alone.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*before `optimizer.step", UserWarning
        )  # they were taken before the run was resumed
        for _ in range(steps):
            scheduler.step()
