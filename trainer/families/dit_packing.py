"""Latents as a transformer's tokens, patches of 2 x 2, and back; the positions of the tokens.

Imports torch when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def packed(latents: Tensor) -> Tensor:
    """Return latents (b, c, h, w) as tokens (b, h / 2 * w / 2, 4 c), row by row."""
    from torch.nn import functional

    return functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpacked(tokens: Tensor, like: Tensor) -> Tensor:
    """Return tokens as latents of the shape of `like`."""
    from torch.nn import functional

    batch, _, height, width = like.shape
    patches = tokens.transpose(1, 2).reshape(batch, -1, height // 2, width // 2)
    return functional.pixel_shuffle(patches, 2)


def grid(latents: Tensor) -> Tensor:
    """Return the positions of the tokens of latents, (tokens, 3): 0, row, column."""
    import torch

    height, width = latents.shape[2] // 2, latents.shape[3] // 2
    axes = (torch.arange(n, device=latents.device) for n in (1, height, width))
    return torch.cartesian_prod(*axes)


def text_positions(tokens: int, device: Any) -> Tensor:
    """Return the positions of text tokens, (tokens, 3): all 0."""
    import torch

    return torch.zeros(tokens, 3, dtype=torch.int64, device=device)
