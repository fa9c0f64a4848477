"""Weights of the UNet's blocks when LoRAs are merged: by name, or as the lists that people have for
web interfaces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from trainer.families.base import FamilyName
from trainer.lora_files.layer_names import LayerName


def _names(ins: Sequence[int], outs: Sequence[int]) -> tuple[str, ...]:
    return (
        "BASE", *(f"IN{n:02d}" for n in ins), "MID", *(f"OUT{n:02d}" for n in outs),
    )  # fmt: skip


# Number of values -> the blocks that they are of. Blocks that a short list leaves out keep 1.
_LISTS: Final[Mapping[int, tuple[str, ...]]] = {
    26: _names(range(12), range(12)),
    20: _names(range(9), range(9)),
    17: _names((1, 2, 4, 5, 7, 8), range(3, 12)),
    12: _names((4, 5, 7, 8), range(6)),
}
_XL_LISTS: Final = (12, 20)
_SD_LISTS: Final = (17, 26)


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """blocks: block -> weight, 1 for others. unet, text: weights of the UNet and of the text
    encoders, which also have the weight of BASE.
    """

    blocks: Mapping[str, float]
    unet: float = 1.0
    text: float = 1.0

    def of(self, name: LayerName) -> float:
        """Return the weight of a layer."""
        if name.part == "unet":
            return self.unet * self.blocks.get(name.block, 1.0)
        if not name.is_known or name.part == "transformer":
            return self.unet
        return self.text * self.blocks.get("BASE", 1.0)


def parse(values: Sequence[str], family: FamilyName | None) -> dict[str, float]:
    """Read block weights: `BASE=1`, `IN04=0.5`, ..., or a list of numbers. Raises ConfigError."""
    if not values:
        return {}
    if family is None:
        raise ConfigError(
            "block weights are known for Stable Diffusion 1, 2 and XL only",
            hint="leave out --blocks",
        )
    allowed = _LISTS[20 if family == "sdxl" else 26]
    if not any("=" in value for value in values):
        lists = _XL_LISTS if family == "sdxl" else _SD_LISTS
        if len(values) not in lists:
            raise ConfigError(
                f"--blocks has {len(values)} numbers; this family has lists of "
                f"{' or '.join(map(str, lists))}",
                hint="or name the blocks: --blocks BASE=1,MID=0.5",
            )
        pairs = list(zip(_LISTS[len(values)], values, strict=True))
    else:
        pairs = [(n.strip().upper(), v) for n, _, v in (value.partition("=") for value in values)]
    weights: dict[str, float] = {}
    for name, value in pairs:
        if name not in allowed or name in weights:
            what = "twice" if name in weights else "which this family does not have"
            raise ConfigError(
                f"--blocks names {display(name)}, {what}",
                hint=f"the blocks are BASE, IN00 to {allowed[len(allowed) // 2 - 1]}, MID, "
                f"OUT00 to {allowed[-1]}",
            )
        weights[name] = number(value, f"--blocks {name}")
    return weights


def number(text: str, what: str) -> float:
    """Read a finite number. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{what} = {display(text)} is not a number", hint="e.g. 0.8")
    return value
