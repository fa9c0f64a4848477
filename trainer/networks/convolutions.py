"""The layers of a UNet's convolutional blocks (LoCon's), and how many blocks the UNet has."""

from __future__ import annotations

import re
from typing import Final

from torch import nn

from trainer.families import module_names
from trainer.families.base import Parts

_CONVOLUTIONAL: Final = re.compile(r"\.(?:resnets|downsamplers|upsamplers)\.")


def targets(parts: Parts) -> dict[str, str]:
    """Return kohya's name -> path of the 3x3 convolutions, time embeddings and 1x1 shortcuts.

    86 in Stable Diffusion 1 and 2 (50 + 22 + 14), 66 in SDXL (38 + 17 + 11).
    """
    name = module_names.original if parts.family == "sdxl" else module_names.plain
    kinds = nn.Linear | nn.Conv2d
    paths = [
        p
        for p, m in parts.unet.named_modules()
        if _CONVOLUTIONAL.search(p) and isinstance(m, kinds)
    ]
    return {name(path): path for path in paths}


def sides(parts: Parts) -> int:
    """Return the number of down blocks in the block lists."""
    return 9 if parts.family == "sdxl" else 12
