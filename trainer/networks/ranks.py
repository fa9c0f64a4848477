"""The rank and alpha of each module, from network_dim, conv_dim and the block lists."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datasetkit.options.networks import NetworkArgs
from trainer.families.base import BlockList
from trainer.networks import blocks as block_lists


@dataclass(frozen=True, slots=True)
class ModuleRank:
    """A module's rank and alpha; its weight change is multiplied by alpha / dim."""

    dim: int
    alpha: float


@dataclass(frozen=True, slots=True)
class RankSettings:
    """The options behind all ranks. dim, alpha: network_dim and network_alpha; blocks: of the
    model.
    """

    args: NetworkArgs
    dim: int
    alpha: float
    blocks: BlockList

    def of(self, block: int | None, *, kernel: bool) -> ModuleRank | None:
        """Return the rank of a module; None: it is not trained.

        block: its index in the block lists, None in a text encoder. kernel: it is a convolution
        larger than 1x1 and uses conv_dim; the linear and 1x1 layers of the convolutional blocks use
        network_dim, as in sd-scripts.
        """
        if block is None:
            return self._rank(self.dim, self.alpha)
        if self.blocks.total and block_lists.weights(self.args, self.blocks)[block] == 0:
            return None
        args = self.args
        if not kernel:
            dim = args.block_dims[block] if args.block_dims else self.dim
            alpha = args.block_alphas[block] if args.block_alphas else self.alpha
        else:
            dim = args.conv_block_dims[block] if args.conv_block_dims else args.conv_dim or 0
            # sd-scripts' default is 1.
            alpha = 1.0 if args.conv_alpha is None else args.conv_alpha
            alpha = args.conv_block_alphas[block] if args.conv_block_alphas else alpha
        return self._rank(dim, alpha) if dim else None

    def _rank(self, dim: int, alpha: float) -> ModuleRank:
        alpha = alpha or dim
        # Files have no flag for it. With alpha * sqrt(dim), alpha / dim becomes alpha / sqrt(dim)
        # in every program.
        return ModuleRank(dim, alpha * math.sqrt(dim) if self.args.rank_stabilized else alpha)
