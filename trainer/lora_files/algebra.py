"""The weight changes of layers in float64: products, norms, singular values, truncation.

A layer's change is scale * up @ down; the kernels of a convolution are flattened into the input.
The product is as large as the layer itself and is not computed where the factors do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.lora_files.lora_file import BIAS, DOWN, MID, NORM_BIAS, NORM_WEIGHT, UP, LoraLayer
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.precision import Array

# Elements of the largest product that is computed; the largest layers have about a quarter.
_MOST: Final = 2**28
# Below this a layer changes nothing that a file can hold.
ZERO: Final = 1e-12
# Float noise at an exact threshold, as in a flat spectrum.
_NOISE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Svd:
    """The singular values of a change, largest first, with the vectors: left (out, k), right (k,
    in * kernel).
    """

    left: Array
    values: Array
    right: Array


def low_rank(layer: LoraLayer) -> LowRank:
    """Return the factors of a LoRA layer; a middle one (LyCORIS' CP decomposition) is multiplied
    into `down`, which keeps the rank.
    """
    down: Array = layer.array(DOWN)
    up: Array = layer.array(UP)
    up = up.reshape(len(up), -1)
    if MID in layer.tensors:
        flat = down.reshape(down.shape[0], -1)
        down = _einsum("ij...,jr->ir...", layer.array(MID), flat)
    return LowRank(up, down.reshape(down.shape[0], -1), layer.scale)


def delta(layer: LoraLayer) -> Array:
    """Return the whole change of a layer's weight: (out, in * kernel). Raises ModelFileError for a
    layer that is larger than any model's.
    """
    if layer.method == "norm":
        return layer.array(NORM_WEIGHT)[:, None]
    if layer.method == "lora":
        factors = low_rank(layer)
        _require_size(layer, factors.up.shape[0] * factors.down.shape[1])
        return factors.product()
    if layer.method == "full":
        whole = layer.array("diff")
        return whole.reshape(whole.shape[0], -1)
    if layer.method == "loha":
        first, second = (_hada(layer, n) for n in (1, 2))
        return layer.scale * first * second
    if layer.method == "lokr":
        small, large = _lokr(layer, 1), _lokr(layer, 2)
        _require_size(layer, small.size * large.size)
        small = small.reshape(*small.shape, *(1,) * (large.ndim - 2))
        whole = np.kron(small, large).astype(np.float64)
        return layer.scale * whole.reshape(whole.shape[0], -1)
    raise ModelFileError(
        f"{display(layer.file.path)}: {display(layer.key)} cannot be multiplied out"
        + (f": {layer.problem}" if layer.problem else ""),
        hint="only LoRA, LoCon, LoHa, LoKr, full matrices and norms can",
    )


def bias(layer: LoraLayer) -> Array | None:
    """Return the change of a layer's bias, (out,); None without one."""
    name = NORM_BIAS if layer.method == "norm" else BIAS
    return layer.array(name).reshape(-1) if name in layer.tensors else None


def require_finite(layer: LoraLayer, *arrays: Array) -> None:
    """Raise ModelFileError unless the arrays and alpha of a layer are finite."""
    if not all(np.isfinite(array).all() for array in (*arrays, np.asarray(layer.scale))):
        raise ModelFileError(
            f"{display(layer.file.path)}: {display(layer.key)} has numbers that are not finite",
            hint="dsk lora check names them",
        )


def _require_size(layer: LoraLayer, size: int) -> None:
    if size > _MOST:
        raise ModelFileError(
            f"{display(layer.file.path)}: {display(layer.key)} would be a matrix of {size:,} "
            "elements, larger than a layer of any model",
            hint="the file is damaged, or is not a LoRA",
        )


def _hada(layer: LoraLayer, n: int) -> Array:
    a, b = layer.array(f"hada_w{n}_a"), layer.array(f"hada_w{n}_b")
    if f"hada_t{n}" not in layer.tensors:
        _require_size(layer, a.shape[0] * b.shape[1])
        result: Array = a @ b
        return result
    return _tucker(layer, layer.array(f"hada_t{n}"), a, b)


def _lokr(layer: LoraLayer, n: int) -> Array:
    if f"lokr_w{n}" in layer.tensors:
        return layer.array(f"lokr_w{n}")
    a, b = layer.array(f"lokr_w{n}_a"), layer.array(f"lokr_w{n}_b")
    if f"lokr_t{n}" in layer.tensors:
        whole = _tucker(layer, layer.array(f"lokr_t{n}"), a, b)
        return whole.reshape(a.shape[1], b.shape[1], *layer.tensors[f"lokr_t{n}"].shape[2:])
    _require_size(layer, a.shape[0] * math.prod(b.shape[1:]))
    return _einsum("or,r...->o...", a, b)


def _tucker(layer: LoraLayer, core: Array, a: Array, b: Array) -> Array:
    """Return LyCORIS' product of a core (i, j, k, k) with a, (i, out), and b, (j, in): (out, in * k
    * k).
    """
    _require_size(layer, a.shape[1] * b.shape[1] * math.prod(core.shape[2:]))
    whole = _einsum("ij...,ip,jr->pr...", core, a, b)
    return whole.reshape(whole.shape[0], -1)


def _einsum(subscripts: str, *arrays: Array) -> Array:
    result: Array = np.einsum(subscripts, *arrays, optimize=True)
    return result


# ---- singular values


def singular_values(factors: LowRank) -> Array:
    """Return the singular values of a change, of which at most min(out, r, in) are not 0."""
    first: Any = np.linalg.qr(factors.up, mode="r")
    second: Any = np.linalg.qr(factors.down.T, mode="r")
    values: Array = np.linalg.svd(first @ second.T, compute_uv=False)
    return values * abs(factors.scale)


def svd(factors: LowRank) -> Svd:
    """Decompose a change through its factors: with up = Q1 R1 and down^T = Q2 R2, the singular
    values of up @ down are those of R1 R2^T, a matrix of r x r.
    """
    first, upper = np.linalg.qr(factors.up)
    second, lower = np.linalg.qr(factors.down.T)
    left, values, right = np.linalg.svd(upper @ lower.T, full_matrices=False)
    # A negative scale turns the direction.
    sign = -1.0 if factors.scale < 0 else 1.0
    return Svd(first @ left, values * abs(factors.scale), sign * right @ second.T)


def svd_of_matrix(matrix: Array) -> Svd:
    """Decompose a whole change."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return Svd(left, values, right)


def truncated(decomposed: Svd, rank: int) -> LowRank:
    """Return the best change of a rank, with the singular values split between both factors so that
    each stays in the range of fp16.
    """
    root = np.sqrt(decomposed.values[:rank])
    return LowRank(decomposed.left[:, :rank] * root, root[:, None] * decomposed.right[:rank])


def energy_kept(values: Array, rank: int) -> float:
    """Return the norm of the first `rank` singular values, as a share of the norm of all."""
    whole = float(np.linalg.norm(values))
    return float(np.linalg.norm(values[:rank])) / whole if whole else 1.0


# ---- the rules that choose a rank


def rank_by_ratio(values: Array, ratio: float) -> int:
    """Return the number of singular values above the largest / ratio."""
    return max(1, int((values > values[0] / ratio).sum()))


def rank_by_norm(values: Array, share: float) -> int:
    """Return the least rank that keeps a share of the Frobenius norm."""
    return _least(np.cumsum(values**2) / float((values**2).sum()), share**2)


def rank_by_sum(values: Array, share: float) -> int:
    """Return the least rank that keeps a share of the sum of the singular values."""
    return _least(np.cumsum(values) / float(values.sum()), share)


def _least(kept: Array, share: float) -> int:
    return min(int(np.searchsorted(kept, share - _NOISE)) + 1, len(kept))


def stable_rank(values: Array) -> float:
    """Return |S|^2 / S_0^2: how many directions share the change. Values must not all be 0."""
    return float((values**2).sum() / values[0] ** 2)


def entropy_rank(values: Array) -> float:
    """Return exp of the entropy of S / sum(S). Values must not all be 0."""
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
