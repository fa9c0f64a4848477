"""Loss weights by timestep: min-SNR, debiased estimation, and the two scalings of v losses.

Each weight depends on the signal-to-noise ratio (SNR) s of the sample's timestep alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from trainer.objective.noise_schedule import Prediction

# Above this a weight no longer changes: the SNR at timestep 0 is 1175 (sd-scripts' bound).
_SNR_BOUND: Final = 1000.0


def min_snr(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return min(s, gamma) / s for epsilon, min(s, gamma) / (s + 1) for v (Hang et al. 2023,
    arXiv:2303.09556, eq. 8 and 9).

    snr: of each sample's timestep, any shape; the weights have the same shape.
    """
    return snr.clamp(max=gamma) / _MIN_SNR_DIVISOR[prediction](snr)


def debiased(snr: Tensor, prediction: Prediction) -> Tensor:
    """Return 1 / sqrt(s) for epsilon (Yu et al. 2024, arXiv:2310.08442, eq. 12), 1 / (s + 1) for v;
    s at most 1000.

    The form for v is sd-scripts'; OneTrainer uses 1 / sqrt(s + 1).
    """
    return 1.0 / _DEBIASED_DIVISOR[prediction](snr.clamp(max=_SNR_BOUND))


def like_noise(snr: Tensor) -> Tensor:
    """Return s / (s + 1), s at most 1000: it scales a v loss to the size of an epsilon loss."""
    bounded = snr.clamp(max=_SNR_BOUND)
    return bounded / (bounded + 1.0)


def with_v_like(snr: Tensor, share: float) -> Tensor:
    """Return 1 + share (s + 1) / s, s at most 1000: it adds `share` of a v loss to an epsilon
    loss.
    """
    return 1.0 + share / like_noise(snr)


_MIN_SNR_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {
    "epsilon": lambda s: s,
    "v": lambda s: s + 1.0,
}
_DEBIASED_DIVISOR: Final[dict[Prediction, Callable[[Tensor], Tensor]]] = {
    "epsilon": torch.sqrt,
    "v": lambda s: s + 1.0,
}

# Option -> function of (SNR, the option's value, what the UNet predicts).
WEIGHTS: Final[dict[str, Callable[[Tensor, float, Prediction], Tensor]]] = {
    "min_snr_gamma": min_snr,
    "debiased_estimation_loss": lambda snr, _, prediction: debiased(snr, prediction),
    "scale_v_pred_loss_like_noise_pred": lambda snr, _, prediction: like_noise(snr),
    "v_pred_like_loss": lambda snr, share, prediction: with_v_like(snr, share),
}


def weights(snr: Tensor, prediction: Prediction, options: Mapping[str, float | None]) -> Tensor:
    """Return the weight of each sample: the product of all weights that are switched on, else 1.

    options: name of `WEIGHTS` -> its value; None, False and 0 switch it off.
    """
    weight = torch.ones_like(snr)
    for option, value in options.items():
        if value:
            weight = weight * WEIGHTS[option](snr, value, prediction)
    return weight
