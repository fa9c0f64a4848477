"""The times of a flow-matching model: how they are drawn, shifted and weighted, and what they mix.

A time s is the share of noise, from above 0 to 1: x_s = (1 - s) x_0 + s e, and the model predicts
the velocity e - x_0 (Lipman et al. 2022, arXiv:2210.02747; Esser et al. 2024, arXiv:2403.03206).
Each sample draws with its own generator, so its time does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Generator, Tensor

from datasetkit.core.errors import ConfigError

Density = Literal["uniform", "logit_normal", "mode"]

# A token is 16 x 16 pixels in every supported family: 8 of the VAE, 2 of the patches.
TOKEN_SIDE: Final = 16
_DEFAULT_SHIFT: Final = 3.0  # sd-scripts' discrete_flow_shift
_MODE_SCALE: Final = 1.29  # of Esser et al. 2024

# ---- shift by resolution


@dataclass(frozen=True, slots=True)
class ShiftByTokens:
    """A shift that grows with an image's tokens: exp(mu), mu linear through two points."""

    low: tuple[int, float]
    high: tuple[int, float]

    def mu(self, tokens: int) -> float:
        """Return the logarithm of the shift."""
        (x1, y1), (x2, y2) = self.low, self.high
        return y1 + (y2 - y1) * (tokens - x1) / (x2 - x1)

    def shift(self, size: tuple[int, int]) -> float:
        """Return the shift at (width, height) in pixels."""
        return math.exp(self.mu(tokens_of(size)))


FLUX_SHIFT: Final = ShiftByTokens((256, 0.5), (4096, 1.15))
QWEN_SHIFT: Final = ShiftByTokens((256, 0.5), (8192, 0.9))
KREA2_SHIFT: Final = ShiftByTokens((256, 0.5), (6400, 1.15))
# The values of timestep_sampling that shift by resolution. Trainers use Flux.1's rule for Flux.2.
SHIFT_RULES: Final[Mapping[str, ShiftByTokens]] = {
    "flux_shift": FLUX_SHIFT,
    "flux2_shift": FLUX_SHIFT,
    "qwen_shift": QWEN_SHIFT,
    "krea2_shift": KREA2_SHIFT,
}


