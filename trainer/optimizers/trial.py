"""Build the optimizer and the LR scheduler of a run, first on dummy weights to check the options.

Whether the trial needs torch is decided without it: importing torch takes seconds, which a plan
should not cost where there is nothing to try.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
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


def check(options: TrainOptions, steps: int) -> None:
    """Raise what building optimizer and LR scheduler for so many steps would raise.

    Loads torch where `needs_torch`. Raises ConfigError, MissingExtra.
    """
    if not options.lr_scheduler_type:
        schedule_options.checked(options, steps)
    if needs_torch(options):
        _build_on_dummies(options, steps)


def _build_on_dummies(options: TrainOptions, steps: int) -> None:
    import torch

    from trainer.device import processes
    from trainer.optimizers import build_scheduler

    first_of_rate = {rate: name for name, rate in reversed(possible_rates(options).items())}
    rates = {name: rate for rate, name in first_of_rate.items()}
    device = processes().device  # a step may be possible on a GPU alone
    weights = {name: [torch.nn.Parameter(torch.zeros(2, 2, device=device))] for name in rates}
    # Some optimizers print remarks; they are shown when the real one is built.
    with redirect_stderr(StringIO()):
        optimizer, _ = build(options, steps, weights, rates)
        _take_step(optimizer, options)
    if options.lr_scheduler_type:
        build_scheduler.rates(options, steps, rates)


def _take_step(optimizer: Optimizer, options: TrainOptions) -> None:
    """Raise ConfigError for an optimizer that cannot take a step, or whose step makes the weights
    infinite or not a number.
    """
    import torch

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        # Half of a LoRA's weights have a gradient of 0 in the first step.
        weight.grad = torch.tensor([[0.0, 1e-3], [-1e-3, 0.0]], device=weight.device)
    given = f" with {' '.join(options.optimizer_args)}" if options.optimizer_args else ""
    try:
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
