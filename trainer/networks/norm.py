"""Norms (LyCORIS' `train_norm`): a group or layer norm gains a change of its weight and its bias.

LyCORIS and ComfyUI read the same two tensors, `w_norm` and `b_norm`, which have no rank and no
alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import ADAPTER, TargetLayer, Tensors

WEIGHT: Final = "w_norm"
BIAS: Final = "b_norm"
ZERO_INIT: Final[tuple[str, ...]] = (WEIGHT,)
LORA_PLUS: Final[tuple[str, ...]] = ()
# Those that LyCORIS trains; an RMSNorm has no bias, and it cannot read one.
KINDS: Final = (nn.GroupNorm, nn.LayerNorm)


class NormLayer(nn.Module):
    """A norm with a trained change. It has what the rest uses of peft's layers."""

    def __init__(self, base: nn.GroupNorm | nn.LayerNorm, channels: int) -> None:
        super().__init__()
        self.base_layer = base
        self.scaling = {ADAPTER: 1.0}
        self._disable_adapters = False
        self.w_norm = nn.Parameter(torch.zeros(channels))
        self.b_norm = nn.Parameter(torch.zeros(channels))

    @property
    def weight(self) -> Tensor:
        """Return the frozen weight."""
        return self.base_layer.weight

    @property
    def tensors(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by kohya's names."""
        return {WEIGHT: self.w_norm, BIAS: self.b_norm}

    def get_delta_weight(self, _adapter: str) -> Tensor:
        """Return the current change: (channels, 2)."""
        return delta(self.tensors)

    def forward(self, x: Tensor) -> Tensor:
        """Return the norm's output with the change, summed in float32: in half precision a small
        change of a weight near 1 would be lost.
        """
        if self._disable_adapters:
            output: Tensor = self.base_layer(x)
            return output
        return changed(self.base_layer, x, self.w_norm, self.b_norm)


def changed(base: nn.GroupNorm | nn.LayerNorm, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the output of a norm whose weight and bias are changed, in the precision of `x`."""
    weight, bias = base.weight.float() + weight, base.bias.float() + bias
    if isinstance(base, nn.GroupNorm):
        output = functional.group_norm(x.float(), base.num_groups, weight, bias, base.eps)
    else:
        output = functional.layer_norm(x.float(), base.normalized_shape, weight, bias, base.eps)
    return output.to(x.dtype)


def wrap(model: nn.Module, targets: Sequence[TargetLayer]) -> None:
    """Put such a layer in the place of each target."""
    for target in targets:
        parent, _, name = target.path.rpartition(".")
        base: Any = model.get_submodule(target.path)
        wrapped = NormLayer(base, target.shape[0]).to(base.weight.device)
        setattr(model.get_submodule(parent), name, wrapped)


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is; its rank has no effect."""
    return target


def config(_targets: Sequence[TargetLayer], _args: NetworkArgs) -> Any:
    """Return None: peft has no such method."""
    return None


def parameters(layer: Any, _adapter: str) -> dict[str, nn.Parameter]:
    """Return w_norm and b_norm, each of (channels,)."""
    tensors: dict[str, nn.Parameter] = layer.tensors
    return tensors


def init(tensors: Tensors, _generator: torch.Generator) -> None:
    """Start both at zero."""
    for tensor in tensors.values():
        tensor.zero_()


def dim(_tensors: Tensors) -> int:
    """Return 0: there is no rank."""
    return 0


def delta(tensors: Tensors) -> Tensor:
    """Return the changes of the weight and of the bias: (channels, 2)."""
    return torch.stack([tensors[WEIGHT], tensors[BIAS]], dim=1)
