"""The layers that a network adapts, and its number of parameters, from shapes alone.

Needs no torch, so that a plan can use it before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from datasetkit.options.networks import Algo, NetworkArgs
from trainer.networks.ranks import ModuleRank, RankSettings

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. out, ins: channels; kernel: kernel elements, 1 for a linear layer; dimensions: of
    its weight, 1 for a norm.

    block: its index in the block lists, None in a text encoder. convolutional: it is outside the
    attention blocks, and trained only with conv_dim. name: as in the family's `targets`.
    """

    out: int
    ins: int
    kernel: int = 1
    block: int | None = None
    convolutional: bool = False
    name: str = field(default="", compare=False)
    dimensions: int = 2

    @property
    def is_norm(self) -> bool:
        return self.dimensions == 1


def algo_of(args: NetworkArgs, *, dimensions: int, kernel: bool) -> Algo:
    """Return the method of a layer. dimensions: of its weight; kernel: it is a convolution larger
    than 1x1.
    """
    if dimensions == 1:
        return "norm"
    return "cp" if args.tucker and args.algo == "lora" and kernel else args.algo


def rank(layer: Layer, ranks: RankSettings) -> ModuleRank | None:
    """Return the rank of a layer; None: it is not trained."""
    if layer.is_norm and not ranks.args.norms:
        return None
    if layer.convolutional and not ranks.args.convolutions:
        return None
    return ranks.of(layer.block, kernel=layer.kernel > 1)


def parameter_count(layers: Iterable[Layer], ranks: RankSettings) -> int:
    """Return how many parameters a network on the layers has."""
    args = ranks.args
    ranked = ((layer, r) for layer in layers if (r := rank(layer, ranks)) is not None)
    return sum(_parameters(layer, module_rank, args) for layer, module_rank in ranked)


def _parameters(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    if layer.is_norm:
        return 2 * layer.out
    return METHODS[args.algo](layer, rank, args) + (layer.ins if args.dora else 0)


def _lora(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    if args.tucker and layer.kernel > 1:
        return rank.dim * (layer.out + layer.ins + rank.dim * layer.kernel)
    return rank.dim * (layer.out + layer.ins * layer.kernel)


def _loha(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    return 2 * _lora(layer, rank, args)


def _full(layer: Layer, _rank: ModuleRank, _args: NetworkArgs) -> int:
    return layer.out * layer.ins * layer.kernel


def _lokr(layer: Layer, rank: ModuleRank, args: NetworkArgs) -> int:
    small, large = kronecker(layer, rank.dim, args)
    return sum(small) + sum(large)


def kronecker(layer: Layer, dim: int, args: NetworkArgs) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes of LoKr's small and large matrix: one number for a full one, two for one of
    two factors.
    """
    (small_out, large_out), (small_in, large_in) = (
        split(layer.out, args.factor),
        split(layer.ins, args.factor),
    )
    small: tuple[int, ...] = (small_out * small_in,)
    if args.decompose_both and dim < max(small_out, small_in) / 2:
        small = (small_out * dim, dim * small_in)
    large: tuple[int, ...] = (large_out * large_in * layer.kernel,)
    if dim < max(large_out, large_in) / 2:
        large = (large_out * dim, dim * large_in * layer.kernel)
    return small, large


def dimensions(layers: Iterable[Layer], ranks: RankSettings) -> set[int]:
    """Return how many dimensions the trained tensors of a network on the layers have: some
    optimizers take matrices alone.
    """
    args = ranks.args
    counts = {2}
    for layer in layers:
        module_rank = rank(layer, ranks)
        if module_rank is None:
            continue
        if layer.is_norm:
            counts.add(1)
            continue
        is_full = args.algo == "lokr" and len(kronecker(layer, module_rank.dim, args)[1]) == 1
        if args.algo in ("lora", "full") or args.dora or args.tucker or is_full:
            counts.add(layer.dimensions)
    return counts


METHODS: Final[Mapping[str, Callable[[Layer, ModuleRank, NetworkArgs], int]]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "full": _full,
}


def split(size: int, factor: int) -> tuple[int, int]:
    """Return two numbers whose product is `size`, the smaller one first unless `factor` is it.

    factor: the first number, if it divides the size; else its upper limit, -1 for none, and the
    pair with the least sum is chosen. LyCORIS splits the layers of LoKr in the same way.
    """
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = size if factor == -1 else factor
    pairs = [
        (n, size // n)
        for n in range(1, math.isqrt(size) + 1)
        if size % n == 0 and (n <= limit or n == 1)
    ]
    return min(pairs, key=sum)
