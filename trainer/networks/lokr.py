"""LoKr (arXiv:2309.14859): a layer gains the Kronecker product of a small matrix and a low-rank
one.

A matrix is full where factors would not be smaller. If both are full, there is no rank for alpha /
dim to compensate, and every program that reads the file uses a scale of 1; so does the training
(peft alone would use alpha / dim).
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
ZERO_INIT: Final[tuple[str, ...]] = ("lokr_w2", "lokr_w2_b")
# As in sd-scripts.
LORA_PLUS: Final[tuple[str, ...]] = ("lokr_w1", "lokr_w1_a", "lokr_w1_b")


def with_effective_rank(target: TargetLayer, args: NetworkArgs) -> TargetLayer:
    """Return the target, with alpha = dim if both of its matrices are full."""
    outs, ins = split(target.shape[0], args.factor), split(target.shape[1], args.factor)
    dim = target.rank.dim
    small_is_full = not (args.decompose_both and dim < max(outs[0], ins[0]) / 2)
    if small_is_full and dim >= max(outs[1], ins[1]) / 2:
        return replace(target, rank=ModuleRank(dim, dim))
    return target


def config(targets: Sequence[TargetLayer], args: NetworkArgs) -> Any:
    """Return peft's configuration: convolutions are flattened, and rank dropout rescales."""
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


def init(tensors: Tensors, generator: torch.Generator) -> None:
    """Draw from U(-1, 1) / sqrt(fan in), like LyCORIS."""
    for name, tensor in tensors.items():
        if name not in ZERO_INIT:
            bound = 1 / math.sqrt(tensor[0].numel())
            tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)


def dim(tensors: Tensors) -> int:
    """Return the rank; 0 if both matrices are full."""
    low = tensors.get("lokr_w2_b", tensors.get("lokr_w1_b"))
    return 0 if low is None else low.shape[0]


def delta(tensors: Tensors) -> Tensor:
    """Return the Kronecker product, each row flattened."""
    small, large = _matrix(tensors, "lokr_w1"), _matrix(tensors, "lokr_w2")
    if large.ndim == 4:
        small = small[:, :, None, None]
    return torch.kron(small, large.contiguous()).flatten(1)


def _matrix(tensors: Tensors, name: str) -> Tensor:
    return tensors[name] if name in tensors else tensors[f"{name}_a"] @ tensors[f"{name}_b"]
