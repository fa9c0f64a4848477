"""LoHa (arXiv:2108.06098): a layer gains alpha / dim * (w1_a @ w1_b) * (w2_a @ w2_b), element by
element.

The product of two matrices of rank r can have rank r * r, with the parameters of two LoRAs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import TargetLayer, Tensors, patterns

_NAMES: Final = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
ZERO_INIT: Final[tuple[str, ...]] = ("hada_w2_a",)
LORA_PLUS: Final[tuple[str, ...]] = ("hada_w2_a",)


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is."""
    return target


def config(targets: Sequence[TargetLayer], args: NetworkArgs) -> Any:
    """Return peft's configuration: convolutions are flattened."""
    from peft import LoHaConfig

    scale: Any = targets[0].rank.alpha
    return LoHaConfig(
        alpha=scale,
        rank_dropout=args.rank_dropout,
        module_dropout=args.module_dropout,
        **patterns(targets),
    )


def parameters(layer: Any, adapter: str) -> dict[str, nn.Parameter]:
    """Return w1_a and w2_a, (out, r), and w1_b and w2_b, (r, in * kernel)."""
    return {name: getattr(layer, name)[adapter] for name in _NAMES}


def init(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw from normal distributions with deviations 0.1 and 1, like LyCORIS and sd-scripts, so
    that the usual learning rates fit.

    peft's initialisation, uniform over the fan-in, makes the first product so small that training
    is ten times slower.
    """
    for name, deviation in (("hada_w1_a", 0.1), ("hada_w1_b", 1.0), ("hada_w2_b", 1.0)):
        tensors[name].copy_(torch.randn(tensors[name].shape, generator=generator) * deviation)


def dim(tensors: Tensors) -> int:
    """Return the rank of each of the two matrices."""
    return tensors["hada_w1_b"].shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return the elementwise product of the two matrices."""
    first, second = (tensors[f"hada_w{n}_a"] @ tensors[f"hada_w{n}_b"] for n in (1, 2))
    return first * second
