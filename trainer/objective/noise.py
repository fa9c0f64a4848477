"""The noise of a training step: drawn with one generator per sample, and added to the latents.

A sample's noise does not depend on the other samples of its batch. The generators are on the CPU
and draw float32, so that every device uses the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from datasetkit.core.errors import ConfigError
from trainer.objective.noise_schedule import TIMESTEPS, signal_and_noise

Generators = Sequence[Generator]


def noise_like(latents: Tensor, generators: Generators) -> Tensor:
    """Draw standard normal noise with the shape, dtype and device of `latents` (b, c, h, w)."""
    return _randn(tuple(latents.shape[1:]), generators, like=latents)


def timesteps(generators: Generators, low: int = 0, high: int = TIMESTEPS) -> Tensor:
    """Draw a timestep per sample, uniform over low <= t < high: int64 of shape (b,), on the CPU."""
    if not 0 <= low < high <= TIMESTEPS:
        raise ConfigError(
            f"timesteps from {low} to {high}",
            hint=f"0 <= min_timestep < max_timestep <= {TIMESTEPS}",
        )
    return torch.cat([torch.randint(low, high, (1,), generator=g) for g in generators])


def with_offset(
    noise: Tensor,
    latents: Tensor,
    generators: Generators,
    offset: float,
    *,
    adaptive: float = 0.0,
    random_strength: bool = False,
) -> Tensor:
    """Add a constant to each channel of each sample: N(0, 1) times offset + adaptive * |mean of the
    latents|, >= 0.

    The offset lets the model learn brightness, which plain noise hardly destroys (Guttenberg 2023,
    "Diffusion with Offset Noise"). adaptive: added per unit of the channel's mean; may be negative.
    random_strength: a sample's offset is offset * U(0, 1), drawn per sample (sd-scripts: per
    batch).
    """
    strength = torch.full((len(noise), 1, 1, 1), offset, dtype=noise.dtype, device=noise.device)
    if random_strength:
        strength = strength * _uniform(generators, like=noise)
    strength = (strength + adaptive * latents.mean(dim=(2, 3), keepdim=True).abs()).clamp(min=0.0)
    return noise + strength.to(noise.dtype) * _randn((noise.shape[1], 1, 1), generators, like=noise)


def with_pyramid(
    noise: Tensor, generators: Generators, iterations: int, discount: float = 0.3
) -> Tensor:
    """Add increasingly coarse noise, and normalise each sample to a standard deviation of 1.

    Level i is discount^i times noise at 1/r^i of the size, enlarged bilinearly, with a new r = U(2,
    4) at each level; the last level is the one with a side of one latent pixel. Source: J. Whitaker
    2023, "Multi-resolution noise for diffusion model training". sd-scripts normalises by the
    deviation of the whole batch, so that a sample's noise depends on the others; here each sample
    is normalised by its own.
    """
    return torch.stack(
        [_pyramid(n, g, iterations, discount) for n, g in zip(noise, generators, strict=True)]
    )


def perturbed(
    noise: Tensor, generators: Generators, gamma: float, *, random_strength: bool = False
) -> Tensor:
    """Return noise + gamma * N(0, 1), for the UNet's input only; the target uses the plain noise.

    Source: Ning et al. 2023, "Input Perturbation Reduces Exposure Bias in Diffusion Models"
    (arXiv:2301.11706, alg. 1). random_strength: a sample's gamma is gamma * U(0, 1).
    """
    strength: Tensor | float = (
        gamma * _uniform(generators, like=noise) if random_strength else gamma
    )
    return noise + strength * noise_like(noise, generators)


def add_noise(latents: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return x_t = sqrt(ab_t) z + sqrt(1 - ab_t) eps (Ho et al. 2020, eq. 4). t: (b,),
    timesteps.
    """
    signal, amount = signal_and_noise(alphas_cumprod, t, latents)
    return signal * latents + amount * noise


def _randn(shape: tuple[int, ...], generators: Generators, like: Tensor) -> Tensor:
    return torch.stack([torch.randn(shape, generator=g) for g in _checked(generators, like)]).to(
        like
    )


def _uniform(generators: Generators, like: Tensor) -> Tensor:
    return torch.stack([torch.rand((1, 1, 1), generator=g) for g in _checked(generators, like)]).to(
        like
    )


def _checked(generators: Generators, like: Tensor) -> Generators:
    if len(generators) != len(like):
        raise ValueError(f"{len(generators)} generators for {len(like)} samples")
    return generators


def _pyramid(noise: Tensor, generator: Generator, iterations: int, discount: float) -> Tensor:
    channels, height, width = noise.shape
    mixed = noise.float()
    for level in range(iterations):
        ratio = 2.0 + 2.0 * float(torch.rand((), generator=generator, dtype=torch.float64))
        size = (max(1, int(height / ratio**level)), max(1, int(width / ratio**level)))
        coarse = torch.randn((1, channels, *size), generator=generator).to(mixed)
        mixed = (
            mixed
            + functional.interpolate(coarse, (height, width), mode="bilinear")[0] * discount**level
        )
        if 1 in size:
            break
    return (mixed / mixed.std()).to(noise.dtype)
