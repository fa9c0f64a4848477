"""The WD14 taggers of SmilingWolf (Apache-2.0): where each one lies, and how it scores pictures."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.events import SILENT, Reporter
from taggers import hub, onnx_file, sessions
from taggers.base import Identity, Labels, Resolved, TaggerOptions, round_scores
from taggers.labels import read_labels
from taggers.preprocess import PREPROCESS, to_square_bgr

MODEL_FILE, LABEL_FILE = "model.onnx", "selected_tags.csv"
FILES = (LABEL_FILE, MODEL_FILE)
DEFAULT = "wd-swinv2-v3"
LOCAL = "local"
# On a CPU a batch gains nothing; a card starves without one.
CPU_BATCH, CARD_BATCH = 1, 8
REPO = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")
# Sigmoids may leave 0..1 by rounding; logits leave it by far.
PROBABILITY_SLACK = 1e-3


@dataclass(frozen=True, slots=True)
class Wd14Model:
    """A model on the hub. revision: 40-hex commit, or a branch or tag. pr_threshold: where its card has P = R."""

    name: str
    repo: str
    revision: str
    pr_threshold: float | None = None

    @property
    def command(self) -> str:
        """The command that fetches this model."""
        return f"dsk models download {self.name}"


# Revisions and P=R thresholds as on the model cards.
MODELS = {
    model.name: model
    for model in (
        Wd14Model(DEFAULT, "SmilingWolf/wd-swinv2-tagger-v3", "805ca9892b4fdfbe3f06f9de3f0a07b3da8637ed", 0.2653),
        Wd14Model("wd-vit-v3", "SmilingWolf/wd-vit-tagger-v3", "7f6b584d0bd3f55c4531f14ba3d4761b2bccdc0f", 0.2614),
        Wd14Model(
            "wd-convnext-v3", "SmilingWolf/wd-convnext-tagger-v3", "d39e46de298d27340111b64965e20b8185c407e6", 0.2682
        ),
        Wd14Model("wd-vit-large-v3", "SmilingWolf/wd-vit-large-tagger-v3", "ae469aa2e4706a3af08d3673cf73a11d1add314c"),
        Wd14Model(
            "wd-eva02-large-v3", "SmilingWolf/wd-eva02-large-tagger-v3", "b25b82a03f7282e41aa2f257a52c7583b710bd1c", 0.5296
        ),
        Wd14Model("wd-vit-v2", "SmilingWolf/wd-v1-4-vit-tagger-v2", "1f3f3e8ae769634e31e1ef696df11ec37493e4f2", 0.3537),
        Wd14Model(
            "wd-convnext-v2", "SmilingWolf/wd-v1-4-convnext-tagger-v2", "4b34d1b07bdd8e95494072648960b8a6adcbc0ff", 0.3685
        ),
        Wd14Model(
            "wd-convnextv2-v2",
            "SmilingWolf/wd-v1-4-convnextv2-tagger-v2",
            "dbd4dbe553ee51feb3bc745b614fb762080e3912",
            0.3710,
        ),
        Wd14Model(
            "wd-swinv2-v2", "SmilingWolf/wd-v1-4-swinv2-tagger-v2", "cdb0c7fdc70646f0af29c6f80f8df564344a69b6", 0.3771
        ),
        Wd14Model("wd-moat-v2", "SmilingWolf/wd-v1-4-moat-tagger-v2", "8452cddf280b952281b6e102411c50e981cb2908", 0.3771),
    )
}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A line of `dsk models list`; `path` is the weights' place when both files are cached."""

    name: str
    repo: str
    revision: str
    cached: bool
    path: Path | None
