"""Curves of the learning rate: by what each optimizer step multiplies the rate of every group.

The names and curves are those of diffusers, transformers and sd-scripts; a step here is an
optimizer step, whatever the number of processes and accumulated batches.
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
    """Of `cosine_warm_restarts`: cycle k lasts cycle_steps * cycle_mult^k steps, and its peak is
    gamma^k.

    cycle_steps: 0 for as many as make the run's `lr_scheduler_num_cycles`. cycle_warmup: steps of
    the rise in every cycle but the first, whose rise is the warm-up of the run.
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
    """The length and shape of a schedule.

    total, warmup, decay: optimizer steps; cycles, power: where the curve has them. least: the part
    of the rate that is left at the end; timescale: of inverse_sqrt, 0 for the warm-up or 10,000.
    """

    total: int
    warmup: int = 0
    cycles: int = 1
    power: float = 1.0
    decay: int = 0
    least: float = 0.0
    timescale: int = 0
    restarts: WarmRestarts = WarmRestarts()

    def __post_init__(self) -> None:
        in_range("total steps", self.total, 1, 1_000_000_000)
        in_range("lr_scheduler_num_cycles", self.cycles, 1, 1_000_000)
        in_range("lr_scheduler_power", self.power, 0, 1_000)
        in_range("lr_scheduler_min_lr_ratio", self.least, 0, 1)
        in_range("lr_scheduler_timescale", self.timescale, 0, 1_000_000_000)
        if not 0 <= self.warmup <= self.total:
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
            said = (
                f"lr_decay_steps = {self.decay} and lr_warmup_steps = {self.warmup} of "
                f"{self.total} steps"
            )
            raise ConfigError(said, hint=hint)

    def progress(self, step: int) -> float:
        """Return how much of what follows the warm-up is done, from 0 to 1."""
        return min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))

    def cycle(self, step: int) -> tuple[int, int, int]:
        """Return the number of the cycle in which a step is, from 0, the step's place in it, and
        its length.
        """
        asked = self.restarts
        length: float = asked.cycle_steps or self.total / sum(
            asked.cycle_mult**k for k in range(self.cycles)
        )
        start, ends = 0, 0.0
        for k in count():
            # Ends are rounded and not lengths, so that the cycles fill the run.
            ends += length * asked.cycle_mult**k
            end = max(start + 1, round(ends))
            if step < end:
                return k, step - start, end - start
            start = end
        raise AssertionError


def constant(step: int, course: LrSchedule) -> float:
    """Return 1; it has no warm-up."""
    return 1.0


def constant_with_warmup(step: int, course: LrSchedule) -> float:
    """Rise to 1 and stay."""
    return _warmed(step, course, lambda progress: 1.0)


def linear(step: int, course: LrSchedule) -> float:
    """Rise to 1, then fall to 0 in a straight line."""
    return _warmed(step, course, lambda progress: 1.0 - progress)


def cosine(step: int, course: LrSchedule) -> float:
    """Rise to 1, then fall to 0 on half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq.
    5, one cycle).
    """
    return _warmed(step, course, _half_cosine)


def cosine_with_restarts(step: int, course: LrSchedule) -> float:
    """Rise to 1 once, then fall to 0 on half a cosine in each of `cycles` equal parts, back to 1
    between them.
    """
    return _warmed(
        step, course, lambda done: _half_cosine(done * course.cycles % 1.0) if done < 1.0 else 0.0
    )


def cosine_with_min_lr(step: int, course: LrSchedule) -> float:
    """Rise to 1, then swing between 1 and `least` on `cycles` half cosines; one falls to `least`
    and is done.
    """
    return _warmed(
        step, course, lambda done: _above(course.least, _half_cosine(done * course.cycles))
    )


def cosine_warm_restarts(step: int, course: LrSchedule) -> float:
    """Rise from `least` to the peak in each cycle, then fall to `least` on half a cosine; see
    `WarmRestarts`.

    Eq. 5 of Loshchilov & Hutter 2017 (arXiv:1608.03983), with a warm-up in each cycle and a falling
    peak.
    """
    k, place, length = course.cycle(step)
    warmup = course.restarts.cycle_warmup if k else course.warmup
    peak = course.restarts.gamma**k
    share = (
        place / warmup
        if place < warmup
        else _half_cosine((place - warmup) / max(1, length - warmup))
    )
    return course.least + (peak - course.least) * share


def polynomial(step: int, course: LrSchedule) -> float:
    """Rise to 1, then fall to 0 as (1 - progress)^power; diffusers stops at a rate of 1e-7 instead
    of 0.
    """
    return _warmed(step, course, lambda progress: (1.0 - progress) ** course.power)


def inverse_sqrt(step: int, course: LrSchedule) -> float:
    """Rise to 1, then fall as 1 / sqrt(1 + steps since / timescale) (Zhai et al. 2022,
    arXiv:2106.04560).
    """
    timescale = course.timescale or course.warmup or 10_000
    return _warmed(
        step, course, lambda _: 1.0 / math.sqrt((step - course.warmup) / timescale + 1.0)
    )


def warmup_stable_decay(step: int, course: LrSchedule) -> float:
    """Rise from `least` to 1, stay, and in the last `decay` steps fall to `least` on `cycles` half
    cosines.

    Source: Hu et al. 2024, "MiniCPM" (arXiv:2404.06395, section 4); the cosines are transformers'.
    """
    if step < course.warmup:
        return _above(course.least, step / course.warmup)
    left = course.total - step
    if left > course.decay:
        return 1.0
    return (
        _above(course.least, _half_cosine((1.0 - left / course.decay) * course.cycles))
        if left > 0
        else course.least
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


def _warmed(step: int, course: LrSchedule, after: Callable[[float], float]) -> float:
    """Return step / warmup in the warm-up (0 at the first step), then `after(progress)`."""
    return step / course.warmup if step < course.warmup else after(course.progress(step))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _above(least: float, share: float) -> float:
    return share * (1.0 - least) + least
