"""Full matrices: a layer gains a matrix of its own size. LyCORIS calls it `full`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import TargetLayer, Tensors

DIFF: Final = "diff"
ZERO_INIT: Final[tuple[str, ...]] = (DIFF,)
LORA_PLUS: Final[tuple[str, ...]] = ()


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is; its rank has no effect."""
    return target


def config(_targets: Sequence[TargetLayer], _args: NetworkArgs) -> Any:
    """Return None: peft has no such method."""
    return None


def parameters(layer: Any, _adapter: str) -> dict[str, nn.Parameter]:
    """Return diff, of the shape of the weight."""
    tensors: dict[str, nn.Parameter] = layer.tensors
    return tensors


def shapes(target: TargetLayer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the trained parameters."""
    return {DIFF: target.shape}


def scale(_target: TargetLayer) -> float:
    """Return 1: such files have no alpha."""
    return 1.0


def init(_tensors: Tensors, _generator: torch.Generator) -> None:
    """Draw nothing: the matrix starts at zero."""


def dim(_tensors: Tensors) -> int:
    """Return 0: there is no rank."""
    return 0


def delta(tensors: Tensors) -> Tensor:
    """Return the matrix; convolution kernels are flattened into the input."""
    return tensors[DIFF].flatten(1)
