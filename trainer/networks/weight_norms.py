"""Norms of the weight change of each LoRA module, and scaling to a maximum (scale_weight_norms)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of a module. down: (r, in) or (r, in, k, k); up: (out, r) or (out, r, 1, 1);
    scale: alpha / r.
    """

    down: Tensor
    up: Tensor
    scale: float


# The weight change of a module: two factors, or one matrix (out, in * k * k).
Change = Factors | Tensor


@dataclass(frozen=True, slots=True)
class NormReport:
    """The result of `scale_weight_norms`: 0-dim tensors on the factors' device; reading one
    synchronises.

    scaled: number of modules scaled down. mean, max: of the norms afterwards.
    """

    scaled: Tensor
    mean: Tensor
    max: Tensor


def delta_norms(modules: Sequence[Factors]) -> Tensor:
    """Return the Frobenius norm of scale * up @ down for each module: float32 of shape (modules,).

    The product, as large as the layer itself, is not computed: ||U D||^2 = sum of (U^T U) * (D
    D^T), two r x r matrices. A convolution's kernels are flattened to a matrix with the same norm.
    """
    return torch.stack([_delta_norm(module) for module in modules])


@torch.no_grad()
def scale_weight_norms(modules: Sequence[Factors], max_norm: float) -> NormReport:
    """Scale both factors of each module in place, so that no norm of scale * up @ down exceeds
    max_norm.

    As in sd-scripts: n = max(norm, max_norm / 2), q = min(n, max_norm) / n, each factor times
    sqrt(q). A module below the maximum is multiplied by exactly 1. Nothing is copied to the host.
    Source: the max-norm constraint of Srivastava et al. 2014 (JMLR 15, section 5.1), on the whole
    matrix.
    """
    norms = delta_norms(modules)
    floored = norms.clamp(min=max_norm / 2)
    ratios = floored.clamp(max=max_norm) / floored
    for module, root in zip(modules, ratios.sqrt(), strict=True):
        module.down.mul_(root)
        module.up.mul_(root)
    now = norms * ratios
    return NormReport(scaled=(ratios < 1).sum(), mean=now.mean(), max=now.max())


@torch.no_grad()
def scale_products(
    modules: Sequence[tuple[Tensor, Sequence[Tensor]]], max_norm: float
) -> NormReport:
    """Do the same for changes that are a product of any number of tensors.

    modules: the current change, and the tensors of its product, which are scaled in place.
    """
    norms = torch.stack([change.float().norm() for change, _ in modules])
    floored = norms.clamp(min=max_norm / 2)
    ratios = floored.clamp(max=max_norm) / floored
    for (_, tensors), ratio in zip(modules, ratios, strict=True):
        for tensor in tensors:
            tensor.mul_(ratio ** (1 / len(tensors)))
    now = norms * ratios
    return NormReport(scaled=(ratios < 1).sum(), mean=now.mean(), max=now.max())


def change_norm(change: Change) -> float:
    """Return the Frobenius norm of a weight change, in float64: the squares of tiny changes are 0
    in float32.
    """
    if isinstance(change, Factors):
        up, down = _up(change), _down(change)
        product = ((up.T @ up) * (down @ down.T)).sum().clamp(min=0.0)
        return float(product.sqrt()) * abs(change.scale)
    return float(change.detach().double().norm())


def change_distance(first: Change, second: Change) -> float:
    """Return the Frobenius norm of the difference of two weight changes, in float64.

    Infinite for layers of different sizes, NaN if a tensor has one.
    """
    if isinstance(first, Factors) and isinstance(second, Factors):
        return delta_distance(first, second)
    a, b = _matrix(first), _matrix(second)
    return float((a - b).norm()) if a.shape == b.shape else math.inf


def _matrix(change: Change) -> Tensor:
    return (
        _up(change) @ _down(change) * change.scale
        if isinstance(change, Factors)
        else change.detach().double()
    )


def delta_distance(first: Factors, second: Factors) -> float:
    """Return the Frobenius norm of the difference of two weight changes of any ranks, in float64.

    Computed without the products, exact to about 1e-8 of the norms. Infinite for layers of
    different sizes, NaN if a factor has one.
    """
    # A linear layer may be stored as a 1x1 convolution.
    if first.up.shape[0] != second.up.shape[0] or first.down[0].numel() != second.down[0].numel():
        return math.inf
    up = torch.cat([_up(first) * first.scale, _up(second) * -second.scale], dim=1)
    down = torch.cat([_down(first), _down(second)])
    return float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0.0).sqrt())


def _up(module: Factors) -> Tensor:
    return module.up.detach().double().flatten(1)


def _down(module: Factors) -> Tensor:
    return module.down.detach().double().flatten(1)


def _delta_norm(module: Factors) -> Tensor:
    down, up = module.down.float().flatten(1), module.up.float().flatten(1)
    # Rounding may make a sum slightly negative where the exact one is 0.
    return ((up.T @ up) * (down @ down.T)).sum().clamp(min=0.0).sqrt() * module.scale
