"""Lower the ranks of a LoRA: the best approximation of each rank, through QR of the factors and the
SVD of an r x r matrix, in float64. The layer's own matrix is never computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from datasetkit.core.errors import InputError, ModelFileError
from datasetkit.core.files import display
from trainer.lora_files import algebra
from trainer.lora_files.algebra import Svd
from trainer.lora_files.layer_names import LayerName, is_convolutional
from trainer.lora_files.lora_file import (
    BIAS,
    DORA,
    MID,
    NORM_BIAS,
    NORM_WEIGHT,
    PEFT_DORA,
    LoraFile,
    LoraLayer,
)
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.new_lora import NewLayer, flat_shape
from trainer.lora_files.precision import Array
from trainer.lora_files.tensor_file import NewTensor

RuleKind = Literal["rank", "fro", "ratio", "cumulative"]
_GROUPS: Final = {
    "transformer": "transformer",
    "text_encoder": "text encoder", "text_encoder_2": "second text encoder", "": "other",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RankRule:
    """How a rank is chosen. value: of the kind. most, most_kernel: the greatest rank of layers and
    of convolutions larger than 1x1, None for no limit.
    """

    kind: RuleKind
    value: float
    most: int | None = None
    most_kernel: int | None = None

    def choose(self, values: Array, *, kernel: bool) -> int:
        """Return the rank for singular values, of which the first is not 0."""
        if self.kind == "rank":
            rank = int(self.value)
        elif self.kind == "ratio":
            rank = algebra.rank_by_ratio(values, self.value)
        elif self.kind == "fro":
            rank = algebra.rank_by_norm(values, self.value)
        else:
            rank = algebra.rank_by_sum(values, self.value)
        most = self.most_kernel if kernel and self.most_kernel is not None else self.most
        if self.kind == "rank" and kernel and self.most_kernel is not None:
            rank = self.most_kernel
        return max(1, min(rank, len(values), most or rank))


@dataclass(frozen=True, slots=True)
class ResizedLayer:
    """What became of a layer. norm: of its change; kept: the share of it that is kept."""

    key: str
    group: str
    rank_before: int
    rank: int
    norm: float
    kept: float
    is_zero: bool


def group_of(name: LayerName) -> str:
    """Return the row of a table that a layer belongs to."""
    if name.part != "unet":
        return _GROUPS[name.part]
    return "UNet, convolutional blocks" if is_convolutional(name) else "UNet, attention blocks"


def require_plain(lora: LoraFile, *, as_lora: bool, force: bool) -> None:
    """Raise for layers that cannot be resized, or only when that is asked for."""
    for layer in lora.layers:
        if layer.method in ("incomplete", "other"):
            what = layer.problem or "its method is not known"
            raise ModelFileError(
                f"{display(lora.path)}: {display(layer.key)} cannot be resized: {what}",
                hint="dsk lora check lists all such layers",
            )
        if layer.is_dora and not force:
            raise InputError(
                f"{display(lora.path)} is a DoRA: its magnitudes were trained with the directions, "
                "and would not fit the resized ones exactly",
                hint="resize it all the same with --force",
            )
        if layer.method == "full" and len(layer.tensors["diff"].shape) < 2:
            raise InputError(
                f"{display(lora.path)}: {display(layer.key)} changes a norm or a bias, which "
                "no plain LoRA can hold",
                hint="use the file as it is",
            )
        if (layer.method not in ("lora", "norm") or MID in layer.tensors) and not as_lora:
            titles = {"loha": "LoHa", "lokr": "LoKr", "full": "full matrices"}
            what = titles.get(layer.method, "a LoRA with a middle factor (lora_mid)")
            raise InputError(
                f"{display(lora.path)} is not a plain LoRA: {display(layer.key)} is {what}",
                hint="--as-lora multiplies it out and makes a plain LoRA of it",
            )


def resize(
    lora: LoraFile, rule: RankRule, advance: Callable[[], None] = lambda: None
) -> Iterator[tuple[NewLayer, ResizedLayer]]:
    """Resize every layer but norms, which have no rank. advance: called after each. Raises
    ModelFileError for numbers that are not finite.
    """
    for layer in lora.layers:
        if layer.method != "norm":
            yield resize_layer(layer, rule)
        advance()


def resize_layer(layer: LoraLayer, rule: RankRule) -> tuple[NewLayer, ResizedLayer]:
    """Resize one layer; alpha / rank stays, so the singular values are those of up @ down."""
    decomposed, shape, scale, rank_before = _decomposed(layer)
    values = decomposed.values
    is_zero = not len(values) or bool(values[0] * abs(scale) <= algebra.ZERO)
    kernel = math.prod(shape[2:]) > 1
    rank = 1 if is_zero else rule.choose(values, kernel=kernel)
    factors = algebra.truncated(decomposed, rank)
    if is_zero:
        factors = LowRank(np.zeros_like(factors.up), factors.down)
    new = NewLayer(layer.key, layer.name, shape, factors, scale * rank)
    norm = float(np.linalg.norm(values)) * abs(scale)
    kept = algebra.energy_kept(values, rank)
    group = group_of(layer.name)
    return new, ResizedLayer(layer.key, group, rank_before, rank, norm, kept, is_zero)


def _decomposed(layer: LoraLayer) -> tuple[Svd, tuple[int, ...], float, int]:
    """Return the decomposition of a layer without alpha / rank, its shape, alpha / rank, and the
    rank that it has.
    """
    if layer.method == "lora":
        factors = algebra.low_rank(layer)
        algebra.require_finite(layer, factors.up, factors.down)
        plain = LowRank(factors.up, factors.down)
        return algebra.svd(plain), layer.shape, layer.scale, factors.rank
    matrix = algebra.delta(layer)
    algebra.require_finite(layer, matrix)
    shape = _shape(layer, matrix)
    return algebra.svd_of_matrix(matrix), shape, 1.0, layer.rank or min(matrix.shape)


def _shape(layer: LoraLayer, matrix: Array) -> tuple[int, ...]:
    """Return the shape of the weight of a layer that is not a plain LoRA."""
    shapes = {name: entry.shape for name, entry in layer.tensors.items()}
    rows, columns = matrix.shape
    source = next(
        (s for n in ("diff", "lokr_w2", "lokr_t2", "hada_t1") if len(s := shapes.get(n, ())) == 4),
        None,
    )
    if source is not None:
        kernel = source[2:]
        return (rows, columns // math.prod(kernel), *kernel)
    return flat_shape(layer.name, rows, columns)


def kept_tensors(lora: LoraFile) -> list[NewTensor]:
    """Return the tensors of a file that are no factors: DoRA's magnitudes, norms, and keys of no
    layer.
    """
    kept = [
        entry.name
        for layer in lora.layers
        for name, entry in layer.tensors.items()
        if name in (DORA, PEFT_DORA, BIAS, NORM_WEIGHT, NORM_BIAS)
    ]
    entries = [lora.file.entries[name] for name in (*kept, *lora.others)]
    return [
        NewTensor(e.name, e.dtype, e.shape, lambda name=e.name: lora.file.chunks(name))  # type: ignore[misc]
        for e in entries
    ]
