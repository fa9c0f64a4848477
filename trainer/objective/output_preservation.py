"""Differential output preservation: the base model's prediction as the target of some images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainer.data.prefetch import PreparedSample
    from trainer.files.lora import Lora


@contextmanager
def without_lora(lora: Lora) -> Iterator[None]:
    """Disable the LoRA for a while, without changing it."""
    layers = [module.layer for module in lora.modules]
    try:
        for layer in layers:
            # peft's own `enable_adapters` would also switch off the gradients of the weights.
            layer._disable_adapters = True
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def preserved_rows(batch: Sequence[PreparedSample]) -> list[int]:
    """Return the indices of the samples whose target is the base's prediction."""
    return [row for row, sample in enumerate(batch) if sample.image.subset.preserved]


def with_base_predictions(
    target: Tensor, rows: Sequence[int], lora: Lora, predict: Callable[[Sequence[int]], Tensor]
) -> Tensor:
    """Return a target whose `rows` are the base's predictions for the same noise, timestep and
    caption.

    This is differential output preservation (sd-scripts' pull request 1710; "prior prediction" in
    OneTrainer): it keeps the LoRA's output at the base's. Text is also encoded without the LoRA, so
    that a trained text encoder is preserved too. predict: rows of the batch -> predictions.
    """
    preserved = target.clone()
    with torch.no_grad(), without_lora(lora):
        preserved[list(rows)] = predict(rows).to(preserved)
    return preserved
