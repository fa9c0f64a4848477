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
_KERNELS: Final = ("hada_t1", "hada_t2")
ZERO_INIT: Final[tuple[str, ...]] = ("hada_w2_a",)
LORA_PLUS: Final[tuple[str, ...]] = ("hada_w2_a",)


def with_effective_rank(target: TargetLayer, _args: NetworkArgs) -> TargetLayer:
    """Return the target as it is."""
    return target


def config(targets: Sequence[TargetLayer], args: NetworkArgs) -> Any:
    """Return peft's configuration: convolutions are flattened unless their kernel is a factor of
    its own (use_cp).
    """
    from peft import LoHaConfig

    scale: Any = targets[0].rank.alpha
    return LoHaConfig(
        alpha=scale,
        rank_dropout=args.rank_dropout,
        module_dropout=args.module_dropout,
        use_effective_conv2d=args.tucker,
        **patterns(targets),
    )


def parameters(layer: Any, adapter: str) -> dict[str, nn.Parameter]:
    """Return w1_a and w2_a, (out, r), and w1_b and w2_b, (r, in * kernel); with use_cp (r, out),
    (r, in), and t1 and t2, (r, r, k, k).
    """
    names = (*_NAMES, *(name for name in _KERNELS if adapter in getattr(layer, name, {})))
    return {name: getattr(layer, name)[adapter] for name in names}


def init(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw from normal distributions with deviations 0.1 and 1, like LyCORIS and sd-scripts, so
    that the usual learning rates fit.

    peft's initialisation, uniform over the fan-in, makes the first product so small that training
    is ten times slower.
    """
    for name, deviation in (("hada_w1_a", 0.1), ("hada_w1_b", 1.0), ("hada_w2_b", 1.0)):
        tensors[name].copy_(torch.randn(tensors[name].shape, generator=generator) * deviation)
    for name in _KERNELS:
        if name in tensors:
            tensors[name].copy_(torch.randn(tensors[name].shape, generator=generator) * 0.1)


def dim(tensors: Tensors) -> int:
    """Return the rank of each of the two matrices."""
    return tensors["hada_w1_b"].shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return the elementwise product of the two matrices."""
    first, second = (_matrix(tensors, n) for n in (1, 2))
    return first * second


def _matrix(tensors: Tensors, n: int) -> Tensor:
    a, b = tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"]
    kernel = tensors.get(f"hada_t{n}")
    if kernel is None:
        return a @ b
    return torch.einsum("rskl,ro,si->oikl", kernel, a, b).flatten(1)
