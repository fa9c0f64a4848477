"""Learning-rate schedules: which one the options of a run ask for, and what of them fits
together.
"""

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

# Which schedules look at an option; with any other it would do nothing, and is refused.
_TAKEN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "lr_decay_steps": ("warmup_stable_decay",),
    "lr_scheduler_min_lr_ratio": (
        "cosine_with_min_lr",
        "cosine_warm_restarts",
        "warmup_stable_decay",
    ),
    "lr_scheduler_timescale": ("inverse_sqrt",),
    "lr_scheduler_args": ("cosine_warm_restarts",),
}


def of_options(optimizer: Optimizer, options: TrainOptions, total: int) -> LRScheduler:
    """Return the schedule that a run of `total` optimizer steps asks for. Raises ConfigError,
    MissingExtra.
    """
    name = options.lr_scheduler_type or options.lr_scheduler
    build_optimizer.check_schedule(optimizer, options.optimizer_type, name)
    if build_optimizer.needs_a_rate(options.optimizer_type) and _rests(options, total):
        hint = "without a warm-up, and without a schedule that comes down to 0 before its end"
        raise ConfigError(
            f"{options.optimizer_type} cannot take a step at a rate of 0", hint=f"train {hint}"
        )
    return _made(optimizer, options, total)


def _made(optimizer: Optimizer, options: TrainOptions, total: int) -> LRScheduler:
    if options.lr_scheduler_type:
        return _of_type(optimizer, options)
    check(options)
    return scheduler(optimizer, options.lr_scheduler, course(options, total))


def _rests(options: TrainOptions, total: int) -> bool:
    """Tell whether the rate of any step is 0, by going through the schedule."""
    probe = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5)
    schedule = _made(probe, options, total)
    for _ in range(total):
        if probe.param_groups[0]["lr"] == 0:
            return True
        replay(schedule, 1)
    return False


def check(options: TrainOptions) -> None:
    """Raise ConfigError for a schedule that is not known, and for options that it does not
    look at.
    """
    name = options.lr_scheduler
    one_of("lr_scheduler", name, *SCHEDULES)
    for option, takers in _TAKEN_BY.items():
        if getattr(options, option) and name not in takers:
            hint = f"take it out, or take {' or '.join(takers)}"
            raise ConfigError(f"lr_scheduler = {name!r} has no {option}", hint=hint)
    if name == "warmup_stable_decay" and not options.lr_decay_steps:
        hint = (
            "set lr_decay_steps, such as 0.2 for the last fifth; constant_with_warmup never falls"
        )
        raise ConfigError("warmup_stable_decay has to know when the rate falls", hint=hint)


def course(options: TrainOptions, total: int) -> LrSchedule:
    """Return the shape of the schedule of a run. Raises ConfigError."""
    return LrSchedule(
        total,
        warmup_steps(options.lr_warmup_steps, total),
        options.lr_scheduler_num_cycles,
        options.lr_scheduler_power,
        share_of("lr_decay_steps", options.lr_decay_steps, total),
        options.lr_scheduler_min_lr_ratio or 0.0,
        options.lr_scheduler_timescale or 0,
        restarts(build_optimizer.literal_args(options.lr_scheduler_args, "lr_scheduler_args")),
    )


def restarts(arguments: Mapping[str, Any]) -> WarmRestarts:
    """Return the cycles that lr_scheduler_args ask for. Raises ConfigError."""
    try:
        return WarmRestarts(**arguments)
    except TypeError as error:
        hint = (
            "cosine_warm_restarts takes the numbers cycle_steps, cycle_mult, cycle_warmup and gamma"
        )
        raise ConfigError(f"lr_scheduler_args: {' '.join(arguments)}", hint=hint) from error


def warmup_steps(value: int | float | str, total: int) -> int:
    """Return the optimizer steps of a warm-up; see `share_of`."""
    return share_of("lr_warmup_steps", value, total)


def share_of(name: str, value: int | float | str, total: int) -> int:
    """Return the optimizer steps that an option asks for: a number of steps, or a part of `total`
    as 0.05 or "5%".
    """
    if isinstance(value, str):
        return _part(name, total, _percent(name, value), value)
    if isinstance(value, float) and (value < 1 or not value.is_integer()):
        return _part(name, total, value, value)
    return int(value)


