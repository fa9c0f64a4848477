"""The layers and widths of a diffusion transformer and its text encoders, from their tensors'
shapes.

Loads no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Final

from trainer.families import dit_names
from trainer.families.base import Anatomy, Part, Shapes
from trainer.families.dit_names import DitNames
from trainer.families.model_files import hidden_widths
from trainer.networks.layers import Layer, Shape

TRANSFORMER: Final = "transformer"
# Before the names in a file of several parts, or of a program that calls the transformer so.
PREFIXES: Final = ("model.diffusion_model.", "diffusion_model.", "net.")
# Latent pixels of a token: patches are 2 x 2.
_PATCH: Final = 4
# Layers that process the text or the time instead of image tokens.
_NO_IMAGE: Final = re.compile(
    r"add_[qkv]_proj|to_add_out|ff_context|txt_|context_block|modulation|_mod\b|norm|embed"
)
# Stable Diffusion 3's positions are stored with its weights.
_BUFFER: Final = re.compile(r"(?:^|\.)pos_embed$")
_EMBEDDING: Final = re.compile(r"embed|shared\.|lm_head|visual|vision")


def anatomy(shapes: Mapping[Part, Shapes], names: DitNames) -> Anatomy:
    """Return the facts about a model. shapes: of each part, the transformer's in diffusers' or in
    the original layout.
    """
    transformer = {bare_name(name): shape for name, shape in shapes[TRANSFORMER].items()}
    return Anatomy(
        parameters={
            part: sum(math.prod(s) for name, s in each.items() if not _BUFFER.search(name))
            for part, each in shapes.items()
        },
        layers={TRANSFORMER: tuple(_layers(transformer, names))},
        width=_rows(transformer, _NO_IMAGE) / _PATCH,
        text_widths={
            part: _rows(each, _EMBEDDING) for part, each in shapes.items() if part != TRANSFORMER
        },
        hidden_widths=hidden_widths(shapes),
    )


def bare_name(name: str) -> str:
    """Return the name of a tensor without what programs put before it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _layers(shapes: Mapping[str, Shape], names: DitNames) -> Iterator[Layer]:
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        if path == name or len(shape) != 2:
            continue
        parts = (path,) if names.is_target(path) else names.from_original(path)
        heights = dit_names.heights(len(parts), shape[0], shape[1]) if parts else []
        for part, height in zip(parts, heights, strict=True):
            yield Layer(
                height,
                shape[1],
                block=dit_names.block_number(part),
                name=dit_names.module_name(part),
            )


def _rows(shapes: Mapping[str, Shape], excluded: re.Pattern[str]) -> int:
    """Return the output values of a model's linear layers for each token."""
    return sum(
        shape[0]
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and not excluded.search(name)
    )
