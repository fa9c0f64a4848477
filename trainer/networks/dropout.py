"""LoRA dropout in sd-scripts' order: the whole module, then inner activations, then ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Dropout:
    """A forward hook on the down factor, active in training mode. The fields are probabilities.

    activations: that an inner activation is dropped (`network_dropout`); ranks: that a rank is
    dropped for an image; module: that the module is dropped for a batch. The remaining activations
    and ranks are scaled up.
    """

    activations: float = 0.0
    ranks: float = 0.0
    module: float = 0.0

    def __call__(self, layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        if not layer.training:
            return output
        if self.module and float(torch.rand(1)) < self.module:
            return torch.zeros_like(output)
        if self.activations:
            output = functional.dropout(output, self.activations)
        if self.ranks:
            output = output * (
                self._rank_mask(output, isinstance(layer, nn.Conv2d)) / (1 - self.ranks)
            )
        return output

    def _rank_mask(self, output: Tensor, convolution: bool) -> Tensor:
        """Draw a mask of the ranks for each image, equal at all its positions."""
        rank = 1 if convolution else output.ndim - 1
        shape = [n if axis in (0, rank) else 1 for axis, n in enumerate(output.shape)]
        return (torch.rand(shape, device=output.device) > self.ranks).to(output.dtype)
