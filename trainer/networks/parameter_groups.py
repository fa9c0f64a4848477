"""The optimizer's parameter groups: a learning rate by part, by UNet block, and for LoRA+."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from datasetkit.options.networks import NetworkArgs
from datasetkit.options.train import TrainOptions
from trainer.families import registry
from trainer.families.base import DENOISERS, BlockList
from trainer.networks import blocks as block_lists

if TYPE_CHECKING:  # a plan uses the rates without torch
    from torch.nn import Parameter


def group_of(
    part: str,
    block: int | None,
    *,
    lora_plus: bool,
    args: NetworkArgs,
    rates: Mapping[str, float],
    blocks: BlockList,
) -> tuple[str, float]:
    """Return the name of a parameter's group and its learning rate.

    block: its index in the block lists; lora_plus: LoRA+ raises its rate. rates: part -> learning
    rate.
    """
    name, rate = part, rates[part]
    if (
        part in DENOISERS
        and block is not None
        and (args.down_weights or args.mid_weights or args.up_weights)
    ):
        name, rate = f"{part}_block{block}", rate * block_lists.weights(args, blocks)[block]
    ratio = (args.plus_unet if part in DENOISERS else args.plus_text) or args.plus
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
    lists = [family.BLOCKS for family in registry.families()]
    blocks = max((b for b in lists if args.sides in (None, b.down)), key=lambda b: b.total)
    possible: dict[str, float] = {}
    for part in rates:
        for block in range(blocks.total) if part in DENOISERS else (None,):
            for lora_plus in (False, True):
                name, rate = group_of(
                    part, block, lora_plus=lora_plus, args=args, rates=rates, blocks=blocks
                )
                possible[name] = rate
    return possible
