"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from datasetkit.options.networks import Algo
from trainer.networks import loha, lokr, lora
from trainer.networks.base import Method

METHODS: Final[Mapping[Algo, Method]] = {"lora": lora, "loha": loha, "lokr": lokr}
