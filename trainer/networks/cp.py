"""LoCon with a third factor for the kernel (LyCORIS' `use_cp`): a convolution gains alpha / dim *
up @ mid @ down, where down and up are 1x1.

A kernel of r * r * k * k numbers between two small matrices replaces one of r * in * k * k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import TargetLayer, Tensors

DOWN, MID, UP = "lora_down.weight", "lora_mid.weight", "lora_up.weight"
ZERO_INIT: Final[tuple[str, ...]] = (UP,)
LORA_PLUS: Final[tuple[str, ...]] = (UP,)


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is."""
    return target


def config(_targets: Sequence[TargetLayer], _args: NetworkArgs) -> Any:
    """Return None: peft has no such method."""
    return None


def parameters(layer: Any, _adapter: str) -> dict[str, nn.Parameter]:
    """Return down (r, in, 1, 1), mid (r, r, k, k) and up (out, r, 1, 1)."""
    tensors: dict[str, nn.Parameter] = layer.tensors
    return tensors


def shapes(target: TargetLayer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the trained parameters."""
    out, ins, *kernel = target.shape
    rank, ones = target.rank.dim, (1,) * len(kernel)
    return {DOWN: (rank, ins, *ones), MID: (rank, rank, *kernel), UP: (out, rank, *ones)}


def scale(target: TargetLayer) -> float:
    """Return alpha / dim."""
    return target.rank.alpha / target.rank.dim


def init(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw down and mid as torch initialises a layer, like LyCORIS."""
    for name in (DOWN, MID):
        tensor = tensors[name]
        bound = 1 / math.sqrt(tensor[0].numel())
        tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)


def dim(tensors: Tensors) -> int:
    """Return the rank."""
    return tensors[DOWN].shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return up @ mid @ down, (out, in * kernel)."""
    up, down = tensors[UP].flatten(1), tensors[DOWN].flatten(1)
    return torch.einsum("or,rskl,si->oikl", up, tensors[MID], down).flatten(1)
