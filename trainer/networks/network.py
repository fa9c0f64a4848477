"""The network on a model: its modules, their trained parameters, and the weight change of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from datasetkit.options.networks import Algo, NetworkArgs
from trainer.families.base import BlockList, Part
from trainer.networks import dora, lora, parameter_groups, weight_norms
from trainer.networks.base import ADAPTER, Method
from trainer.networks.ranks import ModuleRank
from trainer.networks.registry import METHODS
from trainer.networks.weight_norms import Change, Factors, NormReport


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One adapted layer. name: kohya's; path: within its part; layer: peft's wrapper around the
    frozen layer.

    tensors: the trained parameters, by kohya's names. rank: with the alpha that is written to
    files. block: its index in the block lists, None in a text encoder.
    """

    name: str
    part: Part
    path: str
    layer: Any
    algo: Algo = "lora"
    rank: ModuleRank = field(default_factory=lambda: ModuleRank(1, 1))
    tensors: Mapping[str, nn.Parameter] = field(default_factory=dict)
    block: int | None = None

    @property
    def method(self) -> Method:
        return METHODS[self.algo]

    @property
    def has_alpha(self) -> bool:
        """Tell whether its file has an alpha: full matrices and norms have no rank."""
        return self.algo not in ("full", "norm")

    @property
    def scale(self) -> float:
        """Return peft's factor: alpha / dim."""
        return float(self.layer.scaling[ADAPTER])

    @property
    def down(self) -> nn.Parameter:
        """Return a LoRA's factor (r, in) or (r, in, k, k)."""
        return self.tensors[lora.DOWN]

    @property
    def up(self) -> nn.Parameter:
        """Return a LoRA's factor (out, r) or (out, r, 1, 1)."""
        return self.tensors[lora.UP]

    @property
    def zero_init(self) -> str:
        """Return the name of the tensor that is initialised with zeros."""
        return next(name for name in self.method.ZERO_INIT if name in self.tensors)

    @property
    def factors(self) -> dict[str, nn.Parameter]:
        """Return the tensors whose product is the weight change."""
        return {name: tensor for name, tensor in self.tensors.items() if name != dora.SCALE}

    def change(self) -> Change:
        """Return the current weight change in peft, as factors for LoRA."""
        return Factors(self.down, self.up, self.scale) if self.algo == "lora" else self.delta()

    def product(self) -> Tensor:
        """Return the current weight change, computed here: for convolutions faster than peft."""
        return self.method.delta(self.factors) * self.scale

    def delta(self) -> Tensor:
        """Return the current weight change in peft as one matrix: (out, in * kernel)."""
        whole: Tensor = self.layer.get_delta_weight(ADAPTER)
        return whole.flatten(1)


@dataclass(frozen=True, slots=True)
class Lora:
    """All adapted layers of a model, sorted by name. has_dropout: some of them use dropout."""

    modules: tuple[LoraModule, ...]
    has_dropout: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the trained parts."""
        return tuple(dict.fromkeys(module.part for module in self.modules))

    def parameters(self, part: Part | None = None) -> list[nn.Parameter]:
        """Return the trained parameters of one part or of all, in the order of the modules."""
        chosen = [m for m in self.modules if part in (None, m.part)]
        return [parameter for m in chosen for parameter in m.tensors.values()]

    def grouped(
        self, args: NetworkArgs, rates: Mapping[str, float], blocks: BlockList
    ) -> tuple[dict[str, list[nn.Parameter]], dict[str, float]]:
        """Return the optimizer's parameter groups: name -> parameters, and name -> learning rate.

        rates: part -> learning rate.
        """
        return parameter_groups.grouped(
            (
                parameter_groups.group_of(
                    m.part,
                    m.block,
                    lora_plus=name in m.method.LORA_PLUS,
                    args=args,
                    rates=rates,
                    blocks=blocks,
                ),
                tensor,
            )
            for part in rates
            for m in self.modules
            if m.part == part
            for name, tensor in m.tensors.items()
        )

    @torch.no_grad()
    def limit_norms(self, max_norm: float) -> NormReport:
        """Scale down modules whose change exceeds max_norm, in place; see `weight_norms`. The
        changes of norms are no matrices, and are left as they are.
        """
        modules = [module for module in self.modules if module.algo != "norm"]
        if all(module.algo == "lora" for module in modules):
            return weight_norms.scale_weight_norms(
                [Factors(m.down, m.up, m.scale) for m in modules], max_norm
            )
        return weight_norms.scale_products(
            [(m.delta(), list(m.factors.values())) for m in modules], max_norm
        )

    @contextmanager
    def rounded(self, dtype: torch.dtype) -> Iterator[None]:
        """Round the network for a while to a file's `dtype`; DoRA magnitudes stay float32 there."""
        parts = [(m, name, p) for m in self.modules for name, p in m.tensors.items()]
        with self.with_values(
            [p if name == dora.SCALE else p.detach().to(dtype) for _, name, p in parts]
        ):
            yield

    @contextmanager
    def with_values(self, values: list[Tensor]) -> Iterator[None]:
        """Give the parameters other values for a while. values: in the order of `parameters`."""
        parameters = self.parameters()
        with torch.no_grad():
            exact = [parameter.detach().clone() for parameter in parameters]
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(parameters, exact, strict=True):
                    parameter.copy_(value)
