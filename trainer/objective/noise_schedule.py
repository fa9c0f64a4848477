"""The noise schedule of Stable Diffusion: how much signal is left at each timestep."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

# What the UNet predicts: the noise, or the velocity of Salimans & Ho 2022 (arXiv:2202.00512,
# appendix D).
Prediction = Literal["epsilon", "v"]
PREDICTIONS: Final[tuple[Prediction, ...]] = ("epsilon", "v")
TIMESTEPS: Final = 1000


def alphas_cumprod(
    beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = TIMESTEPS
) -> Tensor:
    """Return alpha-bar of each timestep, float32 of shape (steps,): DDPM's product (Ho et al. 2020,
    eq. 4).

    The betas are `scaled_linear`, as in latent diffusion: linear in their square roots.
    The product is taken in float64 and rounded once.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def zero_terminal(alphas_cumprod: Tensor) -> Tensor:
    """Return alpha-bar rescaled so that the last timestep is pure noise and the first is unchanged.

    The square roots are shifted and scaled (Lin et al. 2024, arXiv:2305.08891, alg. 1). SNR weights
    must be computed from the result.
    """
    signal = alphas_cumprod.double().sqrt()
    rescaled = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return (rescaled**2).float()


def alphas_of(*, zero_terminal_snr: bool) -> Tensor:
    """Return a run's alpha-bar of each timestep."""
    return zero_terminal(alphas_cumprod()) if zero_terminal_snr else alphas_cumprod()


def betas(alphas_cumprod: Tensor) -> list[float]:
    """Return the betas of alpha-bar, for samplers. Some divide by alpha-bar, so 0 becomes 2^-24."""
    positive = alphas_cumprod.double().clamp(min=2**-24)
    before = torch.cat([torch.ones(1, dtype=positive.dtype), positive[:-1]])
    values: list[float] = (1.0 - positive / before).tolist()
    return values


def snr(alphas_cumprod: Tensor) -> Tensor:
    """Return the signal-to-noise ratio alpha-bar / (1 - alpha-bar) of each timestep, of the same
    shape.
    """
    return alphas_cumprod / (1.0 - alphas_cumprod)


def signal_and_noise(alphas_cumprod: Tensor, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return sqrt(alpha-bar_t) and sqrt(1 - alpha-bar_t), each (b, 1, 1, 1), with dtype and device
    of `like`.

    t: (b,), timesteps. The roots are computed before the cast: in bfloat16 1 - alpha-bar_0 would be
    0.
    """
    at_t = alphas_cumprod.to(like.device)[t.to(like.device)].reshape(-1, *[1] * (like.ndim - 1))
    return at_t.sqrt().to(like.dtype), (1.0 - at_t).sqrt().to(like.dtype)
