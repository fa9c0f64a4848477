"""Generate with a flow-matching model: the times of the steps, and Euler's step from one to the
next.

The numbers are those of diffusers' FlowMatchEulerDiscreteScheduler.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.objective.flow_times import shifted

_SMALLEST = 1.0 / 1000.0  # the last of diffusers' thousand training times


def step_times(
    steps: int,
    shift: float = 1.0,
    *,
    last: float | None = None,
    terminal: float | None = None,
) -> Tensor:
    """Return the times from 1 to 0 between which a sampler steps: float32 of shape (steps + 1,).

    Before the shift they are linear from 1 to `last`: None is 1 / steps, as most pipelines choose
    it. terminal: the last time above 0 after the shift, to which all are stretched (Qwen-Image).
    """
    end = 1.0 / steps if last is None else last
    times = shifted(torch.linspace(1.0, end, steps, dtype=torch.float64), shift)
    if terminal and steps > 1:
        times = 1.0 - (1.0 - times) * (1.0 - terminal) / (1.0 - times[-1])
    return torch.cat([times, times.new_zeros(1)]).float()


def smallest_time(shift: float) -> float:
    """Return the last time of a scheduler that shifts its thousand training times by a number; its
    steps start there and are shifted once more.
    """
    return float(shifted(torch.tensor(_SMALLEST, dtype=torch.float64), shift))


def euler_step(noisy: Tensor, velocity: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Return x at time `then` from x at time `now` and the predicted velocity, in float32."""
    return (noisy.float() + (then - now) * velocity.float()).to(noisy.dtype)
