"""The blocks of a UNet: which block a layer belongs to, and the layers of the convolutional blocks.

Blocks are counted from input to output as in sd-scripts: 12 down blocks, a middle one and 12 up
blocks in Stable Diffusion 1 and 2; in SDXL the embeddings, 9 + 3 + 9 blocks, and the output. The
first down block of the former (`conv_in`) and the first and last entry of the latter have no LoRA,
but they do have an index in the lists. Loads no torch.
"""

from __future__ import annotations

import re
from typing import Final

from trainer.families.base import BlockList

PLAIN: Final = BlockList(12, 1, 12)
XL: Final = BlockList(9, 3, 9, ends=True)

_PLAIN: Final = re.compile(
    r"(?:lora_unet_)?(down|up)_blocks[_.](\d+)[_.](resnets|attentions|downsamplers|upsamplers)[_.](\d+)[_.]"
)
_MIDDLE: Final = re.compile(r"(?:lora_unet_)?mid_block[_.](resnets|attentions)[_.](\d+)[_.]")
_ORIGINAL: Final = re.compile(
    r"(?:lora_unet_)?(input_blocks|middle_block|output_blocks)[_.](\d+)[_.]"
)


def block(name: str, blocks: BlockList) -> int | None:
    """Return the index of a UNet module in the block lists; None for other modules, such as a text
    encoder's.

    name: kohya's, or a tensor's in diffusers' or the original layout. blocks: of the family.
    """
    # The indices of input_blocks.0, middle_block.0 and output_blocks.0.
    down, middle, up = (1, 10, 13) if blocks.ends else (0, 12, 13)
    if match := _ORIGINAL.match(name):
        number = int(match[2])
        if match[1] == "middle_block":
            return middle + (number if blocks.middle > 1 else 0)
        return number + (down if match[1] == "input_blocks" else up)
    if match := _PLAIN.match(name):
        offset = 3 * int(match[2]) + (2 if match[3].endswith("samplers") else int(match[4]))
        return offset + (down + 1 if match[1] == "down" else up)
    if match := _MIDDLE.match(name):
        # resnets.0, attentions.0, resnets.1: in SDXL each is a separate block.
        offset = 1 if match[1] == "attentions" else 2 * int(match[2])
        return middle + (offset if blocks.middle > 1 else 0)
    return None
