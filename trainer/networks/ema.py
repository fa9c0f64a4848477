"""The moving average of a network's weights (EMA): steadier than the last step, it is what is saved
and drawn with.

After step t it is decay * average + (1 - decay) * weights, with min(ema_decay, (1 + t) / (10 + t))
as the decay: a short run is not held back by its beginning. (The form of TensorFlow's
ExponentialMovingAverage and of diffusers'.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class WeightAverage:
    """values: the average of each parameter, in the order of `Lora.parameters`. steps: how many
    were averaged.
    """

    decay: float
    values: list[Tensor]
    steps: int = 0

    @classmethod
    def of(cls, parameters: Sequence[Tensor], decay: float) -> WeightAverage:
        """Begin with the parameters as they are."""
        return cls(decay, [parameter.detach().clone() for parameter in parameters])

    @torch.no_grad()
    def add(self, parameters: Sequence[Tensor]) -> None:
        """Average the parameters after a step."""
        self.steps += 1
        now = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, list(parameters), 1 - now)

    @torch.no_grad()
    def restore(self, values: Sequence[Tensor], steps: int) -> None:
        """Go on from what was saved after so many steps."""
        self.steps = steps
        for own, value in zip(self.values, values, strict=True):
            own.copy_(value)
