"""Read and check a run's LR schedule from its options. Needs no torch, so a plan can do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import one_of
from datasetkit.options.train import TrainOptions
from trainer.optimizers.lr_schedules import SCHEDULES, LrSchedule, WarmRestarts
from trainer.optimizers.optimizer_names import literal_args

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


def name(options: TrainOptions) -> str:
    """Return the LR schedule that a run uses: lr_scheduler_type overrides lr_scheduler."""
    return options.lr_scheduler_type or options.lr_scheduler


def words(options: TrainOptions, total: int) -> str:
    """Return a run's LR schedule as text: its name, and the options that it uses."""
    if options.lr_scheduler_type:
        return " ".join((options.lr_scheduler_type, *options.lr_scheduler_args))
    of_run = schedule(options, total)
    parts = [options.lr_scheduler, f"{total:,} steps"]
    if of_run.warmup:
        parts.append(f"warm-up {of_run.warmup:,}")
    if options.lr_scheduler == "warmup_stable_decay":
        parts.append(f"decay {of_run.decay:,}")
    if options.lr_scheduler == "cosine_with_restarts":
        parts.append(f"{of_run.cycles:,} cycles")
    if options.lr_scheduler == "polynomial":
        parts.append(f"power {of_run.power:g}")
    if of_run.min_ratio:
        parts.append(f"down to {of_run.min_ratio:g} of the rate")
    return ", ".join((*parts, *options.lr_scheduler_args))


def check_class(options: TrainOptions) -> None:
    """Raise ConfigError for options that no class of lr_scheduler_type uses."""
    for option in (
        "lr_warmup_steps",
        "lr_decay_steps",
        "lr_scheduler_min_lr_ratio",
        "lr_scheduler_timescale",
    ):
        if getattr(options, option):
            raise ConfigError(
                f"lr_scheduler_type = {options.lr_scheduler_type!r} does not use {option}",
                hint="give it in lr_scheduler_args, under the name that the class uses",
            )


def check_named(name: str, schedule: LrSchedule) -> None:
    """Raise ConfigError for an unknown LR schedule, and for a warm-up or cycles that do not fit."""
    one_of("lr_scheduler", name, *SCHEDULES)
    if name == "constant" and schedule.warmup:
        raise ConfigError(
            f"lr_scheduler = 'constant' has no warm-up, but lr_warmup_steps is {schedule.warmup}",
            hint="use constant_with_warmup, or set lr_warmup_steps = 0",
        )
    if name == "cosine_warm_restarts":
        _check_cycles(schedule)


def _check_unused(options: TrainOptions) -> None:
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


def checked(options: TrainOptions, total: int) -> LrSchedule:
    """Return the parameters of a run's named LR schedule. Raises ConfigError for options that do
    not fit it or each other.
    """
    _check_unused(options)
    of_run = schedule(options, total)
    check_named(options.lr_scheduler, of_run)
    return of_run


def schedule(options: TrainOptions, total: int) -> LrSchedule:
    """Return the parameters of an LR schedule, of any name. Raises ConfigError."""
    return LrSchedule(
        total,
        warmup_steps(options.lr_warmup_steps, total),
        options.lr_scheduler_num_cycles,
        options.lr_scheduler_power,
        steps_of("lr_decay_steps", options.lr_decay_steps, total),
        options.lr_scheduler_min_lr_ratio or 0.0,
        options.lr_scheduler_timescale or 0,
        restarts(literal_args(options.lr_scheduler_args, "lr_scheduler_args")),
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
