"""What the trainer asks of a method: how peft adapts a layer, how it starts, and what its tensors
say in a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks.ranks import ModuleRank

# The name under which peft keeps the adapter that is trained.
ADAPTER: Final = "trained"
# By the names of kohya's files, behind the module's name.
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TargetLayer:
    """One layer that is going to be adapted. name: kohya's; path: within its part; shape: of its
    weight.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    rank: ModuleRank
    block: int | None = None


class Method(Protocol):
    """A module of functions that knows one method."""

    # What starts at zero, so that a new network adds nothing; of several the first that a module
    # has.
    GROWS: tuple[str, ...]
    # What LoRA+ trains faster.
    FASTER: tuple[str, ...]

    def settled(self, target: TargetLayer, args: NetworkArgs, /) -> TargetLayer:
        """Return a target with the rank that the method really gives it."""

    def config(self, targets: Sequence[TargetLayer], args: NetworkArgs, /) -> Any:
        """Return peft's configuration for the layers of one part."""

    def parameters(self, layer: Any, adapter: str, /) -> dict[str, nn.Parameter]:
        """Return what peft trains in a layer, by the names of kohya's files."""

    def start(self, tensors: Tensors, generator: torch.Generator, /) -> None:
        """Draw the first values, but for what starts at zero."""

    def dim(self, tensors: Tensors, /) -> int:
        """Return the rank of a module of a file; 0 where its factors are whole and have none."""

    def delta(self, tensors: Tensors, /) -> Tensor:
        """Return what a module of a file adds to its layer but for alpha / dim: (out, in *
        kernel).
        """


def patterns(targets: Sequence[TargetLayer]) -> dict[str, Any]:
    """Return the ranks and alphas of targets as peft's configurations take them.

    peft matches each layer against the keys one by one: there is one key for each rank, and not one
    for each layer.
    """
    usual = targets[0].rank
    ranks: dict[int, list[str]] = {}
    alphas: dict[float, list[str]] = {}
    for target in targets:
        if target.rank.dim != usual.dim:
            ranks.setdefault(target.rank.dim, []).append(re.escape(target.path))
        if target.rank.alpha != usual.alpha:
            alphas.setdefault(target.rank.alpha, []).append(re.escape(target.path))
    return {
        "r": usual.dim,
        "target_modules": [target.path for target in targets],
        "rank_pattern": {f"({'|'.join(paths)})": dim for dim, paths in ranks.items()},
        "alpha_pattern": {f"({'|'.join(paths)})": alpha for alpha, paths in alphas.items()},
    }
