"""The loss of each sample: its target, its mask, and its weight by the signal-to-noise ratio.

Nothing here takes the mean over a batch: each function gives one value a sample, so that a picture weighs the same in
a full batch and in the last, smaller one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from trainer.schedule import Prediction, signal_and_noise

# Above this the debiased weight no longer falls: SNR at timestep 0 is 1175 (sd-scripts' bound).
_SNR_BOUND: Final = 1000.0


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


def mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the squared error of each sample, its mean over (c, h, w): float32 of shape (b,).

    mask: (b, 1, h, w) from 0 to 1, at the size of the latents; see `latent_mask`. The mean is still taken over all
    places, so a picture with a small mask gives a small loss (as in sd-scripts).
    """
    error = (prediction.float() - target.float()) ** 2
    if mask is not None:
        error = error * mask.to(error)
    return error.mean(dim=tuple(range(1, error.ndim)))


def latent_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink masks of pixels (b, 1, H, W) to the latents' (height, width): each place is the mean of its area."""
    return functional.interpolate(mask.float(), size, mode="area")


def min_snr(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return min(s, gamma) / s for epsilon, / (s + 1) for v (Hang et al. 2023, arXiv:2303.09556, eq. 8 and 9).

    snr: the signal-to-noise ratio of each sample's timestep, of any shape; the weights have the same.
    """
    return snr.clamp(max=gamma) / _MIN_SNR_DIVISOR[prediction](snr)


def debiased(snr: Tensor, prediction: Prediction) -> Tensor:
    """Return 1 / sqrt(s) for epsilon (Yu et al. 2024, arXiv:2310.08442, eq. 12), 1 / (s + 1) for v; s at most 1000.

    The form for v is sd-scripts'; OneTrainer takes 1 / sqrt(s + 1).
    """
    return 1.0 / _DEBIASED_DIVISOR[prediction](snr.clamp(max=_SNR_BOUND))


_MIN_SNR_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {"epsilon": lambda s: s, "v": lambda s: s + 1.0}
_DEBIASED_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {"epsilon": torch.sqrt, "v": lambda s: s + 1.0}


def weights(
    snr: Tensor, prediction: Prediction, *, min_snr_gamma: float | None = None, debiased_estimation_loss: bool = False
) -> Tensor:
    """Return the weight of each sample, 1 where nothing is asked; asked together the two are multiplied.

    min_snr_gamma: None or 0 for none. The names are the options' own.
    """
    weight = torch.ones_like(snr)
    if min_snr_gamma:
        weight = weight * min_snr(snr, min_snr_gamma, prediction)
    if debiased_estimation_loss:
        weight = weight * debiased(snr, prediction)
    return weight
