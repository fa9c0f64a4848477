"""What a training of each family needs on a card, by the formula of the plan.

The numbers are of a LoRA of rank 16, AdamW, bf16 and a batch of 1 (trainer/tools/card_needs.py);
the plan of a run counts its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("card_needs.json")
# The options of the runs that were counted, the mildest first.
CHANGES: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"gradient_checkpointing": True},
    {"gradient_checkpointing": True, "base_precision": "int8"},
)
# The share of a card's memory that a run may take by the estimate.
_USABLE: Final = 0.9


def trainable(card_bytes: float) -> Mapping[str, str]:
    """Return family and side -> the options that a run needs on a card of so many bytes: "" for
    none; families that it cannot train are left out.
    """
    return {
        title: ", ".join(CHANGES[n])
        for title, sizes in _needs().items()
        if (n := next((i for i, size in enumerate(sizes) if size <= card_bytes * _USABLE), -1)) >= 0
    }


def titles() -> tuple[str, ...]:
    """Return the families whose needs are known, with the side that was counted."""
    return tuple(_needs())


@cache
def _needs() -> Mapping[str, list[int]]:
    needs: Mapping[str, list[int]] = json.loads(FILE.read_text(encoding="utf-8"))
    return needs
