"""Build the optimizer and the LR scheduler of a run, first on dummy weights to check the options.

Whether the trial needs torch is decided without it: importing torch takes seconds, which a plan
should not cost where there is nothing to try.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.networks.parameter_groups import possible_rates
from trainer.optimizers import schedule_options
from trainer.optimizers.optimizer_names import is_plain_torch

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def needs_torch(options: TrainOptions) -> bool:
    """Tell whether only a trial shows that optimizer and LR schedule can be built.

    A named optimizer of torch without arguments, under a named LR schedule, is always built. Of
    everything else the class or its package may be missing, or its arguments wrong in a way that
    only the class knows (betas=0.9): no table of signatures would stay true.
    """
    return bool(
        options.optimizer_args
        or options.lr_scheduler_type
        or not is_plain_torch(options.optimizer_type)
    )


def check(options: TrainOptions, steps: int, dimensions: Collection[int] = (2,)) -> None:
    """Raise what building optimizer and LR scheduler for so many steps would raise, and what the
    first step and the first training state would. dimensions: how many the trained tensors have.

    Loads torch where `needs_torch`. Raises ConfigError, MissingExtra.
    """
    if not options.lr_scheduler_type:
        schedule_options.checked(options, steps)
    if not needs_torch(options):
        return
    try:
        _build_on_dummies(options, steps, dimensions)
    except ConfigError as error:
        if set(dimensions) == {2}:
            raise
        _build_on_dummies(options, steps, (2,))  # raises where the dimensions are not the reason
        raise ConfigError(
            f"{options.optimizer_type} trains matrices alone, and the network has tensors of "
            f"{_dimensions(dimensions)}",
            hint="set another optimizer_type",
        ) from error


def _dimensions(dimensions: Collection[int]) -> str:
    most = max(dimensions)
    return f"{most} dimensions, of convolutions" if most > 2 else "1 dimension, of norms"


def _build_on_dummies(options: TrainOptions, steps: int, dimensions: Collection[int]) -> None:
    import torch

    from trainer.device import processes
    from trainer.optimizers import build_scheduler

    first_of_rate = {rate: name for name, rate in reversed(possible_rates(options).items())}
    rates = {name: rate for rate, name in first_of_rate.items()}
    device = processes().device  # a step may be possible on a GPU alone

    def weights() -> dict[str, list[Parameter]]:
        shapes = [(2, 2, 1, 1, 1)[:n] for n in sorted(dimensions)]
        return {
            name: [torch.nn.Parameter(torch.zeros(shape, device=device)) for shape in shapes]
            for name in rates
        }

    # Some optimizers print remarks; they are shown when the real one is built.
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        optimizer, _ = build(options, steps, weights(), rates)
        _take_step(optimizer, options)
        _restore(optimizer, build(options, steps, weights(), rates)[0], options)
    if options.lr_scheduler_type:
        build_scheduler.rates(options, steps, rates)


def _take_step(optimizer: Optimizer, options: TrainOptions) -> None:
    """Raise ConfigError for an optimizer that cannot take a step, or whose step makes the weights
    infinite or not a number.
    """
    import torch

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    given = f" with {' '.join(options.optimizer_args)}" if options.optimizer_args else ""
    try:
        for weight in weights:
            # Half of a LoRA's weights have a gradient of 0 in the first step.
            gradient = torch.tensor([[0.0, 1e-3], [-1e-3, 0.0]], device=weight.device)
            weight.grad = gradient.reshape(weight.shape)
        optimizer.step()
    except Exception as error:  # of any class
        raise ConfigError(
            f"{options.optimizer_type}{given} cannot take a step: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}",
            hint="set other optimizer_args, or another optimizer_type",
        ) from error
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise ConfigError(
            f"{options.optimizer_type}{given} makes weights that are not finite in the first step",
            hint="set other optimizer_args",
        )


def _restore(optimizer: Optimizer, other: Optimizer, options: TrainOptions) -> None:
    """Raise ConfigError for an optimizer whose state cannot be written to a training state, or
    restored from it.
    """
    from trainer.files import training_state

    try:
        tensors, numbers = training_state.flatten_state(optimizer.state_dict())
        training_state.restore_optimizer(other, tensors, json.loads(json.dumps(numbers)))
    except Exception as error:  # of any class
        raise ConfigError(
            f"{options.optimizer_type} has a state that cannot be saved and restored: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}",
            hint="set another optimizer_type",
        ) from error


def build(
    options: TrainOptions,
    steps: int,
    parameters: Mapping[str, list[Parameter]],
    rates: Mapping[str, float],
) -> tuple[Optimizer, LRScheduler]:
    """Return optimizer and LR scheduler. parameters, rates: of each group, by its name.

    Raises ConfigError, MissingExtra.
    """
    from trainer.optimizers import build_optimizer, build_scheduler

    groups = build_optimizer.parameter_groups(parameters, rates)
    optimizer = build_optimizer.build(
        options.optimizer_type, groups, build_optimizer.literal_args(options.optimizer_args)
    )
    if options.ema_decay and build_optimizer.keeps_average(optimizer):
        raise ConfigError(
            f"{options.optimizer_type} already averages the weights", hint="set ema_decay = 0"
        )
    return optimizer, build_scheduler.build(optimizer, options, steps)
