"""The optimizer's parameter groups: a learning rate by part, by UNet block, and for LoRA+."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from datasetkit.options.networks import TOTALS, NetworkArgs
from datasetkit.options.train import TrainOptions
from trainer.networks import blocks

if TYPE_CHECKING:  # a plan uses the rates without torch
    from torch.nn import Parameter

_UNET: Final = "unet"


def group_of(
    part: str,
    block: int | None,
    *,
    lora_plus: bool,
    args: NetworkArgs,
    rates: Mapping[str, float],
    sides: int,
) -> tuple[str, float]:
    """Return the name of a parameter's group and its learning rate.

    block: its index in the block lists; lora_plus: LoRA+ raises its rate. rates: part -> learning
    rate.
    """
    name, rate = part, rates[part]
    if (
        part == _UNET
        and block is not None
        and (args.down_weights or args.mid_weights or args.up_weights)
    ):
        name, rate = f"{part}_block{block}", rate * blocks.weights(args, sides)[block]
    ratio = (args.plus_unet if part == _UNET else args.plus_text) or args.plus
    if lora_plus and ratio is not None:
        return f"{name}_plus", rate * ratio
    return name, rate


def grouped(
    parameters_with_group: Iterable[tuple[tuple[str, float], Parameter]],
) -> tuple[dict[str, list[Parameter]], dict[str, float]]:
    """Return group -> parameters and group -> learning rate, from parameters with their
    `group_of`.
    """
    parameters: dict[str, list[Parameter]] = {}
    rates: dict[str, float] = {}
    for (name, rate), parameter in parameters_with_group:
        parameters.setdefault(name, []).append(parameter)
        rates[name] = rate
    return parameters, rates


def possible_rates(options: TrainOptions) -> dict[str, float]:
    """Return the groups that a model may have with these options and their rates, before it is
    loaded.
    """
    args, rates = options.network(), options.rates()
    if not isinstance(options.text_encoder_lr, tuple):
        rates.pop("text_encoder_2")
    sides = args.sides or max(TOTALS)
    possible: dict[str, float] = {}
    for part in rates:
        for block in range(TOTALS[sides]) if part == _UNET else (None,):
            for lora_plus in (False, True):
                name, rate = group_of(
                    part, block, lora_plus=lora_plus, args=args, rates=rates, sides=sides
                )
                possible[name] = rate
    return possible
