"""What the families' VAEs have in common: moments, decoding and the scale of latents.

A family takes these functions as its own. Loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def moments(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the latents, each [images, channels, h, w]."""
    distribution = vae.encode(pixels).latent_dist
    return distribution.mean, distribution.std


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Return the pixels of latents, [images, 3, H, W] from -1 to 1."""
    pixels: Tensor = vae.decode(latents).sample
    return pixels


def moments_of_frame(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of a VAE whose images are videos of one frame."""
    mean, std = moments(vae, pixels.unsqueeze(2))
    return mean.squeeze(2), std.squeeze(2)


def decode_frame(vae: Any, latents: Tensor) -> Tensor:
    """Decode with a VAE whose images are videos of one frame."""
    return decode(vae, latents.unsqueeze(2)).squeeze(2)


def latent_shape(vae: Any, width: int, height: int) -> tuple[int, int, int]:
    """Return the shape of an image's latent: channels, height, width."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return vae.config.latent_channels, height // factor, width // factor


def shifted(vae: Any, latents: Tensor) -> Tensor:
    """Return (z - shift) x scale, both from the VAE's config."""
    normalised: Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    return normalised


def unshifted(vae: Any, latents: Tensor) -> Tensor:
    """Undo `shifted`."""
    raw: Tensor = latents / vae.config.scaling_factor + vae.config.shift_factor
    return raw


def standardised(vae: Any, latents: Tensor) -> Tensor:
    """Return (z - mean) / std of each channel, both from the VAE's config."""
    return (latents - _of_channels(vae.config.latents_mean, latents)) / _of_channels(
        vae.config.latents_std, latents
    )


def destandardised(vae: Any, latents: Tensor) -> Tensor:
    """Undo `standardised`."""
    return latents * _of_channels(vae.config.latents_std, latents) + _of_channels(
        vae.config.latents_mean, latents
    )


def _of_channels(values: Any, latents: Tensor) -> Tensor:
    return latents.new_tensor(values).view(1, -1, 1, 1)
