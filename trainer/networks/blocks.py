"""The block lists of network_args: weights and ranks of each block of a UNet."""

from __future__ import annotations

import math

from datasetkit.core.errors import ConfigError
from datasetkit.options.networks import NetworkArgs, Weights
from trainer.families.base import BlockList


def weights(args: NetworkArgs, blocks: BlockList) -> tuple[float, ...]:
    """Return the factor of each block's learning rate: by default 1, and 0 at or below the
    threshold.
    """
    middle = args.mid_weights or (1.0,) * blocks.middle
    ends = (1.0,) if blocks.ends else ()
    each = (
        *_side(args.down_weights, blocks.down, down=True),
        *middle,
        *_side(args.up_weights, blocks.up, down=False),
    )
    return (*ends, *(w if w > args.zero_threshold else 0.0 for w in each), *ends)


def _side(values: Weights, number: int, *, down: bool) -> tuple[float, ...]:
    if not values:
        return (1.0,) * number
    shape = values[0]
    if not isinstance(shape, str):
        return tuple(float(weight) for weight in values)
    positions = [n / (number - 1) for n in range(number)]
    shapes = {
        "sine": [math.sin(math.pi * x / 2) for x in positions],
        "cosine": [math.sin(math.pi * x / 2) for x in reversed(positions)],
        "linear": positions,
        "reverse_linear": positions[::-1],
        "zeros": [0.0] * number,
    }
    return tuple(y + float(values[1]) for y in shapes[shape])


def check(args: NetworkArgs, blocks: BlockList) -> None:
    """Raise ConfigError for block lists of another model. blocks: the model's."""
    if not blocks.total and args.has_lists:
        raise ConfigError(
            "network_args: the lists are of a UNet's blocks, but the model is a transformer",
            hint="remove the block lists: every block is trained alike",
        )
    if args.sides not in (None, blocks.down):
        counts = f"{blocks.down} + {blocks.middle} + {blocks.up}"
        raise ConfigError(
            f"network_args: the lists have {args.sides} down blocks, but the model has "
            f"{blocks.down}",
            hint=f"it has {counts} blocks, so a list of all blocks has {blocks.total} values",
        )
