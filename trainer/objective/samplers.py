"""Samplers: how an image is generated from noise, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final, Protocol

import torch
from torch import Generator, Tensor

from trainer.objective import flow_sampler
from trainer.objective.noise_schedule import Prediction, alphas_of, betas

# Stable Diffusion's noise schedule, the same as in training.
_SCHEDULE: Final[Mapping[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Latents exceed 1 and are not clipped; the steps start at 1, as in Stable Diffusion's own
# configuration.
_DDIM: Final[Mapping[str, Any]] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_PNDM: Final[Mapping[str, Any]] = {
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# sd-scripts' sampler name -> diffusers' class and its arguments beside the noise schedule.
SAMPLERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "ddim": ("DDIMScheduler", _DDIM),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", _PNDM),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {}),
    "dpmsingle": ("DPMSolverSinglestepScheduler", {}),
    "k_euler": ("EulerDiscreteScheduler", {}),
    "k_euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "k_dpm_2": ("KDPM2DiscreteScheduler", {}),
    "k_dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
}


class Sampler(Protocol):
    """A sampler for a number of steps."""

    @property
    def times(self) -> Iterable[Tensor]:
        """Return the time of each step, a scalar as `Family.predict` takes it."""

    def start(self, noise: Tensor) -> Tensor:
        """Return the latent at the first time. noise: standard normal."""

    def scaled(self, latent: Tensor, time: Tensor) -> Tensor:
        """Return the denoiser's input at a time."""

    def step(self, predicted: Tensor, time: Tensor, latent: Tensor, generator: Generator) -> Tensor:
        """Return the latent at the next time."""


@dataclass(frozen=True, slots=True)
class DiffusersSampler:
    """A scheduler of diffusers."""

    scheduler: Any

    @property
    def times(self) -> Iterable[Tensor]:
        timesteps: Iterable[Tensor] = self.scheduler.timesteps
        return timesteps

    def start(self, noise: Tensor) -> Tensor:
        return noise * float(self.scheduler.init_noise_sigma)

    def scaled(self, latent: Tensor, time: Tensor) -> Tensor:
        scaled: Tensor = self.scheduler.scale_model_input(latent, time)
        return scaled

    def step(self, predicted: Tensor, time: Tensor, latent: Tensor, generator: Generator) -> Tensor:
        has_generator = "generator" in signature(self.scheduler.step).parameters
        more = {"generator": generator} if has_generator else {}
        following: Tensor = self.scheduler.step(predicted, time, latent, return_dict=False, **more)[
            0
        ]
        return following


@dataclass(frozen=True, slots=True)
class FlowSampler:
    """Euler's method along a flow. steps: the times between which it steps, from 1 to 0."""

    steps: Tensor

    @property
    def times(self) -> Iterable[Tensor]:
        return self.steps[:-1].unbind()

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def scaled(self, latent: Tensor, time: Tensor) -> Tensor:
        return latent

    def step(self, predicted: Tensor, time: Tensor, latent: Tensor, generator: Generator) -> Tensor:
        following = self.steps[self.steps < time].max()
        return flow_sampler.euler_step(latent, predicted, time, following)


def of_diffusers(
    sampler: str, steps: int, prediction: Prediction, *, zero_terminal: bool, device: torch.device
) -> DiffusersSampler:
    """Return a sampler of a diffusion model by sd-scripts' name. zero_terminal: the model was
    trained with zero_terminal_snr.
    """
    import diffusers

    name, arguments = SAMPLERS[sampler]
    scheduler_class = getattr(diffusers, name)
    kind = "v_prediction" if prediction == "v" else "epsilon"
    config = {**_SCHEDULE, **arguments, "prediction_type": kind}
    if zero_terminal:
        # Sampling has to start at the last timestep, where only noise is left (arXiv:2305.08891,
        # 3.3).
        config |= {
            "trained_betas": betas(alphas_of(zero_terminal_snr=True)),
            "timestep_spacing": "trailing",
        }
        parameters = signature(scheduler_class).parameters
        config = {key: value for key, value in config.items() if key in parameters}
    scheduler = scheduler_class(**config)
    scheduler.set_timesteps(steps, device=device)
    return DiffusersSampler(scheduler)
