"""LoRA (arXiv:2106.09685), also of convolutions (LoCon): a layer gains alpha / dim * up @ down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import TargetLayer, Tensors, patterns

DOWN: Final = "lora_down.weight"
UP: Final = "lora_up.weight"
ZERO_INIT: Final[tuple[str, ...]] = (UP,)
LORA_PLUS: Final[tuple[str, ...]] = (UP,)


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is."""
    return target


def config(targets: Sequence[TargetLayer], _args: NetworkArgs) -> Any:
    """Return peft's configuration. Its dropout acts on a layer's input, unlike sd-scripts', and is
    off.
    """
    from peft import LoraConfig

    from trainer.networks.fused_linear import FusedLinear

    scale: Any = targets[0].rank.alpha  # typed int, but any number works
    config = LoraConfig(lora_alpha=scale, lora_dropout=0.0, **patterns(targets))
    config._register_custom_module({nn.Linear: FusedLinear})
    return config


def parameters(layer: Any, adapter: str) -> dict[str, nn.Parameter]:
    """Return down, (r, in) or (r, in, k, k), and up, (out, r) or (out, r, 1, 1)."""
    return {DOWN: layer.lora_A[adapter].weight, UP: layer.lora_B[adapter].weight}


def init(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw down from U(-1, 1) / sqrt(fan in): kaiming_uniform(a = sqrt 5), as torch initialises a
    linear layer.
    """
    down = tensors[DOWN]
    bound = 1 / math.sqrt(down[0].numel())
    down.copy_((torch.rand(down.shape, generator=generator) * 2 - 1) * bound)


def dim(tensors: Tensors) -> int:
    """Return the rank."""
    return tensors[DOWN].shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return up @ down; convolution kernels are flattened into the input."""
    return tensors[UP].flatten(1) @ tensors[DOWN].flatten(1)
