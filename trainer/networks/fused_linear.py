"""A linear layer with its LoRA, in fewer passes over what it puts out than peft's own: the same
sum, added in place.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor

from trainer.networks.base import ADAPTER


class FusedLinear(Linear):  # type: ignore[misc]  # peft has no types
    """peft's layer makes the LoRA's output, multiplies it by alpha / dim and adds it: three passes,
    three copies.

    Here the product of the small factors is added to the layer's output as it is computed
    (`addmm`), and is rounded once where the model computes in half precision. What is not plain (an
    adapter that is off, or another one beside it) is left to peft.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = not (self.disable_adapters or self.merged or self.lora_variant or args or kwargs)
        if not plain or list(self.active_adapters) != [ADAPTER]:
            other: Tensor = super().forward(x, *args, **kwargs)
            return other
        down, up = self.lora_A[ADAPTER], self.lora_B[ADAPTER].weight
        # As rows it is a tensor of its own and no view of one, which autograd would copy.
        out = self.base_layer(x.flatten(0, -2))
        inner = down(x if torch.is_autocast_enabled(x.device.type) else x.to(down.weight.dtype))
        out.addmm_(
            inner.flatten(0, -2).to(out.dtype), up.to(out.dtype).t(), alpha=self.scaling[ADAPTER]
        )
        result: Tensor = out.unflatten(0, x.shape[:-1])
        return result
