"""Keys of other trainers' files that count for flow models only.

The files hold them for a model of any family, so the base model decides whether they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from datasetkit.core.errors import DskError
from trainer.config.keys import FLOW
from trainer.families import registry, source
from trainer.families.detect import detect

# Files of the parts that are beside a transformer.
_PARTS: Final = (
    "clip_l", "clip_g", "t5xxl", "ae", "qwen3", "text_encoder", "llm_adapter_path",
    "t5_tokenizer_path",
)  # fmt: skip
_PARTS_ARE: Final = "base_folder names the folder with the other parts of the model"
# sd-scripts has a module for the LoRA of each family.
_NETWORKS: Final = ("networks.lora_flux", "networks.lora_sd3", "networks.lora_anima")
# Values with the meaning of another one here.
_SAME: Final[Mapping[str, Mapping[str, str]]] = {"weighting_scheme": {"uniform": "none"}}


def is_flow(base: Any, revision: Any = "") -> bool:
    """Tell whether a base model on this machine is a flow model."""
    with suppress(DskError):
        path = source.local(str(base or ""), str(revision or ""))
        return path is not None and registry.family(detect(path).family).FLOW is not None
    return False


def split(run: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Split the keys of a run of a flow model: the other keys, the options of flow models, and the
    keys without an effect -> why.
    """
    others = dict(run)
    flow = {name: others.pop(name) for name in FLOW & set(run)}
    flow = {
        name: _SAME.get(name, {}).get(value, value) if isinstance(value, str) else value
        for name, value in flow.items()
        if value not in (None, "")
    }
    ignored = {name: _PARTS_ARE for name in _PARTS if others.pop(name, None)}
    others.pop("model_type", None)
    if str(others.get("model_train_type", "")).endswith("-lora"):
        del others["model_train_type"]
    if others.get("network_module") in _NETWORKS:
        others["network_module"] = "networks.lora"
    if others.get("network_train_unet_only") is True:
        others.pop("text_encoder_lr", None)
    return others, flow, ignored
