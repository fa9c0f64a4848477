"""LoRAs of layers that one model has as several and another as one: q, k and v as rows of a matrix.

Fusing is exact: the downs are stacked, and the ups are the blocks of a block-diagonal matrix. The
rank is the sum of the ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.lora_files.low_rank import LowRank


def folded(layer: LowRank) -> LowRank:
    """Return the same change with scale 1; the factor alpha / rank is multiplied into up."""
    return LowRank(layer.up * layer.scale, layer.down)


def fused(rows: Sequence[LowRank | None], heights: Sequence[int]) -> LowRank:
    """Return the LoRA of the layer whose rows are those of several layers, one below the other.

    rows: None where a layer has no LoRA. heights: each layer's out features. A scale that all have
    is kept; others are multiplied into up.
    """
    layers = [row for row in rows if row is not None]
    scales = {layer.scale for layer in layers}
    kept = scales.pop() if len(scales) == 1 else 1.0
    up = np.zeros((sum(heights), sum(layer.rank for layer in layers)), layers[0].up.dtype)
    top = left = 0
    for row, height in zip(rows, heights, strict=True):
        if row is not None:
            block = row.up if row.scale == kept else row.up * row.scale
            up[top : top + height, left : left + row.rank] = block
            left += row.rank
        top += height
    return LowRank(up, np.concatenate([layer.down for layer in layers]), kept)


def split(layer: LowRank, heights: Sequence[int]) -> list[LowRank | None]:
    """Return the LoRAs of the layers whose rows a layer's rows are; None for rows that do not
    change.

    A layer takes the inner dimensions that reach its rows, so `fused` is undone exactly; where
    several share one, each has it. Blocks of one size are taken whole, so that a new LoRA, whose
    up is 0, keeps its rank. heights: each layer's out features.
    """
    if sum(heights) != len(layer.up):
        raise ValueError(f"{len(layer.up)} rows are not {' + '.join(map(str, heights))}")
    ends = np.cumsum(heights)
    ups = [layer.up[end - height : end] for end, height in zip(ends, heights, strict=True)]
    used = [np.flatnonzero(up.any(axis=0)) for up in ups]
    blocks = np.array_split(np.arange(layer.rank), len(heights))
    if layer.rank % len(heights) == 0 and all(
        set(columns) <= set(block) for columns, block in zip(used, blocks, strict=True)
    ):
        used = blocks
    return [
        LowRank(up[:, columns], layer.down[columns], layer.scale) if len(columns) else None
        for up, columns in zip(ups, used, strict=True)
    ]
