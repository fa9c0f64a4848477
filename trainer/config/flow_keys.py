"""Keys of other trainers' files that count for flow models only.

The files hold them for a model of any family, so the base model decides whether they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from datasetkit.core.errors import DskError
from datasetkit.options.declare import declared
from datasetkit.options.train import TrainOptions
from trainer.config.keys import FLAT, FLOW, is_off
from trainer.families import registry, source
from trainer.families.detect import detect

# Files of the parts that are beside a transformer.
_PARTS: Final = (
    "clip_l", "clip_g", "t5xxl", "ae", "qwen3", "text_encoder", "llm_adapter_path",
    "t5_tokenizer_path",
)  # fmt: skip
_PARTS_ARE: Final = "base_folder names the folder with the other parts of the model"
_NOT_READ: Final = "sd-scripts does not look at it for flow models"
_MEMORY: Final = "base_precision and blocks_to_swap save memory"
# Keys without an effect for a flow model -> why.
_IGNORED: Final[Mapping[str, str]] = {
    **dict.fromkeys(_PARTS, _PARTS_ARE),
    **dict.fromkeys(
        (
            "min_snr_gamma", "debiased_estimation_loss", "scale_v_pred_loss_like_noise_pred",
            "v_pred_like_loss", "noise_offset", "adaptive_noise_scale",
            "noise_offset_random_strength", "multires_noise_iterations", "multires_noise_discount",
            "clip_skip", "max_token_length", "v_parameterization",
        ),
        _NOT_READ,
    ),
    **dict.fromkeys(
        ("mem_eff_save", "single_blocks_to_swap", "double_blocks_to_swap", "text_encoder_cpu"),
        _MEMORY,
    ),
    **dict.fromkeys(
        ("t5xxl_max_token_length", "qwen3_max_token_length", "t5_max_token_length"),
        "captions are read to the length that the family takes",
    ),
    **dict.fromkeys(
        ("apply_t5_attn_mask", "apply_lg_attn_mask"), "the mask is the one of diffusers' pipeline"
    ),
    **dict.fromkeys(
        ("clip_l_dropout_rate", "clip_g_dropout_rate", "t5_dropout_rate"),
        "caption_dropout_rate drops a caption for all text encoders",
    ),
    **dict.fromkeys(
        ("save_clip", "save_t5xxl", "t5xxl_device", "t5xxl_dtype"),
        "the text encoders are frozen, and are kept in the precision of the training",
    ),
}  # fmt: skip
_DEFAULTS: Final = {option.name: option.default for option in declared(TrainOptions)}
# sd-scripts has a module for the LoRA of each family.
_NETWORKS: Final = ("networks.lora_flux", "networks.lora_sd3", "networks.lora_anima")
# Values with the meaning of another one here.
_SAME: Final[Mapping[str, Mapping[str, str]]] = {"weighting_scheme": {"uniform": "none"}}


def is_flow(base: Any, revision: Any = "") -> bool | None:
    """Tell whether a base model is a flow model; None where it is not on this machine."""
    with suppress(DskError):
        path = source.local(str(base or ""), str(revision or ""))
        if path is not None:
            return registry.family(detect(path).family).FLOW is not None
    return None


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
    ignored: dict[str, str] = {}
    for name, reason in _IGNORED.items():
        value = others.pop(name, None)
        row = FLAT.get(name)
        is_default = is_off(value) or (row is not None and row.is_off(value))
        if not is_default and str(value) != str(_DEFAULTS.get(name)):
            ignored[name] = reason
    others.pop("model_type", None)
    if str(others.get("model_train_type", "")).endswith("-lora"):
        del others["model_train_type"]
    if others.get("network_module") in _NETWORKS:
        others["network_module"] = "networks.lora"
    if others.get("network_train_unet_only") is True:
        others.pop("text_encoder_lr", None)
    return others, flow, ignored
