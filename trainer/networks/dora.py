"""DoRA (arXiv:2402.09353): a layer's weight is a direction, which the network changes, times a
trained magnitude.

    W' = magnitude * (W + delta) / norm(W + delta), a norm for each input channel

The input axis is the one of the paper and of every program that reads `dora_scale`: A1111 knows no
other, and ComfyUI divides by the norm of W alone where it is given the output axis, which is
another layer. (peft's own DoRA is of the output axis.) As W' scales the inputs, it is W + delta
behind an input that was multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

SCALE: Final = "dora_scale"
_LEAST: Final = torch.finfo(torch.float32).tiny  # an input that nothing listens to stays so


def norms(weight: Tensor, delta: Tensor) -> Tensor:
    """Return the norm of what each input channel is multiplied with: float32 of shape (1, in) or
    (1, in, 1, 1).
    """
    return _norms(weight.float() + delta.float().reshape(weight.shape))


def decomposed(weight: Tensor, delta: Tensor, magnitude: Tensor) -> Tensor:
    """Return the weight that a layer has with DoRA, as the programs that read `dora_scale`
    make it.
    """
    whole = weight + delta.reshape(weight.shape)
    return whole * (magnitude / _norms(whole).clamp(min=_LEAST))


def _norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(
        weight, dim=[n for n in range(weight.ndim) if n != 1], keepdim=True
    )
    return norms


def attach(layer: Any, delta: Callable[[], Tensor]) -> nn.Parameter:
    """Put a magnitude on a layer of peft's: at first the norms of its weight. delta: what the
    network adds, as it is.

    The norm is taken as a constant in the backward pass, as the paper says in section 4.3.
    """
    weight = layer.get_base_layer().weight
    magnitude = nn.Parameter(norms(weight, torch.zeros_like(weight)))
    layer.register_parameter(SCALE, magnitude)

    layer.register_forward_pre_hook(_Scaled(magnitude, delta))
    return magnitude


class _Scaled:
    """A hook that multiplies what a layer sees."""

    def __init__(self, magnitude: nn.Parameter, delta: Callable[[], Tensor]) -> None:
        self._magnitude, self._delta = magnitude, delta
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Scaled:
        return self  # a copy of the model is made to take the network off it

    def __call__(self, layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if layer.disable_adapters:
            return None
        seen, *rest = inputs
        scale = self._magnitude / self._norms(layer, seen.device.type)
        return ((seen * (scale.flatten() if scale.ndim == 2 else scale)).to(seen.dtype), *rest)

    def _norms(self, layer: Any, device: str) -> Tensor:
        """Return the norms as they are now; an image is drawn in many passes with the same ones.

        torch counts the changes of a tensor, but some optimizers (8 bits) go past it: in training
        nothing is kept.
        """
        changes = tuple(parameter._version for parameter in layer.parameters())
        if not layer.training and self._kept is not None and self._kept[0] == changes:
            return self._kept[1]
        with torch.no_grad(), torch.autocast(device, enabled=False):
            found = norms(layer.get_base_layer().weight, self._delta()).clamp(min=_LEAST)
        self._kept = None if layer.training else (changes, found)
        return found
