"""Weight norms: how large the change is that each LoRA module makes, and how it is held under a
maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of one module. down: (r, in) or (r, in, k, k); up: (out, r) or (out, r, 1,
    1); scale: alpha/r.
    """

    down: Tensor
    up: Tensor
    scale: float


# What a module adds to its layer: in two factors, or whole as (out, in * k * k).
Change = Factors | Tensor


@dataclass(frozen=True, slots=True)
class NormReport:
    """What `scale_weight_norms` did: tensors of no dimension on the factors' device; reading one
    waits for it.

    scaled: modules that were made smaller. mean, max: of the norms as they are now.
    """

    scaled: Tensor
    mean: Tensor
    max: Tensor


def delta_norms(modules: Sequence[Factors]) -> Tensor:
    """Return the Frobenius norm of scale * up @ down for each module: float32 of shape (modules,).

    The product, as large as the layer itself, is never made: ||U D||^2 = sum of (U^T U) * (D D^T),
    two r x r matrices. A convolution counts as the matrix of its flattened kernels, which has the
    same norm.
    """
    return torch.stack([_delta_norm(module) for module in modules])


@torch.no_grad()
def scale_weight_norms(modules: Sequence[Factors], max_norm: float) -> NormReport:
    """Scale both factors of each module in place, so that no norm of scale * up @ down is over
    max_norm.

    As sd-scripts: n = max(norm, max_norm / 2), q = min(n, max_norm) / n, each factor times sqrt(q).
    A module under the maximum is multiplied by exactly 1. Nothing is copied to the host. Source:
    the max-norm constraint of Srivastava et al. 2014 (JMLR 15, section 5.1), on the whole matrix.
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
    """Do the same where a change is the product of any number of tensors, each of which takes its
    share.

    modules: the change as it is now, and what it is the product of, which is changed in place.
    """
    norms = torch.stack([whole.float().norm() for whole, _ in modules])
    floored = norms.clamp(min=max_norm / 2)
    ratios = floored.clamp(max=max_norm) / floored
    for (_, tensors), ratio in zip(modules, ratios, strict=True):
        for tensor in tensors:
            tensor.mul_(ratio ** (1 / len(tensors)))
    now = norms * ratios
    return NormReport(scaled=(ratios < 1).sum(), mean=now.mean(), max=now.max())


def change_norm(change: Change) -> float:
    """Return the Frobenius norm of what a module adds."""
    if isinstance(change, Factors):
        return float(delta_norms([change]))
    return float(change.detach().double().norm())


def change_distance(one: Change, other: Change) -> float:
    """Return the Frobenius norm of the difference of what two modules add, in float64.

    Infinite for layers of different sizes, NaN where a tensor has one.
    """
    if isinstance(one, Factors) and isinstance(other, Factors):
        return delta_distance(one, other)
    whole, wanted = _whole(one), _whole(other)
    return float((whole - wanted).norm()) if whole.shape == wanted.shape else math.inf


def _whole(change: Change) -> Tensor:
    return (
        _up(change) @ _down(change) * change.scale
        if isinstance(change, Factors)
        else change.detach().double()
    )


def delta_distance(one: Factors, other: Factors) -> float:
    """Return the Frobenius norm of the difference of what two modules add, of any ranks, in float64
    and as above.

    It is exact to about 1e-8 of the norms. Infinite for layers of different sizes, NaN where a
    factor has one.
    """
    # A linear layer may be written as a convolution of one pixel.
    if one.up.shape[0] != other.up.shape[0] or one.down[0].numel() != other.down[0].numel():
        return math.inf
    up = torch.cat([_up(one) * one.scale, _up(other) * -other.scale], dim=1)
    down = torch.cat([_down(one), _down(other)])
    return float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0.0).sqrt())


def _up(module: Factors) -> Tensor:
    return module.up.detach().double().flatten(1)


def _down(module: Factors) -> Tensor:
    return module.down.detach().double().flatten(1)


def _delta_norm(module: Factors) -> Tensor:
    down, up = module.down.float().flatten(1), module.up.float().flatten(1)
    # Rounding may leave a sum of a hair under 0 where the true one is 0.
    return ((up.T @ up) * (down @ down.T)).sum().clamp(min=0.0).sqrt() * module.scale
