"""Weight norms: how large the change is that each LoRA module makes, and how it is held under a maximum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Factors:
    """The two factors of one module. down: (r, in) or (r, in, k, k); up: (out, r) or (out, r, 1, 1); scale: alpha/r."""

    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class NormReport:
    """What `scale_weight_norms` did: tensors of no dimension on the factors' device; reading one waits for it.

    scaled: modules that were made smaller. mean, max: of the norms as they are now.
    """

    scaled: Tensor
    mean: Tensor
    max: Tensor


def delta_norms(modules: Sequence[Factors]) -> Tensor:
    """Return the Frobenius norm of scale * up @ down for each module: float32 of shape (modules,).

    The product, as large as the layer itself, is never made: ||U D||^2 = sum of (U^T U) * (D D^T), two r x r
    matrices. A convolution counts as the matrix of its flattened kernels, which has the same norm.
    """
    return torch.stack([_delta_norm(module) for module in modules])


@torch.no_grad()
def scale_weight_norms(modules: Sequence[Factors], max_norm: float) -> NormReport:
    """Scale both factors of each module in place, so that no norm of scale * up @ down is over max_norm.

    As sd-scripts: n = max(norm, max_norm / 2), q = min(n, max_norm) / n, each factor times sqrt(q). A module under
    the maximum is multiplied by exactly 1. Nothing is copied to the host. Source: the max-norm constraint of
    Srivastava et al. 2014 (JMLR 15, section 5.1), on the whole matrix.
    """
    norms = delta_norms(modules)
    floored = norms.clamp(min=max_norm / 2)
    ratios = floored.clamp(max=max_norm) / floored
    for module, root in zip(modules, ratios.sqrt(), strict=True):
        module.down.mul_(root)
        module.up.mul_(root)
    now = norms * ratios
    return NormReport(scaled=(ratios < 1).sum(), mean=now.mean(), max=now.max())


def delta_distance(one: Factors, other: Factors) -> float:
    """Return the Frobenius norm of the difference of what two modules add, of any ranks, in float64 and as above.

    It is exact to about 1e-8 of the norms. Infinite for layers of different sizes, NaN where a factor has one.
    """
    if one.up.shape[0] != other.up.shape[0] or one.down.shape[1:] != other.down.shape[1:]:
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
