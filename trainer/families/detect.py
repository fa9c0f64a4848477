"""Which family a base model is of, and what it says of itself: found in its files' names and
shapes, without torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.plan import safetensors_header

FamilyName = Literal["sd1", "sd2", "sdxl"]
Predicts = Literal["epsilon", "v_prediction"]
TITLES: Final[Mapping[FamilyName, str]] = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
}
_TRAINED: Final = "models of Stable Diffusion 1, 2 and XL can be trained on"

# What one file of a family has, in the original layout; the first that fits counts.
_FAMILY_KEYS: Final[Mapping[str, FamilyName]] = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
# What other files have, with what they are and what to do; looked for where no family fits.
_REFINER: Final = "the refiner of Stable Diffusion XL"
_BASE: Final = "name the base model that it belongs to"
_OTHER_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "double_blocks.": ("a model of Flux", _TRAINED),
    "model.diffusion_model.double_blocks.": ("a model of Flux", _TRAINED),
    "model.diffusion_model.joint_blocks.": ("a model of Stable Diffusion 3", _TRAINED),
    "joint_blocks.": ("a model of Stable Diffusion 3", _TRAINED),
    "conditioner.embedders.0.model.": (_REFINER, "train on Stable Diffusion XL's base model"),
    "lora_": ("a LoRA", f"{_BASE}; network_weights goes on from a LoRA"),
    "unet.": ("a LoRA", f"{_BASE}; network_weights goes on from a LoRA"),
    "control_model.": ("a ControlNet", _BASE),
    "encoder.conv_in.": ("a VAE", f"{_BASE}; `vae` in [train] is where a VAE is named"),
}
_LATENT_CHANNELS: Final = (
    4  # of a file's model; another number of the UNet's inputs is an inpainting or depth model
)
_FIRST: Final = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True, slots=True)
class DetectedModel:
    """prediction: what the model itself says that it predicts; None where it says nothing."""

    family: FamilyName
    prediction: Predicts | None = None

    @property
    def title(self) -> str:
        return TITLES[self.family]


def detect(source: Path) -> DetectedModel:
    """Tell the family of a diffusers folder or of one file. Raises ModelFileError for what cannot
    be trained on.
    """
    return _of_folder(source) if source.is_dir() else _of_file(source)


def _of_folder(folder: Path) -> DetectedModel:
    if (folder / "transformer").is_dir():
        raise ModelFileError(
            f"{display(folder)} is a model without a UNet, such as Flux", hint=_TRAINED
        )
    unet, vae = _json(folder / "unet" / "config.json"), _json(folder / "vae" / "config.json")
    if unet is None:
        raise ModelFileError(
            f"{display(folder)} is no whole diffusers model: it has no unet/config.json",
            hint="it needs unet/, vae/ and text_encoder/, each with config.json and .safetensors",
        )
    has_second = (folder / "text_encoder_2").is_dir()
    if has_second and not (folder / "text_encoder").is_dir():
        raise ModelFileError(
            f"{display(folder)} is {_REFINER}", hint="train on Stable Diffusion XL's base model"
        )
    if unet.get("addition_embed_type") == "text_time" and not has_second:
        raise ModelFileError(
            f"{display(folder)} is no whole model of Stable Diffusion XL: it has no "
            "text_encoder_2/",
            hint="fetch it whole: unet/, vae/, text_encoder/ and text_encoder_2/",
        )
    channels = (vae or {}).get("latent_channels", _LATENT_CHANNELS)
    _check_inputs(folder, unet.get("in_channels", channels), channels)
    # Linear layers around the attention came with Stable Diffusion 2.
    wide = unet.get("cross_attention_dim") == 1024 or unet.get("use_linear_projection") is True
    scheduler = _json(folder / "scheduler" / "scheduler_config.json") or {}
    return DetectedModel(
        "sdxl" if has_second else "sd2" if wide else "sd1", _known(scheduler.get("prediction_type"))
    )


def _of_file(path: Path) -> DetectedModel:
    try:
        header = safetensors_header.read(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read {display(path)}", hint="fetch the file again") from error
    names = header.shapes
    family = next((family for key, family in _FAMILY_KEYS.items() if _has(names, key)), None)
    if family is None:
        for key, (what, hint) in _OTHER_KEYS.items():
            if _has(names, key):
                raise ModelFileError(f"{display(path)} is {what}", hint=hint)
        raise ModelFileError(
            f"{display(path)} is no Stable Diffusion checkpoint: none of its tensors has a "
            "name that one has",
            hint="name a full checkpoint (2 to 7 GB) in the original layout, or a diffusers folder",
        )
    _check_inputs(path, names.get(_FIRST, (0, _LATENT_CHANNELS))[1], _LATENT_CHANNELS)
    return DetectedModel(family, _said_by(header))


def _said_by(header: safetensors_header.SafetensorsHeader) -> Predicts | None:
    """Return what a file says that it predicts: by modelspec, or by the key that user interfaces
    look for.
    """
    said = header.remarks.get("modelspec.prediction_type", "")
    if "v_pred" in header.shapes or said in ("v", "v_prediction"):
        return "v_prediction"
    return "epsilon" if said in ("eps", "epsilon") else None


def _check_inputs(source: Path, inputs: int, latent: int) -> None:
    if inputs != latent:
        raise ModelFileError(
            f"the UNet of {display(source)} takes {inputs} channels where a latent has "
            f"{latent}: it is a model for "
            "inpainting, depth or upscaling",
            hint="train on the model that draws from text alone: its LoRA fits the other too",
        )


def _has(names: Mapping[str, object], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _known(said: object) -> Predicts | None:
    return "v_prediction" if said == "v_prediction" else "epsilon" if said == "epsilon" else None


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None
