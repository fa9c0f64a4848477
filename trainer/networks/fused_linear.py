"""A linear layer with its LoRA added in place, with fewer passes over the output than peft's
layer.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor

from trainer.networks.base import ADAPTER


class FusedLinear(Linear):  # type: ignore[misc]  # peft has no types
    """peft's layer computes the LoRA's output, multiplies it by alpha / dim and adds it: three
    passes, three copies.

    Here `addmm` adds the product of the small factors to the layer's output while computing it, and
    rounds once in half precision. Other cases (a disabled adapter, several adapters) are left to
    peft.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = not (self.disable_adapters or self.merged or self.lora_variant or args or kwargs)
        if not plain or list(self.active_adapters) != [ADAPTER]:
            output: Tensor = super().forward(x, *args, **kwargs)
            return output
        down, up = self.lora_A[ADAPTER], self.lora_B[ADAPTER].weight
        # Flattened to rows, it is not a view; autograd would copy a view.
        out = self.base_layer(x.flatten(0, -2))
        inner = down(x if torch.is_autocast_enabled(x.device.type) else x.to(down.weight.dtype))
        out.addmm_(
            inner.flatten(0, -2).to(out.dtype), up.to(out.dtype).t(), alpha=self.scaling[ADAPTER]
        )
        result: Tensor = out.unflatten(0, x.shape[:-1])
        return result