def tokens_of(size: tuple[int, int]) -> int:
    """Return the number of image tokens at (width, height) in pixels."""
    return (size[0] // TOKEN_SIDE) * (size[1] // TOKEN_SIDE)


def shifted(s: Tensor, shift: float) -> Tensor:
    """Return k s / (1 + (k - 1) s): times moved towards noise for k above 1; 0 and 1 stay."""
    return shift * s / (1.0 + (shift - 1.0) * s)


# ---- densities


def uniform(u: Tensor) -> Tensor:
    """Return 1 - u: for 0 <= u < 1 it is never 0, where no noise is left to predict."""
    return 1.0 - u


def logit_normal(n: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Return logistic(mean + std n) of standard normal n (Esser et al. 2024, eq. 19)."""
    return torch.sigmoid(mean + std * n)


def mode(u: Tensor, scale: float = _MODE_SCALE) -> Tensor:
    """Return 1 - u - a (cos^2(pi u / 2) - 1 + u) (Esser et al. 2024, eq. 20): for a above 0 more
    times are near 1/2.
    """
    return 1.0 - u - scale * (torch.cos(math.pi * u / 2.0) ** 2 - 1.0 + u)


@dataclass(frozen=True, slots=True)
class TimeSampling:
    """How the times of a run are drawn: a density, then a shift, then a range.

    mean, std: of the normal before the logistic function. shift: a number, or a rule by resolution.
    low, high: the times are scaled from 0..1 to this range.
    """

    density: Density = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    mode_scale: float = _MODE_SCALE
    shift: float | ShiftByTokens = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high <= 1.0:
            raise ConfigError(
                f"times from {self.low} to {self.high}",
                hint="0 <= min_timestep < max_timestep <= 1000",
            )
        if not isinstance(self.shift, ShiftByTokens) and self.shift <= 0.0:
            raise ConfigError(
                f"discrete_flow_shift = {self.shift}", hint="a number above 0; 1 does not shift"
            )

    def shift_at(self, size: tuple[int, int]) -> float:
        """Return the shift at (width, height) in pixels."""
        return self.shift.shift(size) if isinstance(self.shift, ShiftByTokens) else self.shift

    def at(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the times of drawn numbers: normal for logit_normal, from 0 to 1 for the others.

        size: (width, height) of the images in pixels.
        """
        if self.density == "logit_normal":
            s = logit_normal(drawn, self.mean, self.std)
        else:
            s = mode(drawn, self.mode_scale) if self.density == "mode" else uniform(drawn)
        return self.low + (self.high - self.low) * shifted(s, self.shift_at(size))

    def draw(self, generators: Sequence[Generator], size: tuple[int, int]) -> Tensor:
        """Draw a time per sample: float32 of shape (b,), on the CPU; one number per generator."""
        of = torch.randn if self.density == "logit_normal" else torch.rand
        # One by one: the logistic of a vector differs in the last bit with the vector's length.
        return torch.cat([self.at(of((1,), generator=g), size) for g in generators])

    def quantile(self, share: float, size: tuple[int, int]) -> float:
        """Return the time below which a share of all times is, 0 < share < 1."""
        p = torch.tensor(share, dtype=torch.float64)
        drawn = torch.special.ndtri(p) if self.density == "logit_normal" else 1.0 - p
        return float(self.at(drawn, size))


def of_options(
    timestep_sampling: str,
    *,
    discrete_flow_shift: float | None = None,
    sigmoid_scale: float = 1.0,
    weighting_scheme: str = "none",
    logit_mean: float = 0.0,
    logit_std: float = 1.0,
    mode_scale: float = _MODE_SCALE,
    min_timestep: int = 0,
    max_timestep: int = 1000,
) -> TimeSampling:
    """Return the sampling of a run from options with sd-scripts' names and meanings.

    sigma: the density of weighting_scheme (logit_normal, mode, else uniform), and the shift. shift:
    logit-normal with sigmoid_scale, and the shift. sigmoid, uniform: not shifted. Others: a rule of
    `SHIFT_RULES`. discrete_flow_shift: None is sd-scripts' 3. Raises ConfigError.
    """
    low, high = min_timestep / 1000.0, max_timestep / 1000.0
    number = _DEFAULT_SHIFT if discrete_flow_shift is None else discrete_flow_shift
    if timestep_sampling == "sigma":
        densities: dict[str, Density] = {"logit_normal": "logit_normal", "mode": "mode"}
        density = densities.get(weighting_scheme, "uniform")
        return TimeSampling(density, logit_mean, logit_std, mode_scale, number, low, high)
    shifts: dict[str, float | ShiftByTokens] = {"uniform": 1.0, "sigmoid": 1.0, "shift": number}
    shift = (shifts | dict(SHIFT_RULES)).get(timestep_sampling)
    if shift is None:
        raise ConfigError(
            f'timestep_sampling = "{timestep_sampling}" is not supported',
            hint=f"one of {', '.join(TIMESTEP_SAMPLINGS)}",
        )
    if timestep_sampling == "uniform":
        return TimeSampling("uniform", low=low, high=high)
    return TimeSampling(std=sigmoid_scale, shift=shift, low=low, high=high)


TIMESTEP_SAMPLINGS: Final = ("sigma", "uniform", "sigmoid", "shift", *SHIFT_RULES)

# ---- what a time mixes, and the weight of its loss


def add_noise(latents: Tensor, noise: Tensor, s: Tensor) -> Tensor:
    """Return x_s = (1 - s) x_0 + s e. s: (b,); mixed in float32 and cast to the latents' dtype."""
    share = s.to(latents.device, torch.float32).reshape(-1, *[1] * (latents.ndim - 1))
    return ((1.0 - share) * latents.float() + share * noise.float()).to(latents.dtype)


def velocity(latents: Tensor, noise: Tensor) -> Tensor:
    """Return the target e - x_0, which points from the image to the noise."""
    return noise - latents


def clean(noisy: Tensor, prediction: Tensor, s: Tensor) -> Tensor:
    """Return the image x_0 = x_s - s v that a predicted velocity points away from."""
    share = s.to(noisy.device, torch.float32).reshape(-1, *[1] * (noisy.ndim - 1))
    return (noisy.float() - share * prediction.float()).to(noisy.dtype)


def sigma_sqrt(s: Tensor) -> Tensor:
    """Return 1 / s^2."""
    return s**-2.0


def cosmap(s: Tensor) -> Tensor:
    """Return 2 / (pi (1 - 2 s + 2 s^2)) (Esser et al. 2024, eq. 21)."""
    return 2.0 / (math.pi * (1.0 - 2.0 * s + 2.0 * s**2))


_WEIGHTS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "sigma_sqrt": sigma_sqrt,
    "cosmap": cosmap,
}
# The values of weighting_scheme: a density or a weight; the peers of every family use none.
WEIGHTING_SCHEMES: Final = ("none", "logit_normal", "mode", *_WEIGHTS)


def weights(s: Tensor, weighting_scheme: str = "none") -> Tensor:
    """Return the weight of each sample's loss, of the shape of s; 1 for all but sigma_sqrt and
    cosmap.
    """
    weight = _WEIGHTS.get(weighting_scheme)
    return torch.ones_like(s) if weight is None else weight(s)


def snr(s: Tensor) -> Tensor:
    """Return the signal-to-noise ratio ((1 - s) / s)^2 of a time."""
    return ((1.0 - s) / s) ** 2
