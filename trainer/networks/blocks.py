"""UNet blocks: which block a module belongs to, and the block lists of weights and ranks.

Blocks are counted from input to output as in sd-scripts: 12 down blocks, a middle one and 12 up
blocks in Stable Diffusion 1 and 2; in SDXL the embeddings, 9 + 3 + 9 blocks, and the output. The
first down block of the former (`conv_in`) and the first and last entry of the latter have no LoRA,
but they do have an index in the lists.
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
    """Return the index of a UNet module in the block lists; None for other modules, such as a text
    encoder's.

    name: kohya's, or a tensor's in diffusers' or the original layout. sides: the number of down
    blocks, 12 or 9.
    """
    down, middle, up = (
        (0, 12, 13) if sides == 12 else (1, 10, 13)
    )  # index of input_blocks.0, middle_block.0 and output_blocks.0
    if match := _ORIGINAL.match(name):
        number = int(match[2])
        if match[1] == "middle_block":
            return middle + (number if sides == 9 else 0)
        return number + (down if match[1] == "input_blocks" else up)
    if match := _PLAIN.match(name):
        offset = 3 * int(match[2]) + (2 if match[3].endswith("samplers") else int(match[4]))
        return offset + (down + 1 if match[1] == "down" else up)
    if match := _MIDDLE.match(name):
        # resnets.0, attentions.0, resnets.1: in SDXL each is a separate block.
        offset = 1 if match[1] == "attentions" else 2 * int(match[2])
        return middle + (offset if sides == 9 else 0)
    return None


def weights(args: NetworkArgs, sides: int) -> tuple[float, ...]:
    """Return the factor of each block's learning rate: by default 1, and 0 at or below the
    threshold.
    """
    middle = args.mid_weights or (1.0,) * MIDDLES[sides]
    ends = (1.0,) if sides == 9 else ()
    all_blocks = (
        *_side(args.down_weights, sides, down=True),
        *middle,
        *_side(args.up_weights, sides, down=False),
    )
    return (*ends, *(w if w > args.zero_threshold else 0.0 for w in all_blocks), *ends)


def _side(values: Weights, sides: int, *, down: bool) -> tuple[float, ...]:
    if not values:
        return (1.0,) * sides
    shape = values[0]
    if not isinstance(shape, str):
        return tuple(float(weight) for weight in values)
    positions = [n / (sides - 1) for n in range(sides)]
    shapes = {
        "sine": [math.sin(math.pi * x / 2) for x in positions],
        "cosine": [math.sin(math.pi * x / 2) for x in reversed(positions)],
        "linear": positions,
        "reverse_linear": positions[::-1],
        "zeros": [0.0] * sides,
    }
    return tuple(y + float(values[1]) for y in shapes[shape])


def check(args: NetworkArgs, sides: int) -> None:
    """Raise ConfigError for block lists of another UNet. sides: the model's number of down
    blocks.
    """
    if args.sides not in (None, sides):
        counts = f"{sides} + {MIDDLES[sides]} + {sides}"
        raise ConfigError(
            f"network_args: the lists have {args.sides} down blocks, but the model has {sides}",
            hint=f"it has {counts} blocks, so a list of all blocks has {TOTALS[sides]} values",
        )
