"""The interface of a method (LoRA, LoHa, LoKr): peft's configuration, initialisation, file
tensors.
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

# peft's name of the trained adapter.
ADAPTER: Final = "trained"
# Tensors of a module by their names in kohya's files, without the module's name.
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TargetLayer:
    """A layer to adapt. name: kohya's; path: within its part; shape: of its weight."""

    name: str
    path: str
    shape: tuple[int, ...]
    rank: ModuleRank
    block: int | None = None


class Method(Protocol):
    """A module of functions for one method."""

    # The tensor that starts at zero, so that a new network changes nothing; of several names, the
    # first one that a module has.
    ZERO_INIT: tuple[str, ...]
    # The tensors with a higher learning rate in LoRA+.
    LORA_PLUS: tuple[str, ...]

    def with_effective_rank(self, target: TargetLayer, args: NetworkArgs, /) -> TargetLayer:
        """Return the target with the rank and alpha that the method really uses."""

    def config(self, targets: Sequence[TargetLayer], args: NetworkArgs, /) -> Any:
        """Return peft's configuration for the layers of one part."""

    def parameters(self, layer: Any, adapter: str, /) -> dict[str, nn.Parameter]:
        """Return the trained parameters of peft's layer, by kohya's tensor names."""

    def init(self, tensors: Tensors, generator: torch.Generator, /) -> None:
        """Draw the initial values, except of the tensor that starts at zero."""

    def dim(self, tensors: Tensors, /) -> int:
        """Return the rank of a module in a file; 0 if its matrices are full and have none."""

    def delta(self, tensors: Tensors, /) -> Tensor:
        """Return the weight change of a module in a file, without alpha / dim: (out, in *
        kernel).
        """


class OwnMethod(Method, Protocol):
    """A method that peft does not have: its layers are `delta_layer`'s."""

    def shapes(self, target: TargetLayer, /) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a layer's trained parameters, by kohya's names."""

    def scale(self, target: TargetLayer, /) -> float:
        """Return the factor of `delta`."""


def patterns(targets: Sequence[TargetLayer]) -> dict[str, Any]:
    """Return the ranks and alphas of targets as arguments of peft's configurations.

    peft matches each layer against every key, so there is one key per rank, not one per layer.
    """
    default = targets[0].rank
    ranks: dict[int, list[str]] = {}
    alphas: dict[float, list[str]] = {}
    for target in targets:
        if target.rank.dim != default.dim:
            ranks.setdefault(target.rank.dim, []).append(re.escape(target.path))
        if target.rank.alpha != default.alpha:
            alphas.setdefault(target.rank.alpha, []).append(re.escape(target.path))
    return {
        "r": default.dim,
        "target_modules": [target.path for target in targets],
        "rank_pattern": {f"({'|'.join(paths)})": dim for dim, paths in ranks.items()},
        "alpha_pattern": {f"({'|'.join(paths)})": alpha for alpha, paths in alphas.items()},
    }
