"""A layer with a trained weight change of our own, for methods that peft does not have.

It has what the rest uses of peft's layers: `base_layer`, `scaling`, `get_delta_weight`, and
`_disable_adapters`, which leaves the change out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.networks.base import ADAPTER, OwnMethod, TargetLayer


class DeltaLayer(nn.Module):
    """A linear layer or a convolution whose weight gains scaling * method.delta(tensors)."""

    def __init__(self, base: nn.Module, target: TargetLayer, method: OwnMethod) -> None:
        super().__init__()
        self.base_layer = base
        self.scaling = {ADAPTER: method.scale(target)}
        self._delta = method.delta
        self._shape = target.shape
        self._disable_adapters = False
        # A dot is not allowed in a name of a parameter.
        self._names = {name: name.replace(".", "_") for name in method.shapes(target)}
        for name, shape in method.shapes(target).items():
            self.register_parameter(self._names[name], nn.Parameter(torch.zeros(shape)))
        layer: Any = base
        self._convolution = (
            (layer.stride, layer.padding, layer.dilation, layer.groups)
            if len(target.shape) > 2
            else None
        )

    @property
    def tensors(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by kohya's names."""
        return {name: self.get_parameter(own) for name, own in self._names.items()}

    @property
    def weight(self) -> Tensor:
        """Return the frozen weight."""
        weight: Tensor = self.base_layer.weight  # type: ignore[assignment]
        return weight

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the current change, in the shape of the weight."""
        return (self._delta(self.tensors) * self.scaling[adapter]).reshape(self._shape)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output with the change."""
        output: Tensor = self.base_layer(x, *args, **kwargs)
        if self._disable_adapters:
            return output
        delta = self.get_delta_weight(ADAPTER).to(x.dtype)
        if self._convolution is None:
            return output + functional.linear(x, delta)
        return output + functional.conv2d(x, delta, None, *self._convolution)


def wrap(model: nn.Module, targets: Sequence[TargetLayer], method: OwnMethod) -> None:
    """Put such a layer in the place of each target."""
    for target in targets:
        parent, _, name = target.path.rpartition(".")
        layer = model.get_submodule(target.path)
        wrapped = DeltaLayer(layer, target, method).to(next(layer.parameters()).device)
        setattr(model.get_submodule(parent), name, wrapped)
