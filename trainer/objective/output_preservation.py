"""Preservation: what the base model itself predicts, as the target of images that shall not
change it.
"""

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
    """Let the model predict as if it had no LoRA; the LoRA itself is not touched."""
    layers = [module.layer for module in lora.modules]
    try:
        for layer in layers:
            # peft's own switch, `enable_adapters`, would also take the gradients from the weights.
            layer._disable_adapters = True
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def preserved_rows(batch: Sequence[PreparedSample]) -> list[int]:
    """Return the places in a batch of the images whose target is the base's prediction."""
    return [place for place, seen in enumerate(batch) if seen.image.subset.preserved]


def with_base_predictions(
    target: Tensor, kept: Sequence[int], lora: Lora, predict: Callable[[Sequence[int]], Tensor]
) -> Tensor:
    """Return a target whose rows `kept` are what the base predicts there, on the same noise,
    timestep and caption.

    This is differential output preservation (sd-scripts' pull request 1710; "prior prediction" in
    OneTrainer): the LoRA is held where the base was. Text is encoded without the LoRA too, so that
    a trained text encoder is held as well. predict: rows of the batch -> predictions.
    """
    made = target.clone()
    with torch.no_grad(), without_lora(lora):
        made[list(kept)] = predict(kept).to(made)
    return made
