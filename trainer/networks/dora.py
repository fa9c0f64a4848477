"""DoRA (arXiv:2402.09353): a layer's weight is a direction, changed by the network, times a trained
magnitude.

    W' = magnitude * (W + delta) / norm(W + delta), with one norm per input channel

The paper and every program that reads `dora_scale` use the input axis: A1111 supports no other, and
ComfyUI divides by the norm of W alone for the output axis, which is a different layer. (peft's own
DoRA uses the output axis.) Because W' scales the inputs, it is implemented as W + delta applied to
a scaled input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

SCALE: Final = "dora_scale"
_TINY: Final = torch.finfo(torch.float32).tiny  # avoids 0 / 0 for an unused input channel


def norms(weight: Tensor, delta: Tensor) -> Tensor:
    """Return the norm of W + delta for each input channel: float32, (1, in) or (1, in, 1, 1)."""
    return _norms(weight.float() + delta.float().reshape(weight.shape))


def decomposed(weight: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """Return a layer's weight with DoRA, as the programs that read `dora_scale` compute it."""
    direction = weight + delta.reshape(weight.shape)
    return direction * (magnitude / _norms(direction).clamp(min=_TINY))


def _norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(
        weight, dim=[n for n in range(weight.ndim) if n != 1], keepdim=True
    )
    return norms


def attach(layer: Any, delta: Callable[[], Tensor]) -> nn.Parameter:
    """Add a magnitude to a layer of peft, initialised with the norms of its weight. delta: returns
    the network's current change.

    The norm is a constant in the backward pass (section 4.3 of the paper).
    """
    weight = layer.get_base_layer().weight
    magnitude = nn.Parameter(norms(weight, torch.zeros_like(weight)))
    layer.register_parameter(SCALE, magnitude)

    layer.register_forward_pre_hook(_InputScaling(magnitude, delta))
    return magnitude


class _InputScaling:
    """A forward pre-hook that scales the input of a layer."""

    def __init__(self, magnitude: nn.Parameter, delta: Callable[[], Tensor]) -> None:
        self._magnitude, self._delta = magnitude, delta
        self._cached: tuple[tuple[int, ...], Tensor] | None = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> _InputScaling:
        return self  # only copied with a model whose network is then removed

    def __call__(self, layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if layer.disable_adapters:
            return None
        x, *rest = inputs
        scale = self._magnitude / self._norms(layer, x.device.type)
        return ((x * (scale.flatten() if scale.ndim == 2 else scale)).to(x.dtype), *rest)

    def _norms(self, layer: Any, device: str) -> Tensor:
        """Return the current norms; they are cached in eval mode, where a preview image takes many
        passes.

        torch counts the changes of a tensor, but 8-bit optimizers bypass the counter, so nothing is
        cached in training.
        """
        versions = tuple(parameter._version for parameter in layer.parameters())
        if not layer.training and self._cached is not None and self._cached[0] == versions:
            return self._cached[1]
        with torch.no_grad(), torch.autocast(device, enabled=False):
            current = norms(layer.get_base_layer().weight, self._delta()).clamp(min=_TINY)
        self._cached = None if layer.training else (versions, current)
        return current
