"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from datasetkit.options.networks import Algo
from trainer.networks import cp, full, loha, lokr, lora, norm
from trainer.networks.base import Method, OwnMethod

# Those that peft does not have.
OWN: Final[Mapping[Algo, OwnMethod]] = {"cp": cp, "full": full}
METHODS: Final[Mapping[Algo, Method]] = {
    "lora": lora, "loha": loha, "lokr": lokr, "norm": norm, **OWN,
}  # fmt: skip
