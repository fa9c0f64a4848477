"""LR schedules: the factor by which each optimizer step multiplies every learning rate.

Names and formulas are those of diffusers, transformers and sd-scripts. A step is an optimizer step,
for any number of processes and accumulated batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range


@dataclass(frozen=True, slots=True)
class WarmRestarts:
    """The cycles of `cosine_warm_restarts`: cycle k lasts cycle_steps * cycle_mult^k steps, with
    peak gamma^k.

    cycle_steps: 0: chosen so that the run has `lr_scheduler_num_cycles` cycles. cycle_warmup: steps
    of warm-up in every cycle but the first, which has the warm-up of the run.
    """

    cycle_steps: int = 0
    cycle_mult: float = 1.0
    cycle_warmup: int = 0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        in_range("lr_scheduler_args: cycle_steps", self.cycle_steps, 0, 1_000_000_000)
        in_range("lr_scheduler_args: cycle_mult", self.cycle_mult, 0.01, 100)
        in_range("lr_scheduler_args: cycle_warmup", self.cycle_warmup, 0, 1_000_000_000)
        in_range("lr_scheduler_args: gamma", self.gamma, 0, 1)


@dataclass(frozen=True, slots=True)
class LrSchedule:
    """The parameters of an LR schedule.

    total, warmup, decay: optimizer steps. cycles, power, timescale: of the schedules that have
    them; timescale 0: the warm-up steps, or 10,000. min_ratio: the final fraction of the rate.
    """

    total: int
    warmup: int = 0
    cycles: int = 1
    power: float = 1.0
    decay: int = 0
    min_ratio: float = 0.0
    timescale: int = 0
    restarts: WarmRestarts = WarmRestarts()

    def __post_init__(self) -> None:
        in_range("total steps", self.total, 1, 1_000_000_000)
        in_range("lr_scheduler_num_cycles", self.cycles, 1, 1_000_000)
        in_range("lr_scheduler_power", self.power, 0, 1_000)
        in_range("lr_scheduler_min_lr_ratio", self.min_ratio, 0, 1)
        in_range("lr_scheduler_timescale", self.timescale, 0, 1_000_000_000)
        if not 0 <= self.warmup < self.total:
            hint = (
                "the learning rate would never be reached: give fewer steps, or a part such "
                "as 0.1 or '10%'"
            )
            raise ConfigError(f"lr_warmup_steps = {self.warmup} of {self.total} steps", hint=hint)
        if not 0 <= self.decay <= self.total - self.warmup:
            hint = (
                "the learning rate would never be reached: give fewer steps, or a part such "
                "as 0.2 or '20%'"
            )
            message = (
                f"lr_decay_steps = {self.decay} and lr_warmup_steps = {self.warmup} of "
                f"{self.total} steps"
            )
            raise ConfigError(message, hint=hint)

    def progress(self, step: int) -> float:
        """Return the progress after the warm-up, from 0 to 1."""
        return min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))

    def cycle(self, step: int) -> tuple[int, int, int]:
        """Return a step's cycle (from 0), its position within the cycle, and the cycle's length."""
        restarts = self.restarts
        length: float = restarts.cycle_steps or self.total / sum(
            restarts.cycle_mult**k for k in range(self.cycles)
        )
        start, ends = 0, 0.0
        for k in count():
            # The ends are rounded, not the lengths, so that the cycles fill the run.
            ends += length * restarts.cycle_mult**k
            end = max(start + 1, round(ends))
            if step < end:
                return k, step - start, end - start
            start = end
        raise AssertionError


def constant(step: int, schedule: LrSchedule) -> float:
    """Return 1, without a warm-up."""
    return 1.0


def constant_with_warmup(step: int, schedule: LrSchedule) -> float:
    """Rise to 1 and stay there."""
    return _warmed(step, schedule, lambda progress: 1.0)


def linear(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then fall linearly to 0."""
    return _warmed(step, schedule, lambda progress: 1.0 - progress)


def cosine(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then fall to 0 along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983,
    eq. 5, one cycle).
    """
    return _warmed(step, schedule, _half_cosine)


def cosine_with_restarts(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then fall to 0 along half a cosine in each of `cycles` equal parts, restarting at
    1.
    """
    return _warmed(
        step,
        schedule,
        lambda done: _half_cosine(done * schedule.cycles % 1.0) if done < 1.0 else 0.0,
    )


def cosine_with_min_lr(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then alternate between 1 and `min_ratio` along `cycles` half cosines; a single one
    ends at `min_ratio`.
    """
    return _warmed(
        step,
        schedule,
        lambda done: _above(schedule.min_ratio, _half_cosine(done * schedule.cycles)),
    )


def cosine_warm_restarts(step: int, schedule: LrSchedule) -> float:
    """In each cycle rise from `min_ratio` to the peak, then fall along half a cosine to
    `min_ratio`; see `WarmRestarts`.

    Eq. 5 of Loshchilov & Hutter 2017 (arXiv:1608.03983), with a warm-up in each cycle and a
    decaying peak.
    """
    k, position, length = schedule.cycle(step)
    warmup = schedule.restarts.cycle_warmup if k else schedule.warmup
    peak = schedule.restarts.gamma**k
    share = (
        position / warmup
        if position < warmup
        else _half_cosine((position - warmup) / max(1, length - warmup))
    )
    return schedule.min_ratio + (peak - schedule.min_ratio) * share


def polynomial(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then fall to 0 as (1 - progress)^power; diffusers ends at a rate of 1e-7 instead
    of 0.
    """
    return _warmed(step, schedule, lambda progress: (1.0 - progress) ** schedule.power)


def inverse_sqrt(step: int, schedule: LrSchedule) -> float:
    """Rise to 1, then fall as 1 / sqrt(1 + steps after the warm-up / timescale) (Zhai et al. 2022,
    arXiv:2106.04560).
    """
    timescale = schedule.timescale or schedule.warmup or 10_000
    return _warmed(
        step, schedule, lambda _: 1.0 / math.sqrt((step - schedule.warmup) / timescale + 1.0)
    )


def warmup_stable_decay(step: int, schedule: LrSchedule) -> float:
    """Rise from `min_ratio` to 1, stay, and fall to `min_ratio` in the last `decay` steps,
    along `cycles` half cosines.

    Source: Hu et al. 2024, "MiniCPM" (arXiv:2404.06395, section 4); the cosines are transformers'.
    """
    if step < schedule.warmup:
        return _above(schedule.min_ratio, step / schedule.warmup)
    remaining = schedule.total - step
    if remaining > schedule.decay:
        return 1.0
    return (
        _above(
            schedule.min_ratio, _half_cosine((1.0 - remaining / schedule.decay) * schedule.cycles)
        )
        if remaining > 0
        else schedule.min_ratio
    )


SCHEDULES: Final[dict[str, Callable[[int, LrSchedule], float]]] = {
    "constant": constant,
    "constant_with_warmup": constant_with_warmup,
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "cosine_with_min_lr": cosine_with_min_lr,
    "cosine_warm_restarts": cosine_warm_restarts,
    "polynomial": polynomial,
    "inverse_sqrt": inverse_sqrt,
    "warmup_stable_decay": warmup_stable_decay,
}


def _warmed(step: int, schedule: LrSchedule, after: Callable[[float], float]) -> float:
    """Return step / warmup in the warm-up (0 at the first step), then `after(progress)`."""
    return step / schedule.warmup if step < schedule.warmup else after(schedule.progress(step))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _above(min_ratio: float, share: float) -> float:
    return share * (1.0 - min_ratio) + min_ratio
