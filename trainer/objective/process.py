"""The process that turns images into noise, and what the denoiser learns of it: diffusion (ddpm) or
flow matching.

A family names its process; a run asks it for times, noisy latents, targets, weights and samplers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from datasetkit.options.train import TrainOptions
from trainer.families.base import Family, Parts
from trainer.objective import loss_weights, losses, noise, samplers
from trainer.objective.noise import add_noise
from trainer.objective.noise_schedule import Prediction, alphas_of, snr
from trainer.objective.samplers import Sampler

# Width and height of images, in pixels.
Size = tuple[int, int]


class Process(Protocol):
    """How noise is added and removed. Times are what `Family.predict` takes, (samples,)."""

    @property
    def prediction(self) -> str:
        """Return modelspec's name of what the denoiser predicts."""

    def draw(self, generators: Sequence[Generator], size: Size) -> Tensor:
        """Draw a time for each sample of a batch of images of one size."""

    def grid(self, count: int) -> Tensor:
        """Return the centres of equal parts of the trained range of times."""

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return the noisy latents."""

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Return what the denoiser should predict for the noisy latents."""

    def weight(self, times: Tensor) -> Tensor:
        """Return the weight of each sample's loss."""

    def huber_c(self, times: Tensor) -> Tensor:
        """Return c of a Huber loss for each sample."""

    def sampler(self, name: str, steps: int, size: Size, device: torch.device) -> Sampler:
        """Return a sampler by sd-scripts' name."""


@dataclass(frozen=True, slots=True)
class Ddpm:
    """Diffusion over 1000 timesteps (Ho et al. 2020). alphas: alpha-bar of each timestep."""

    options: TrainOptions
    alphas: Tensor
    prediction: Prediction = "epsilon"

    def draw(self, generators: Sequence[Generator], size: Size) -> Tensor:
        return noise.timesteps(generators, self.options.min_timestep, self.options.max_timestep)

    def grid(self, count: int) -> Tensor:
        low, high = self.options.min_timestep, self.options.max_timestep
        return torch.tensor([low + (2 * n + 1) * (high - low) // (2 * count) for n in range(count)])

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return add_noise(latents, noise, times, self.alphas)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return losses.TARGETS[self.prediction](latents, noise, times, self.alphas)

    def weight(self, times: Tensor) -> Tensor:
        values = {name: getattr(self.options, name) for name in loss_weights.WEIGHTS}
        return loss_weights.weights(snr(self.alphas)[times], self.prediction, values)

    def huber_c(self, times: Tensor) -> Tensor:
        options = self.options
        schedule = losses.HUBER_SCHEDULES[options.huber_schedule]
        return schedule(times, snr(self.alphas)[times], options.huber_c, options.huber_scale)

    def sampler(self, name: str, steps: int, size: Size, device: torch.device) -> Sampler:
        zero = self.options.zero_terminal_snr
        return samplers.of_diffusers(
            name, steps, self.prediction, zero_terminal=zero, device=device
        )


def build(options: TrainOptions, family: Family, parts: Parts) -> Process:
    """Return the process of a run."""
    alphas = alphas_of(zero_terminal_snr=options.zero_terminal_snr)
    return Ddpm(options, alphas, "v" if parts.prediction == "v_prediction" else "epsilon")