def scheduler(optimizer: Optimizer, name: str, course: LrSchedule) -> LambdaLR:
    """Return the schedule `name` for all groups of the optimizer; to be stepped once after each
    optimizer step.
    """
    one_of("lr_scheduler", name, *SCHEDULES)
    if name == "constant" and course.warmup:
        hint = "constant_with_warmup has a warm-up, or set lr_warmup_steps = 0"
        raise ConfigError(
            f"lr_scheduler = 'constant' with {course.warmup} warm-up steps", hint=hint
        )
    if name == "cosine_warm_restarts":
        _check_cycles(course)
    curve = SCHEDULES[name]
    return LambdaLR(optimizer, lambda step: curve(step, course))


def of_class(optimizer: Optimizer, path: str, arguments: Mapping[str, Any]) -> LRScheduler:
    """Return a schedule of any class by its import path; a bare name is one of
    torch.optim.lr_scheduler.

    Raises ConfigError where it is none that steps by itself, or refuses its arguments;
    MissingExtra.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    module = module or "torch.optim.lr_scheduler"
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"lr_scheduler_type = {path!r}: {error}", hint=f"pip install {package}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, LRScheduler)):
        raise ConfigError(f"lr_scheduler_type = {path!r}: {module} has no scheduler {name}")
    if issubclass(found, ReduceLROnPlateau):
        hint = "a schedule is known before the first step here: take another"
        raise ConfigError(f"lr_scheduler_type = {path!r} waits for a loss", hint=hint)
    try:
        return found(optimizer, **arguments)
    except (TypeError, ValueError) as error:
        said = " ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ConfigError(f"{path} does not take {said or 'no arguments'}: {error}") from error


def replay(schedule: LRScheduler, steps: int) -> None:
    """Bring a fresh schedule to where it was after so many steps.

    What a schedule of any class remembers need not fit into JSON (counters, nested schedules), and
    it follows from the number of steps alone.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".*before `optimizer.step", UserWarning
        )  # those were taken before
        for _ in range(steps):
            schedule.step()


def _of_type(optimizer: Optimizer, options: TrainOptions) -> LRScheduler:
    for option in (
        "lr_warmup_steps",
        "lr_decay_steps",
        "lr_scheduler_min_lr_ratio",
        "lr_scheduler_timescale",
    ):
        if getattr(options, option):
            hint = "say it in lr_scheduler_args, in the words of that class"
            raise ConfigError(
                f"lr_scheduler_type = {options.lr_scheduler_type!r} has no {option}", hint=hint
            )
    arguments = build_optimizer.literal_args(options.lr_scheduler_args, "lr_scheduler_args")
    return of_class(optimizer, options.lr_scheduler_type, arguments)


def _check_cycles(course: LrSchedule) -> None:
    """Raise ConfigError for cycles whose peak would not be reached, or lie below what is left of
    the rate.
    """
    last, _, length = course.cycle(course.total - 1)
    first = course.cycle(0)[2]
    rises = [(course.warmup, first)]
    if last:
        rises.append((course.restarts.cycle_warmup, min(length, course.cycle(first)[2])))
    for warmup, steps in rises:
        if warmup >= steps:
            hint = "the peak would never be reached: give fewer warm-up steps, or longer cycles"
            raise ConfigError(f"a warm-up of {warmup} steps in a cycle of {steps}", hint=hint)
    if (peak := course.restarts.gamma**last) < course.least:
        said = (
            f"the peak of cycle {last + 1}, {peak:.3g}, is below lr_scheduler_min_lr_ratio "
            f"= {course.least:g}"
        )
        raise ConfigError(said, hint="raise gamma, or lower lr_scheduler_min_lr_ratio")


def _percent(name: str, text: str) -> float:
    number, sign, rest = text.partition("%")
    try:
        if sign and not rest.strip():
            return float(number) / 100.0
    except ValueError:
        pass
    raise ConfigError(
        f"{name} = {text!r}", hint="give a number of steps, or a part such as 0.05 or '5%'"
    )


def _part(name: str, total: int, share: float, given: object) -> int:
    if not 0.0 <= share <= 1.0:
        raise ConfigError(
            f"{name} = {given}", hint="a part of the steps is from 0 to 1, or from 0% to 100%"
        )
    return round(total * share)
