"""Learning-rate schedules: by what each optimizer step multiplies the learning rate of every group.

The names and curves are those of diffusers and sd-scripts; a step here is an optimizer step, whatever the number of
processes and accumulated batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from datasetkit.core.config import in_range, one_of
from datasetkit.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Course:
    """The length and shape of a schedule. total, warmup: optimizer steps; cycles, power: where the curve has them."""

    total: int
    warmup: int = 0
    cycles: int = 1
    power: float = 1.0

    def __post_init__(self) -> None:
        in_range("total steps", self.total, 1, 1_000_000_000)
        in_range("lr_scheduler_num_cycles", self.cycles, 1, 1_000_000)
        in_range("lr_scheduler_power", self.power, 0, 1_000)
        if not 0 <= self.warmup <= self.total:
            hint = "the learning rate would never be reached: give fewer steps, or a part such as 0.1 or '10%'"
            raise ConfigError(f"lr_warmup_steps = {self.warmup} of {self.total} steps", hint=hint)

    def progress(self, step: int) -> float:
        """Return how much of what follows the warm-up is done, from 0 to 1."""
        return min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))


def constant(step: int, course: Course) -> float:
    """Return 1; it has no warm-up."""
    return 1.0


def constant_with_warmup(step: int, course: Course) -> float:
    """Rise to 1 and stay."""
    return _warmed(step, course, lambda progress: 1.0)


def linear(step: int, course: Course) -> float:
    """Rise to 1, then fall to 0 in a straight line."""
    return _warmed(step, course, lambda progress: 1.0 - progress)


def cosine(step: int, course: Course) -> float:
    """Rise to 1, then fall to 0 on half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, one cycle)."""
    return _warmed(step, course, _half_cosine)


def cosine_with_restarts(step: int, course: Course) -> float:
    """Rise to 1 once, then fall to 0 on half a cosine in each of `cycles` equal parts, back to 1 between them."""
    return _warmed(step, course, lambda done: _half_cosine(done * course.cycles % 1.0) if done < 1.0 else 0.0)


def polynomial(step: int, course: Course) -> float:
    """Rise to 1, then fall to 0 as (1 - progress)^power; diffusers stops at a rate of 1e-7 instead of 0."""
    return _warmed(step, course, lambda progress: (1.0 - progress) ** course.power)


SCHEDULES: Final[dict[str, Callable[[int, Course], float]]] = {
    "constant": constant,
    "constant_with_warmup": constant_with_warmup,
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "polynomial": polynomial,
}


def warmup_steps(value: int | float | str, total: int) -> int:
    """Return the optimizer steps of a warm-up: a number of steps, or a part of `total` as 0.05 or "5%"."""
    if isinstance(value, str):
        return _share_of(total, _percent(value), value)
    if isinstance(value, float) and (value < 1 or not value.is_integer()):
        return _share_of(total, value, value)
    return int(value)


def scheduler(optimizer: Optimizer, name: str, course: Course) -> LambdaLR:
    """Return the schedule `name` for all groups of the optimizer; to be stepped once after each optimizer step."""
    one_of("lr_scheduler", name, *SCHEDULES)
    if name == "constant" and course.warmup:
        hint = "constant_with_warmup has a warm-up, or set lr_warmup_steps = 0"
        raise ConfigError(f"lr_scheduler = 'constant' with {course.warmup} warm-up steps", hint=hint)
    curve = SCHEDULES[name]
    return LambdaLR(optimizer, lambda step: curve(step, course))


def _warmed(step: int, course: Course, after: Callable[[float], float]) -> float:
    """Return step / warmup in the warm-up (0 at the first step), then `after(progress)`."""
    return step / course.warmup if step < course.warmup else after(course.progress(step))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _percent(text: str) -> float:
    number, sign, rest = text.partition("%")
    try:
        if sign and not rest.strip():
            return float(number) / 100.0
    except ValueError:
        pass
    raise ConfigError(f"lr_warmup_steps = {text!r}", hint="give a number of steps, or a part such as 0.05 or '5%'")


def _share_of(total: int, share: float, given: object) -> int:
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"lr_warmup_steps = {given}", hint="a part of the steps is from 0 to 1, or from 0% to 100%")
    return round(total * share)
