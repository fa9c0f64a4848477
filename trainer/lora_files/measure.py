"""Numbers of each layer of a LoRA: norm, rank that it uses, zeros."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.lora_files import algebra
from trainer.lora_files.base_weights import BaseWeights
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.lora_file import ALPHA, DORA, PEFT_DORA, LoraFile, LoraLayer

_NOT_WEIGHTS: Final = (ALPHA, DORA, PEFT_DORA)


@dataclass(frozen=True, slots=True)
class LayerMeasure:
    """The numbers of a layer. norm: Frobenius norm of its change, NaN where it cannot be measured.

    stable_rank, entropy_rank: of LoRA layers that are not dead, else None. kept: rank that keeps
    0.95 of the norm. zero_factor: the tensor that is all zero, "" for none. relative: the norm as a
    share of the base weight's. zeros, elements: exact zeros among fp16 elements. infinite: the
    first element that is not finite: tensor, index and value. size: of the layer as a matrix, None
    where it is not known.
    """

    key: str
    name: LayerName
    method: str
    rank: int
    alpha: float | None
    norm: float
    stable_rank: float | None = None
    entropy_rank: float | None = None
    kept: int | None = None
    zero_factor: str = ""
    relative: float | None = None
    zeros: int = 0
    elements: int = 0
    infinite: str = ""
    size: tuple[int, int] | None = None

    @property
    def is_dead(self) -> bool:
        """Tell whether the layer changes nothing."""
        return self.norm <= algebra.ZERO


def measure(
    lora: LoraFile, base: BaseWeights | None = None, advance: Callable[[], None] = lambda: None
) -> tuple[LayerMeasure, ...]:
    """Measure each layer. advance: called after each."""
    measures = []
    for layer in lora.layers:
        measures.append(_measure(layer, base))
        advance()
    return tuple(measures)


def _measure(layer: LoraLayer, base: BaseWeights | None) -> LayerMeasure:
    numbers = _numbers(layer)
    stable = entropy = kept = relative = None
    norm, size = np.nan, None
    if layer.method == "lora":
        size = layer.shape[0], math.prod(layer.shape[1:])
    measurable = not numbers.infinite and layer.method not in ("incomplete", "other")
    if measurable and layer.method == "lora":
        values = algebra.singular_values(algebra.low_rank(layer))
        norm = float(np.linalg.norm(values))
        if norm > algebra.ZERO:
            stable, entropy = algebra.stable_rank(values), algebra.entropy_rank(values)
            kept = algebra.rank_by_norm(values, 0.95)
    elif measurable:
        whole = algebra.delta(layer)
        norm, size = float(np.linalg.norm(whole)), (whole.shape[0], whole.shape[1])
    change = norm  # of the weight alone
    if measurable and layer.method == "norm" and (bias := algebra.bias(layer)) is not None:
        norm = float(np.hypot(norm, np.linalg.norm(bias)))
    target = base.layers.get(layer.name) if base is not None else None
    if target is not None and size == target.matrix_size:
        weight = float(np.linalg.norm(target.matrix()))
        relative = change / weight if weight else None
    return LayerMeasure(
        key=layer.key,
        name=layer.name,
        method=layer.method,
        rank=layer.rank if layer.method != "incomplete" else 0,
        alpha=layer.alpha,
        norm=norm,
        stable_rank=stable,
        entropy_rank=entropy,
        kept=kept,
        zero_factor=numbers.zero_factor if norm <= algebra.ZERO else "",
        relative=relative,
        zeros=numbers.zeros,
        elements=numbers.elements,
        infinite=numbers.infinite,
        size=size,
    )


@dataclass(slots=True)
class _Numbers:
    """What is counted over the tensors of a layer, see LayerMeasure."""

    zeros: int = 0
    elements: int = 0
    zero_factor: str = ""
    infinite: str = ""


def _numbers(layer: LoraLayer) -> _Numbers:
    numbers = _Numbers()
    if not math.isfinite(layer.scale) and ALPHA not in layer.tensors:
        numbers.infinite = f"alpha of {layer.key} in the header is {layer.alpha}"
    for name, entry in layer.tensors.items():
        if not entry.is_float:
            continue
        values = layer.array(name)
        finite = np.isfinite(values)
        if not numbers.infinite and not finite.all():
            index = np.unravel_index(int(np.argmin(finite)), values.shape)
            shown = ", ".join(str(int(n)) for n in index)
            numbers.infinite = f"{entry.name}[{shown}] is {values[index]}"
        if name in _NOT_WEIGHTS:
            continue
        if not values.any():
            numbers.zero_factor = numbers.zero_factor or name.removesuffix(".weight")
        elif entry.dtype == "F16":
            numbers.zeros += int((values == 0).sum())
            numbers.elements += values.size
    return numbers
