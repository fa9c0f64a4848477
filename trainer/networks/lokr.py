"""LoKr (arXiv:2309.14859): a layer gains the Kronecker product of a small matrix and one of low
rank, or whole ones.

Both are given whole where the rank is no saving. Then there is nothing that alpha / dim could level
out, and every program that reads the file takes 1: so it is 1 in training too (peft by itself would
take alpha / dim).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.base import TargetLayer, Tensors, patterns
from trainer.networks.layers import split
from trainer.networks.ranks import ModuleRank

_NAMES: Final = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
GROWS: Final[tuple[str, ...]] = ("lokr_w2", "lokr_w2_b")
# As sd-scripts has it.
FASTER: Final[tuple[str, ...]] = ("lokr_w1", "lokr_w1_a", "lokr_w1_b")


def settled(target: TargetLayer, args: NetworkArgs) -> TargetLayer:
    """Return the target with an alpha that makes 1 of alpha / dim where both of its matrices will
    be whole.
    """
    outs, ins = split(target.shape[0], args.factor), split(target.shape[1], args.factor)
    dim = target.rank.dim
    small_is_whole = not (args.decompose_both and dim < max(outs[0], ins[0]) / 2)
    if small_is_whole and dim >= max(outs[1], ins[1]) / 2:
        return replace(target, rank=ModuleRank(dim, dim))
    return target


def config(targets: Sequence[TargetLayer], args: NetworkArgs) -> Any:
    """Return peft's configuration: convolutions are flattened, and what rank dropout keeps is
    scaled up.
    """
    from peft import LoKrConfig

    scale: Any = targets[0].rank.alpha
    return LoKrConfig(
        alpha=scale, decompose_both=args.decompose_both, decompose_factor=args.factor,
        rank_dropout=args.rank_dropout, rank_dropout_scale=True, module_dropout=args.module_dropout,
        **patterns(targets),
    )  # fmt: skip


def parameters(layer: Any, adapter: str) -> dict[str, nn.Parameter]:
    """Return w1, (out1, in1), or its two factors, and w2, (out2, in2) or (out2, in2, k, k), or its
    two factors.
    """
    return {name: held[adapter] for name in _NAMES if adapter in (held := getattr(layer, name))}


def start(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw from U(-1, 1) / sqrt(fan in), as LyCORIS does."""
    for name, tensor in tensors.items():
        if name not in GROWS:
            bound = 1 / math.sqrt(tensor[0].numel())
            tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)


def dim(tensors: Tensors) -> int:
    """Return the rank; 0 where both matrices are whole."""
    low = tensors.get("lokr_w2_b", tensors.get("lokr_w1_b"))
    return 0 if low is None else low.shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return the Kronecker product, each row flattened."""
    small, large = _whole(tensors, "lokr_w1"), _whole(tensors, "lokr_w2")
    if large.ndim == 4:
        small = small[:, :, None, None]
    return torch.kron(small, large.contiguous()).flatten(1)


def _whole(tensors: Tensors, name: str) -> Tensor:
    return tensors[name] if name in tensors else tensors[f"{name}_a"] @ tensors[f"{name}_b"]
