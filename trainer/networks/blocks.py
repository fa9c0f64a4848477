"""Blocks: which block of the UNet a module belongs to, and what the lists of block weights and
ranks say of it.

A UNet is counted from its input to its output, as sd-scripts counts: 12 down blocks, a middle one
and 12 up blocks in Stable Diffusion 1 and 2; in SDXL the embeddings, 9 + 3 + 9 blocks, and the
output. The first down block of the former (`conv_in`) and the first and last of the latter have no
LoRA, and yet a place in the lists.
"""

from __future__ import annotations

import math
import re
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.networks import MIDDLES, TOTALS, NetworkArgs, Weights

_PLAIN: Final = re.compile(
    r"(?:lora_unet_)?(down|up)_blocks[_.](\d+)[_.](resnets|attentions|downsamplers|upsamplers)[_.](\d+)[_.]"
)
_MIDDLE: Final = re.compile(r"(?:lora_unet_)?mid_block[_.](resnets|attentions)[_.](\d+)[_.]")
_ORIGINAL: Final = re.compile(
    r"(?:lora_unet_)?(input_blocks|middle_block|output_blocks)[_.](\d+)[_.]"
)


def block(name: str, sides: int) -> int | None:
    """Return the place of a UNet's module in the lists; None for a module that has none, as those
    of a text encoder.

    name: kohya's, or that of a tensor in diffusers' or in the original layout. sides: the number of
    down blocks, 12 or 9.
    """
    down, middle, up = (
        (0, 12, 13) if sides == 12 else (1, 10, 13)
    )  # where input_blocks.0 and the others begin
    if found := _ORIGINAL.match(name):
        number = int(found[2])
        if found[1] == "middle_block":
            return middle + (number if sides == 9 else 0)
        return number + (down if found[1] == "input_blocks" else up)
    if found := _PLAIN.match(name):
        place = 3 * int(found[2]) + (2 if found[3].endswith("samplers") else int(found[4]))
        return place + (down + 1 if found[1] == "down" else up)
    if found := _MIDDLE.match(name):
        # resnets.0, attentions.0, resnets.1: in SDXL each is a block of its own.
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return middle + (place if sides == 9 else 0)
    return None


def weights(args: NetworkArgs, sides: int) -> tuple[float, ...]:
    """Return the weight of each block's learning rate, 1 where nothing else is said; at or under
    the threshold 0.
    """
    middle = args.mid_weights or (1.0,) * MIDDLES[sides]
    ends = (1.0,) if sides == 9 else ()
    every = (
        *_side(args.down_weights, sides, down=True),
        *middle,
        *_side(args.up_weights, sides, down=False),
    )
    return (*ends, *(w if w > args.zero_threshold else 0.0 for w in every), *ends)


def _side(given: Weights, sides: int, *, down: bool) -> tuple[float, ...]:
    if not given:
        return (1.0,) * sides
    course = given[0]
    if not isinstance(course, str):
        return tuple(float(weight) for weight in given)
    places = [n / (sides - 1) for n in range(sides)]
    shapes = {
        "sine": [math.sin(math.pi * x / 2) for x in places],
        "cosine": [math.sin(math.pi * x / 2) for x in reversed(places)],
        "linear": places,
        "reverse_linear": places[::-1],
        "zeros": [0.0] * sides,
    }
    return tuple(y + float(given[1]) for y in shapes[course])


def check(args: NetworkArgs, sides: int) -> None:
    """Raise ConfigError where the lists are made for another UNet. sides: the model's number of
    down blocks.
    """
    if args.sides not in (None, sides):
        said = f"{sides} + {MIDDLES[sides]} + {sides}"
        raise ConfigError(
            f"network_args: the lists are of {args.sides} down blocks, and the model has {sides}",
            hint=f"it has {said} blocks, and lists of all blocks have {TOTALS[sides]} values",
        )
