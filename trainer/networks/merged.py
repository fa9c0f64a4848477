"""Puts a network file onto plain layers as other programs do: by arithmetic on the weights, without
peft.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.families.base import Parts
from trainer.files import lora
from trainer.networks import dora
from trainer.networks.base import Tensors
from trainer.networks.network import LoraModule


def weight(own: Tensors, base: Tensor) -> Tensor:
    """Return the weight that a layer gets from a module of a file, in float64, of the shape of
    `base`.
    """
    delta = lora.file_delta(own).to(base.device).reshape(base.shape)
    magnitude = own.get(dora.SCALE)
    if magnitude is None:
        return base.double() + delta
    return dora.decomposed(base.double(), delta, magnitude.double().to(base.device))


def put(tensors: Tensors, modules: Iterable[LoraModule], plain: Parts) -> None:
    """Let plain layers compute with what a file makes of their weights.

    A weight is made when its layer is called and forgotten then, so that the model's own are shared
    and stay.
    """
    read = lora.by_module(tensors)
    for module in modules:
        plain.part(module.part).get_submodule(module.path).register_forward_hook(
            _Merged(read[module.name])
        )


class _Merged:
    def __init__(self, own: Tensors) -> None:
        self._own = own

    @torch.no_grad()
    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        merged = weight(self._own, layer.weight).float()
        bias = None if layer.bias is None else layer.bias.float()
        seen = inputs[0].float()
        if isinstance(layer, nn.Conv2d):
            found = functional.conv2d(
                seen, merged, bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
        else:
            found = functional.linear(seen, merged, bias)
        return found.to(_output.dtype)
