"""The exponential moving average (EMA) of a network's weights: smoother than the last step; saved
and previewed instead.

After step t it is decay * average + (1 - decay) * weights, with decay = min(ema_decay, (1 + t) /
(10 + t)), so that the start does not dominate a short run. TensorFlow's ExponentialMovingAverage
and diffusers use the same formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class WeightAverage:
    """The average. values: of each parameter, in the order of `Lora.parameters`; steps:
    averaged.
    """

    decay: float
    values: list[Tensor]
    steps: int = 0

    @classmethod
    def of(cls, parameters: Sequence[Tensor], decay: float) -> WeightAverage:
        """Start with the current parameters."""
        return cls(decay, [parameter.detach().clone() for parameter in parameters])

    @torch.no_grad()
    def add(self, parameters: Sequence[Tensor]) -> None:
        """Add the parameters after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, list(parameters), 1 - decay)

    @torch.no_grad()
    def restore(self, values: Sequence[Tensor], steps: int) -> None:
        """Restore the values saved after so many steps."""
        self.steps = steps
        for average, value in zip(self.values, values, strict=True):
            average.copy_(value)
