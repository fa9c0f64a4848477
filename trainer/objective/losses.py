"""The loss of each sample: its target (noise or velocity), its kind (l2, l1, Huber) and its mask.

Nothing here takes the mean over a batch. Each function returns one value per sample, so an image
weighs the same in a full batch and in the last, smaller one. The weights of timesteps (min-SNR and
others) are in `loss_weights`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.objective.noise_schedule import TIMESTEPS, Prediction, signal_and_noise

# ---- targets


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


# Each returns the error of every element. Arguments: the difference, and c (one value per sample).
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

    sd-scripts does not multiply this one by huber_scale; neither does this function.
    """
    return (1.0 - c) / (1.0 + snr.rsqrt()) ** 2 + c


# c of a Huber loss at each timestep (Khrapov et al. 2024, arXiv:2403.16728): a large c makes the
# loss behave like l2.
HUBER_SCHEDULES: Final[dict[str, Callable[[Tensor, Tensor, float, float], Tensor]]] = {
    "constant": constant_c,
    "exponential": exponential_c,
    "snr": snr_c,
}


def each(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, kind: str, c: Tensor
) -> Tensor:
    """Return the loss of each sample, averaged over (c, h, w): float32 of shape (b,).

    mask: (b, 1, h, w) from 0 to 1, at the size of the latents; see `latent_mask`. The mean is still
    taken over all latent pixels, so an image with a small mask has a small loss (as in sd-scripts).
    kind: a key of `LOSSES`; c: (b,), from `HUBER_SCHEDULES`, unused by l2 and l1.
    """
    difference = prediction.float() - target.float()
    error = LOSSES[kind](difference, c.to(difference).reshape(-1, *[1] * (difference.ndim - 1)))
    if mask is not None:
        error = error * mask.to(error)
    return error.mean(dim=tuple(range(1, error.ndim)))


def mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared error of each sample: `each` with kind l2."""
    return each(prediction, target, mask, kind="l2", c=torch.ones(len(prediction)))


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink pixel masks (b, 1, H, W) to the latents' (height, width) by averaging areas."""
    return functional.interpolate(mask.float(), size, mode="area")
