"""The loss of each sample: its target, its kind, its mask, and its weight by the signal-to-noise
ratio.

Nothing here takes the mean over a batch: each function gives one value a sample, so that an image
weighs the same in a full batch and in the last, smaller one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.objective.noise_schedule import TIMESTEPS, Prediction, signal_and_noise

# Above this a weight no longer changes: SNR at timestep 0 is 1175 (sd-scripts' bound).
_SNR_BOUND: Final = 1000.0


# ---- targets
# --------------------------------------------------------------------------------------------------


def epsilon_target(latents: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the noise itself (Ho et al. 2020, eq. 14)."""
    return noise


def v_target(latents: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return the velocity sqrt(ab_t) eps - sqrt(1 - ab_t) z (Salimans & Ho 2022, appendix D)."""
    signal, amount = signal_and_noise(alphas_cumprod, t, latents)
    return signal * noise - amount * latents


TARGETS: Final[dict[Prediction, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "epsilon": epsilon_target,
    "v": v_target,
}

# ---- kinds of loss
# --------------------------------------------------------------------------------------------------


def l2(difference: Tensor, c: Tensor) -> Tensor:
    """Return d^2."""
    return difference**2


def l1(difference: Tensor, c: Tensor) -> Tensor:
    """Return |d|."""
    return difference.abs()


def huber(difference: Tensor, c: Tensor) -> Tensor:
    """Return 2 c (sqrt(d^2 + c^2) - c): d^2 for small d, 2 c |d| for large ones (pseudo-Huber,
    Charbonnier 1994).
    """
    return 2.0 * c * (torch.sqrt(difference**2 + c**2) - c)


def smooth_l1(difference: Tensor, c: Tensor) -> Tensor:
    """Return 2 (sqrt(d^2 + c^2) - c): d^2 / c for small d, 2 |d| for large ones."""
    return 2.0 * (torch.sqrt(difference**2 + c**2) - c)


# Each gives the error of every element from the difference and c, which has a value a sample.
LOSSES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "l2": l2,
    "l1": l1,
    "huber": huber,
    "smooth_l1": smooth_l1,
}


def constant_c(t: Tensor, snr: Tensor, c: float, scale: float) -> Tensor:
    """Return c times scale at every timestep."""
    return torch.full_like(snr, c * scale)


def exponential_c(t: Tensor, snr: Tensor, c: float, scale: float) -> Tensor:
    """Return c^(t / 1000) times scale: from `scale` at the clearest timestep to c times scale at
    the noisiest.
    """
    return torch.exp(t.to(snr) * (math.log(c) / TIMESTEPS)) * scale


def snr_c(t: Tensor, snr: Tensor, c: float, scale: float) -> Tensor:
    """Return (1 - c) / (1 + sigma)^2 + c with sigma = sqrt(1 / s): 1 at the clearest timestep, c at
    the noisiest.

    sd-scripts does not multiply this one by huber_scale, and neither is it here.
    """
    return (1.0 - c) / (1.0 + snr.rsqrt()) ** 2 + c


# c of a Huber loss at each timestep (Khrapov et al. 2024, arXiv:2403.16728): large where the loss
# shall be as l2.
HUBER_SCHEDULES: Final[dict[str, Callable[[Tensor, Tensor, float, float], Tensor]]] = {
    "constant": constant_c,
    "exponential": exponential_c,
    "snr": snr_c,
}


def each(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, kind: str, c: Tensor
) -> Tensor:
    """Return the loss of each sample, its mean over (c, h, w): float32 of shape (b,).

    mask: (b, 1, h, w) from 0 to 1, at the size of the latents; see `latent_mask`. The mean is still
    taken over all places, so an image with a small mask gives a small loss (as in sd-scripts).
    kind: of `LOSSES`; c: (b,), of `HUBER_SCHEDULES`, without meaning for l2 and l1.
    """
    difference = prediction.float() - target.float()
    error = LOSSES[kind](difference, c.to(difference).reshape(-1, *[1] * (difference.ndim - 1)))
    if mask is not None:
        error = error * mask.to(error)
    return error.mean(dim=tuple(range(1, error.ndim)))


def mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the squared error of each sample: `each` of the kind l2."""
    return each(prediction, target, mask, kind="l2", c=torch.ones(len(prediction)))


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink masks of pixels (b, 1, H, W) to the latents' (height, width): each place is the mean
    of its area.
    """
    return functional.interpolate(mask.float(), size, mode="area")


# ---- weights of timesteps
# -------------------------------------------------------------------------------------------


def min_snr(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return min(s, gamma) / s for epsilon, / (s + 1) for v (Hang et al. 2023, arXiv:2303.09556,
    eq. 8 and 9).

    snr: the signal-to-noise ratio of each sample's timestep, of any shape; the weights have the
    same.
    """
    return snr.clamp(max=gamma) / _MIN_SNR_DIVISOR[prediction](snr)


def debiased(snr: Tensor, prediction: Prediction) -> Tensor:
    """Return 1 / sqrt(s) for epsilon (Yu et al. 2024, arXiv:2310.08442, eq. 12), 1 / (s + 1) for v;
    s at most 1000.

    The form for v is sd-scripts'; OneTrainer takes 1 / sqrt(s + 1).
    """
    return 1.0 / _DEBIASED_DIVISOR[prediction](snr.clamp(max=_SNR_BOUND))


def like_noise(snr: Tensor) -> Tensor:
    """Return s / (s + 1), s at most 1000: a loss of velocities becomes as large as one of noise."""
    bounded = snr.clamp(max=_SNR_BOUND)
    return bounded / (bounded + 1.0)


def with_v_like(snr: Tensor, share: float) -> Tensor:
    """Return 1 + share (s + 1) / s, s at most 1000: a loss of noise with `share` of that of
    velocities added.
    """
    return 1.0 + share / like_noise(snr)


_MIN_SNR_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {
    "epsilon": lambda s: s,
    "v": lambda s: s + 1.0,
}
_DEBIASED_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {
    "epsilon": torch.sqrt,
    "v": lambda s: s + 1.0,
}

# Option -> the weight of each sample from its SNR, the option's value and what is predicted.
WEIGHTS: Final[dict[str, Callable[[Tensor, float, Prediction], Tensor]]] = {
    "min_snr_gamma": min_snr,
    "debiased_estimation_loss": lambda snr, _, prediction: debiased(snr, prediction),
    "scale_v_pred_loss_like_noise_pred": lambda snr, _, prediction: like_noise(snr),
    "v_pred_like_loss": lambda snr, share, prediction: with_v_like(snr, share),
}


def weights(snr: Tensor, prediction: Prediction, asked: Mapping[str, float | None]) -> Tensor:
    """Return the weight of each sample, 1 where nothing is asked; those asked together are
    multiplied.

    asked: option of `WEIGHTS` -> its value; None, False and 0 ask for nothing.
    """
    weight = torch.ones_like(snr)
    for option, value in asked.items():
        if value:
            weight = weight * WEIGHTS[option](snr, value, prediction)
    return weight
