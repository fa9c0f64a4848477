"""The process that turns images into noise, and what the denoiser learns of it: diffusion (ddpm) or
flow matching.

A family names its process; a run asks it for times, noisy latents, targets, weights and samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor

from datasetkit.options.train import TrainOptions
from trainer.families.base import Family, FlowDefaults, Parts
from trainer.families.model_files import read_json
from trainer.objective import (
    flow_sampler,
    flow_times,
    loss_weights,
    losses,
    noise,
    samplers,
)
from trainer.objective.flow_times import ShiftByTokens, TimeSampling
from trainer.objective.noise import add_noise
from trainer.objective.noise_schedule import TIMESTEPS, Prediction, alphas_of, snr
from trainer.objective.samplers import Sampler

# Width and height of images, in pixels.
Size = tuple[int, int]


class Process(Protocol):
    """How noise is added and removed. Times are what `Family.predict` takes, (samples,)."""

    @property
    def prediction(self) -> str:
        """Return modelspec's name of what the denoiser predicts."""

    def facts(self) -> Mapping[str, object]:
        """Return how times are drawn, by sd-scripts' names, for a LoRA's metadata; what the options
        say themselves is left out.
        """

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

    def facts(self) -> Mapping[str, object]:
        return {}

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


@dataclass(frozen=True, slots=True)
class Flow:
    """Flow matching (Lipman et al. 2022). defaults: of the family; sampling: of the run's times;
    schedule: of preview images.
    """

    options: TrainOptions
    defaults: FlowDefaults
    sampling: TimeSampling
    schedule: PreviewSchedule
    prediction: str = "flow"

    def facts(self) -> Mapping[str, object]:
        options, defaults = self.options, self.defaults
        shift, scale = options.discrete_flow_shift, options.sigmoid_scale
        return {
            "timestep_sampling": options.timestep_sampling or defaults.sampling,
            "discrete_flow_shift": defaults.shift if shift is None else shift,
            "sigmoid_scale": defaults.scale if scale is None else scale,
            "guidance_scale": options.guidance_scale,
            **{
                name: getattr(options, name)
                for name in (
                    "weighting_scheme", "logit_mean", "logit_std", "mode_scale",
                    "model_prediction_type",
                )
            },
        }  # fmt: skip

    def draw(self, generators: Sequence[Generator], size: Size) -> Tensor:
        return self.sampling.draw(generators, size)

    def grid(self, count: int) -> Tensor:
        low, high = self.sampling.low, self.sampling.high
        shares = [(2 * n + 1) / (2 * count) for n in range(count)]
        return torch.tensor([low + share * (high - low) for share in shares])

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return flow_times.add_noise(latents, noise, times)

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return flow_times.velocity(latents, noise)

    def weight(self, times: Tensor) -> Tensor:
        return flow_times.weights(times, self.options.weighting_scheme)

    def huber_c(self, times: Tensor) -> Tensor:
        options = self.options
        schedule = losses.HUBER_SCHEDULES[options.huber_schedule]
        steps, ratio = times * TIMESTEPS, flow_times.snr(times)
        return schedule(steps, ratio, options.huber_c, options.huber_scale)

    def sampler(self, name: str, steps: int, size: Size, device: torch.device) -> Sampler:
        return samplers.FlowSampler(self.schedule.times(steps, size).to(device))


@dataclass(frozen=True, slots=True)
class PreviewSchedule:
    """The times of preview images. shift: a number, or by an image's tokens, or by these and the
    number of steps. terminal: see `flow_sampler.step_times`.
    """

    shift: float | ShiftByTokens | Callable[[int, int], float]
    terminal: float | None = None

    def times(self, steps: int, size: Size) -> Tensor:
        """Return the times from 1 to 0 between which a sampler steps."""
        if isinstance(self.shift, ShiftByTokens):
            shift = self.shift.shift(size)
        elif isinstance(self.shift, float):
            shift = self.shift
        else:
            shift = self.shift(flow_times.tokens_of(size), steps)
        return flow_sampler.step_times(steps, shift, terminal=self.terminal)


def build(options: TrainOptions, family: Family, parts: Parts) -> Process:
    """Return the process of a run."""
    if family.FLOW is not None:
        sampling = _sampling(options, family.FLOW)
        return Flow(options, family.FLOW, sampling, preview_schedule(family.FLOW, parts.source))
    alphas = alphas_of(zero_terminal_snr=options.zero_terminal_snr)
    return Ddpm(options, alphas, "v" if parts.prediction == "v_prediction" else "epsilon")


def _sampling(options: TrainOptions, defaults: FlowDefaults) -> TimeSampling:
    """Return how times are drawn: what the options leave open is the family's."""
    shift, scale = options.discrete_flow_shift, options.sigmoid_scale
    return flow_times.of_options(
        options.timestep_sampling or defaults.sampling,
        discrete_flow_shift=defaults.shift if shift is None else shift,
        sigmoid_scale=defaults.scale if scale is None else scale,
        weighting_scheme=options.weighting_scheme,
        logit_mean=options.logit_mean,
        logit_std=options.logit_std,
        mode_scale=options.mode_scale,
        min_timestep=options.min_timestep,
        max_timestep=options.max_timestep,
    )


def preview_schedule(defaults: FlowDefaults, source: Path) -> PreviewSchedule:
    """Return the schedule of preview images, from the scheduler's config in the model's folder if
    it has one.
    """
    if defaults.preview_shift is not None:
        return PreviewSchedule(defaults.preview_shift)
    config = read_json(source / "scheduler" / "scheduler_config.json")
    if config is None:
        rule = flow_times.SHIFT_RULES.get(defaults.preview)
        return PreviewSchedule(rule or float(defaults.shift or 1.0))
    terminal = config.get("shift_terminal")
    if not config.get("use_dynamic_shifting"):
        return PreviewSchedule(float(config.get("shift", 1.0)), terminal)
    usual = flow_times.FLUX_SHIFT  # diffusers' defaults
    low, high = (
        (
            int(config.get(f"{end}_image_seq_len", tokens)),
            float(config.get(f"{end}_shift", mu)),
        )
        for end, (tokens, mu) in (("base", usual.low), ("max", usual.high))
    )
    return PreviewSchedule(ShiftByTokens(low, high), terminal)
