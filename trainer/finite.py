"""Numbers stay finite: a run stops before an infinite gradient reaches the weights, and writes no
file with values that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datasetkit.options.train import TrainOptions
from trainer.errors import LossDiverged
from trainer.optimizers.optimizer_names import estimates_lr, import_path, literal_args

if TYPE_CHECKING:
    from trainer.loop import TrainingSetup


def diverged(what: str, step: int, options: TrainOptions, dtype: torch.dtype) -> LossDiverged:
    """Return the error of a run whose numbers are not finite. what: which, as in `the loss of step
    3`. step: counted from 1; dtype: in which the model computes.
    """
    if step <= 1 and not options.network_weights:
        hints = ["nothing is trained yet: check the base model and its VAE"]
    else:
        hints = [lower_rate(options)]
        if not options.max_grad_norm and not estimates_lr(options.optimizer_type):
            hints.append("set max_grad_norm = 1")
        if options.optimizer_args and not estimates_lr(options.optimizer_type):
            hints.append("leave out optimizer_args")
    if dtype == torch.float16:
        hints.append("train in bf16 or float32 (mixed_precision)")
    return LossDiverged(
        f"{what} is not finite", hint=f"{', or '.join(hints)}; what was saved before is good"
    )


def lower_rate(options: TrainOptions) -> str:
    """Return how the steps of an optimizer become smaller."""
    largest = max(options.rates().values())
    if estimates_lr(options.optimizer_type) and "d0" in literal_args(options.optimizer_args):
        return "lower d0 in optimizer_args, from which the estimated rate starts"
    if not estimates_lr(options.optimizer_type):
        return f"lower the learning rate, such as to {largest / 10:.1g}"
    name = import_path(options.optimizer_type).partition(":")[2]
    if largest > 1:
        return "set the learning rates to 1: the optimizer estimates the rate itself"
    if "Prodigy" in name:
        return "lower the estimated rate: d_coef=0.5 in optimizer_args"
    if name == "DAdaptLion":  # it has no growth_rate
        return "lower the learning rates to 0.5: the estimated rate is multiplied by them"
    return "let the estimated rate grow slower: growth_rate=1.02 in optimizer_args"


def require_finite(tensors: Mapping[str, Tensor], setup: TrainingSetup, step: int) -> None:
    """Raise LossDiverged for weights of which one is not finite after a step."""
    if name := first_not_finite(tensors):
        raise diverged(
            f"{name} after step {step}", step + 1, setup.options, setup.device_context.dtype
        )


def require_in_range(
    tensors: Mapping[str, Tensor], dtype: torch.dtype, step: int, options: TrainOptions
) -> None:
    """Raise LossDiverged for weights that are finite, and not in the precision of their file: such
    weights are thousands of times those of a LoRA that works.
    """
    if name := first_not_finite(tensors):
        raise LossDiverged(
            f"{name} after step {step} is beyond the range of {str(dtype).removeprefix('torch.')}",
            hint=f'{lower_rate(options)}, or set save_precision = "bf16" or "float"; '
            "what was saved before is good",
        )


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a value that is infinite or not a number."""
    return next(
        (
            name
            for name, tensor in tensors.items()
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
        ),
        None,
    )


def row(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of numbers as JSON can hold them: null for one that is not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
