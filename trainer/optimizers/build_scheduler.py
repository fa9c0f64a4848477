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
from datasetkit.core.ranges import one_of
from datasetkit.options.train import TrainOptions
from trainer.optimizers import build_optimizer
from trainer.optimizers.lr_schedules import SCHEDULES, LrSchedule, WarmRestarts

# The schedules that use an option; with any other it would have no effect and is rejected.
_USED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "lr_decay_steps": ("warmup_stable_decay",),
    "lr_scheduler_min_lr_ratio": (
        "cosine_with_min_lr",
        "cosine_warm_restarts",
        "warmup_stable_decay",
    ),
    "lr_scheduler_timescale": ("inverse_sqrt",),
    "lr_scheduler_args": ("cosine_warm_restarts",),
}


def build(optimizer: Optimizer, options: TrainOptions, total: int) -> LRScheduler:
    """Return the scheduler for `total` optimizer steps. Raises ConfigError, MissingExtra."""
    name = options.lr_scheduler_type or options.lr_scheduler
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
    if options.lr_scheduler_type:
        return _of_type(optimizer, options)
    check(options)
    return lambda_lr(optimizer, options.lr_scheduler, schedule(options, total))


def _has_zero_lr_step(options: TrainOptions, total: int) -> bool:
    """Tell whether any step has a learning rate of 0, by running the scheduler."""
    probe = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    scheduler = _unchecked(probe, options, total)
    for _ in range(total):
        if probe.param_groups[0]["lr"] == 0:
            return True
        replay(scheduler, 1)
    return False


def check(options: TrainOptions) -> None:
    """Raise ConfigError for an unknown LR schedule, and for options that it does not use."""
    name = options.lr_scheduler
    one_of("lr_scheduler", name, *SCHEDULES)
    for option, takers in _USED_BY.items():
        if getattr(options, option) and name not in takers:
            hint = f"remove it, or use {' or '.join(takers)}"
            raise ConfigError(f"lr_scheduler = {name!r} does not use {option}", hint=hint)
    if name == "warmup_stable_decay" and not options.lr_decay_steps:
        hint = "set it, such as to 0.2 for the last fifth; constant_with_warmup never decays"
        raise ConfigError("warmup_stable_decay needs lr_decay_steps", hint=hint)


def schedule(options: TrainOptions, total: int) -> LrSchedule:
    """Return the parameters of a run's LR schedule. Raises ConfigError."""
    return LrSchedule(
        total,
        warmup_steps(options.lr_warmup_steps, total),
        options.lr_scheduler_num_cycles,
        options.lr_scheduler_power,
        steps_of("lr_decay_steps", options.lr_decay_steps, total),
        options.lr_scheduler_min_lr_ratio or 0.0,
        options.lr_scheduler_timescale or 0,
        restarts(build_optimizer.literal_args(options.lr_scheduler_args, "lr_scheduler_args")),
    )


def restarts(arguments: Mapping[str, Any]) -> WarmRestarts:
    """Return the cycles given by lr_scheduler_args. Raises ConfigError."""
    try:
        return WarmRestarts(**arguments)
    except TypeError as error:
        hint = "cosine_warm_restarts accepts cycle_steps, cycle_mult, cycle_warmup and gamma"
        raise ConfigError(f"lr_scheduler_args: {' '.join(arguments)}", hint=hint) from error


def warmup_steps(value: int | float | str, total: int) -> int:
    """Return the optimizer steps of a warm-up; see `steps_of`."""
    return steps_of("lr_warmup_steps", value, total)


def steps_of(name: str, value: int | float | str, total: int) -> int:
    """Return the optimizer steps of an option: a number of steps, or a fraction of `total` such as
    0.05 or "5%".
    """
    if isinstance(value, str):
        return _fraction(name, total, _percent(name, value), value)
    if isinstance(value, float) and (value < 1 or not value.is_integer()):
        return _fraction(name, total, value, value)
    return int(value)


def lambda_lr(optimizer: Optimizer, name: str, schedule: LrSchedule) -> LambdaLR:
    """Return a scheduler for all parameter groups; step it after each optimizer step."""
    one_of("lr_scheduler", name, *SCHEDULES)
    if name == "constant" and schedule.warmup:
        hint = "use constant_with_warmup, or set lr_warmup_steps = 0"
        raise ConfigError(
            f"lr_scheduler = 'constant' has no warm-up, but lr_warmup_steps is {schedule.warmup}",
            hint=hint,
        )
    if name == "cosine_warm_restarts":
        _check_cycles(schedule)
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
            f"lr_scheduler_type = {path!r}: {error}", hint=f"pip install {package}"
        ) from error
    if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, LRScheduler)):
        raise ConfigError(f"lr_scheduler_type = {path!r}: {module} has no scheduler {name}")
    if issubclass(scheduler_class, ReduceLROnPlateau):
        raise ConfigError(
            f"lr_scheduler_type = {path!r}: ReduceLROnPlateau needs a validation metric and is not "
            "supported",
            hint="use a scheduler that only counts steps",
        )
    try:
        return scheduler_class(optimizer, **arguments)
    except (TypeError, ValueError) as error:
        passed = " ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(
            f"{path} does not accept {passed or 'an empty argument list'}: {error}"
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


def _of_type(optimizer: Optimizer, options: TrainOptions) -> LRScheduler:
    for option in (
        "lr_warmup_steps",
        "lr_decay_steps",
        "lr_scheduler_min_lr_ratio",
        "lr_scheduler_timescale",
    ):
        if getattr(options, option):
            hint = "give it in lr_scheduler_args, under the name that the class uses"
            raise ConfigError(
                f"lr_scheduler_type = {options.lr_scheduler_type!r} does not use {option}",
                hint=hint,
            )
    arguments = build_optimizer.literal_args(options.lr_scheduler_args, "lr_scheduler_args")
    return of_class(optimizer, options.lr_scheduler_type, arguments)


def _check_cycles(schedule: LrSchedule) -> None:
    """Raise ConfigError for cycles whose peak is never reached or lies below the minimum rate."""
    last, _, length = schedule.cycle(schedule.total - 1)
    first = schedule.cycle(0)[2]
    warmups = [(schedule.warmup, first)]
    if last:
        warmups.append((schedule.restarts.cycle_warmup, min(length, schedule.cycle(first)[2])))
    for warmup, steps in warmups:
        if warmup >= steps:
            hint = "the peak would never be reached: give fewer warm-up steps, or longer cycles"
            raise ConfigError(f"a warm-up of {warmup} steps in a cycle of {steps}", hint=hint)
    if (peak := schedule.restarts.gamma**last) < schedule.min_ratio:
        message = (
            f"the peak of cycle {last + 1}, {peak:.3g}, is below lr_scheduler_min_lr_ratio "
            f"= {schedule.min_ratio:g}"
        )
        raise ConfigError(message, hint="raise gamma, or lower lr_scheduler_min_lr_ratio")


def _percent(name: str, text: str) -> float:
    number, sign, rest = text.partition("%")
    try:
        if sign and not rest.strip():
            return float(number) / 100.0
    except ValueError:
        pass
    raise ConfigError(
        f"{name} = {text!r}", hint="give a number of steps, or a fraction such as 0.05 or '5%'"
    )


def _fraction(name: str, total: int, fraction: float, value: object) -> int:
    if not 0.0 <= fraction <= 1.0:
        raise ConfigError(
            f"{name} = {value}", hint="a fraction of the steps is from 0 to 1, or from 0% to 100%"
        )
    return int(total * fraction)  # cut off, as in sd-scripts
