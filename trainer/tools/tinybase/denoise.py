"""The third stage: the UNet learns to tell noise from portraits by their captions; the text encoder
stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from trainer.objective import loss_weights, losses, noise
from trainer.objective.noise_schedule import TIMESTEPS, alphas_cumprod, snr
from trainer.tools.tinybase import data
from trainer.tools.tinybase.resumable_training import Loss, TrainingStage
from trainer.tools.tinybase.text import ids

BATCH: Final = 32
_GAMMA: Final = 5.0  # of min-SNR


def loss(
    stage: TrainingStage,
    unet: Any,
    encoder: Any,
    latents: tuple[Tensor, Tensor],
    captions: Sequence[Sequence[str]],
) -> Loss:
    """Return the loss of a step. latents: mean and deviation of each image's, scaled."""
    alphas = alphas_cumprod()
    ratios = snr(alphas)
    means, spreads = latents

    def of_step(step: int) -> Tensor:
        draws = stage.draws(step)
        rng = random.Random(int(torch.randint(2**62, (), generator=draws)))
        chosen = torch.randint(len(means), (BATCH,), generator=draws)
        clean = means[chosen].float()
        clean = clean + spreads[chosen].float() * torch.randn(clean.shape, generator=draws)
        eps = torch.randn(clean.shape, generator=draws)
        t = timesteps(BATCH, draws)
        text = ids([data.caption(captions[i], rng) for i in chosen.tolist()])
        noisy = noise.add_noise(clean, eps, t, alphas).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                states = encoder(text).last_hidden_state
            predicted = unet(noisy, t, states).sample
        each = losses.mse(predicted, eps)
        return (each * loss_weights.min_snr(ratios[t], _GAMMA, "epsilon")).mean()

    return of_step


def timesteps(count: int, draws: torch.Generator) -> Tensor:
    """Draw timesteps that lie evenly, one in each of `count` equal parts: steps differ less from
    another (int64).
    """
    places = (torch.arange(count) + torch.rand(count, generator=draws)) / count
    return (places * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
