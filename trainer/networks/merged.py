"""Apply a network file to plain layers like other programs do: by arithmetic on the weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.families.base import Parts
from trainer.files import lora
from trainer.networks import dora, norm
from trainer.networks.base import Tensors
from trainer.networks.network import LoraModule


def weight(tensors: Tensors, base: Tensor) -> Tensor:
    """Return a layer's weight with a module of a file merged, in float64, in the shape of
    `base`.
    """
    delta = lora.file_delta(tensors).to(base.device).reshape(base.shape)
    magnitude = tensors.get(dora.SCALE)
    if magnitude is None:
        return base.double() + delta
    return dora.decomposed(base.double(), delta, magnitude.double().to(base.device))


def put(tensors: Tensors, modules: Iterable[LoraModule], plain: Parts) -> None:
    """Let plain layers compute with the merged weights.

    A merged weight exists only while its layer is called, so the model's weights stay shared and
    unchanged.
    """
    by_module = lora.by_module(tensors)
    for module in modules:
        plain.part(module.part).get_submodule(module.path).register_forward_hook(
            _MergedForward(by_module[module.name])
        )


class _MergedForward:
    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    @torch.no_grad()
    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        if norm.WEIGHT in self._tensors:
            w, b = (self._tensors[name].float() for name in (norm.WEIGHT, norm.BIAS))
            return norm.changed(layer, inputs[0].float(), w, b).to(_output.dtype)
        merged = weight(self._tensors, layer.weight).float()
        bias = None if layer.bias is None else layer.bias.float()
        x = inputs[0].float()
        if isinstance(layer, nn.Conv2d):
            output = functional.conv2d(
                x, merged, bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
        else:
            output = functional.linear(x, merged, bias)
        return output.to(_output.dtype)
