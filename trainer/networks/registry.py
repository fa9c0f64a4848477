"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from datasetkit.options.networks import Algo
from trainer.networks import loha, lokr, lora
from trainer.networks.base import Method

METHODS: Final[Mapping[Algo, Method]] = {"lora": lora, "loha": loha, "lokr": lokr}
# Tensors that tell a method's files.
MARKER_TENSORS: Final[Mapping[str, Algo]] = {
    "lora_down.weight": "lora",
    "hada_w1_a": "loha",
    "lokr_w1": "lokr",
    "lokr_w1_a": "lokr",
}
