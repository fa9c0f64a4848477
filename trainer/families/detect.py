"""Detect a base model's family and prediction type from its tensor names, shapes and configs.

Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
# By what a family multiplies its latents.
LATENT_SCALES: Final[Mapping[FamilyName, float]] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
_SUPPORTED: Final = "Stable Diffusion 1, 2 and XL are supported"

# Key prefixes of a family's checkpoint files in the original layout; the first match counts.
_FAMILY_KEYS: Final[Mapping[str, FamilyName]] = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
# Key prefixes of other files -> what they are and what to do instead; used if no family matches.
_REFINER: Final = "the refiner of Stable Diffusion XL"
_BASE: Final = "name its base model"
_OTHER_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "double_blocks.": ("a model of Flux", _SUPPORTED),
    "model.diffusion_model.double_blocks.": ("a model of Flux", _SUPPORTED),
    "model.diffusion_model.joint_blocks.": ("a model of Stable Diffusion 3", _SUPPORTED),
    "joint_blocks.": ("a model of Stable Diffusion 3", _SUPPORTED),
    "conditioner.embedders.0.model.": (_REFINER, "train on Stable Diffusion XL's base model"),
    "lora_": ("a LoRA", f"{_BASE}; network_weights continues from a LoRA"),
    "unet.": ("a LoRA", f"{_BASE}; network_weights continues from a LoRA"),
    "control_model.": ("a ControlNet", _BASE),
    "encoder.conv_in.": ("a VAE", f"{_BASE}; name a VAE in `vae` of [train]"),
}
# The parts of a family's checkpoint files -> the prefix of their keys.
_UNET_AND_VAE: Final = {"UNet": "model.diffusion_model.", "VAE": "first_stage_model."}
_PARTS_OF_FILE: Final[Mapping[FamilyName, Mapping[str, str]]] = {
    "sd1": {**_UNET_AND_VAE, "text encoder": "cond_stage_model.transformer."},
    "sd2": {**_UNET_AND_VAE, "text encoder": "cond_stage_model.model."},
    "sdxl": {
        **_UNET_AND_VAE,
        "first text encoder": "conditioner.embedders.0.transformer.",
        "second text encoder": "conditioner.embedders.1.model.",
    },
}
_LATENT_CHANNELS: Final = 4  # inpainting and depth models have more UNet inputs
_FIRST_CONVOLUTION: Final = "model.diffusion_model.input_blocks.0.0.weight"


@dataclass(frozen=True, slots=True)
class DetectedModel:
    """A model's family. prediction: as stated by the model, None if it states none."""

    family: FamilyName
    prediction: Predicts | None = None

    @property
    def title(self) -> str:
        return TITLES[self.family]


def detect(source: Path) -> DetectedModel:
    """Detect the family of a diffusers folder or a file. Raises ModelFileError for unsupported
    models.
    """
    return _of_folder(source) if source.is_dir() else _of_file(source)


def require_whole(source: Path, family: FamilyName) -> None:
    """Raise ModelFileError for a model of which a part is missing or cut short, before anything is
    loaded.
    """
    if source.is_dir():
        parts = ["unet", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else []), "vae"]
        for part in parts:
            _require_part(source, part, parts)
        return
    _require_uncut(source)
    names = safetensors_header.read(source).shapes
    for what, prefix in _PARTS_OF_FILE[family].items():
        if not _has(names, prefix):
            raise ModelFileError(
                f"{display(source)} is not a {TITLES[family]} checkpoint: its {what} is missing",
                hint="name a full checkpoint (2 to 7 GB), not a LoRA or a VAE",
            )


def require_vae(path: Path, family: FamilyName) -> None:
    """Raise ModelFileError for a `vae` that is not a VAE, is cut short or of another family."""
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        config = _json(folder / "config.json")
        weights = folder / "diffusion_pytorch_model.safetensors"
        index = weights.with_name(f"{weights.name}.index.json")
        if config is None or not (weights.is_file() or index.is_file()):
            name = "config.json" if config is None else weights.name
            raise _not_a_vae(path, f"{name} is missing")
        if "latent_channels" not in config:
            raise _not_a_vae(path, "its config.json is of another model")
        scale = config.get("scaling_factor", LATENT_SCALES["sd1"])
        require_scale(path, scale, family)
        for file in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
            if file == weights or index.is_file():
                _require_uncut(file)
        return
    _require_uncut(path)
    names = safetensors_header.read(path).shapes
    if not any(name.endswith("encoder.conv_in.weight") for name in names):
        raise _not_a_vae(path, "it has no encoder.conv_in.weight")


def require_scale(vae: str | Path, scale: object, family: FamilyName) -> None:
    """Raise ModelFileError for a VAE of another family, by the latent scale in its config."""
    wanted, title = LATENT_SCALES[family], TITLES[family]
    if not isinstance(scale, int | float) or abs(scale - wanted) > 1e-6:
        raise ModelFileError(
            f"the VAE of {display(vae)} scales latents by {scale}, but {title} by {wanted:g}",
            hint=f"use a VAE of {title}, or remove `vae`",
        )


def _not_a_vae(path: Path, why: str) -> ModelFileError:
    return ModelFileError(
        f"{display(path)} is not a VAE: {why}",
        hint="name in `vae` of [train] a VAE's .safetensors file, or a folder with config.json and "
        "diffusion_pytorch_model.safetensors",
    )


def _require_part(folder: Path, part: str, parts: Sequence[str]) -> None:
    stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
    weights = folder / part / f"{stem}.safetensors"
    index = weights.with_name(f"{weights.name}.index.json")  # of a model in several files
    missing = [
        path for path in (folder / part / "config.json", weights)
        if not path.is_file() and not (path == weights and index.is_file())
    ]  # fmt: skip
    if missing:
        *most, last = [f"{name}/" for name in parts]
        raise ModelFileError(
            f"{display(folder)} is not a complete diffusers model: {part}/{missing[0].name} is "
            "missing",
            hint=f"it needs {', '.join(most)} and {last}, each with config.json and .safetensors",
        )
    for file in sorted((folder / part).glob(f"{stem}*.safetensors")):
        if file == weights or index.is_file():
            _require_uncut(file)


def _require_uncut(path: Path) -> None:
    try:
        safetensors_header.require_whole(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"cannot read {display(path)}: it is damaged or cut short",
            hint="download the file again",
        ) from error


def _of_folder(folder: Path) -> DetectedModel:
    if (folder / "transformer").is_dir():
        raise ModelFileError(
            f"{display(folder)} is a model without a UNet, such as Flux", hint=_SUPPORTED
        )
    unet, vae = _json(folder / "unet" / "config.json"), _json(folder / "vae" / "config.json")
    if unet is None:
        raise ModelFileError(
            f"{display(folder)} is not a complete diffusers model: unet/config.json is missing",
            hint="it needs unet/, vae/ and text_encoder/, each with config.json and .safetensors",
        )
    has_second = (folder / "text_encoder_2").is_dir()
    if has_second and not (folder / "text_encoder").is_dir():
        raise ModelFileError(
            f"{display(folder)} is {_REFINER}", hint="train on Stable Diffusion XL's base model"
        )
    if unet.get("addition_embed_type") == "text_time" and not has_second:
        raise ModelFileError(
            f"{display(folder)} is not a complete Stable Diffusion XL model: text_encoder_2/ is "
            "missing",
            hint="download all of it: unet/, vae/, text_encoder/ and text_encoder_2/",
        )
    channels = (vae or {}).get("latent_channels", _LATENT_CHANNELS)
    _check_inputs(folder, unet.get("in_channels", channels), channels)
    # Linear layers around the attention are new in Stable Diffusion 2.
    is_sd2 = unet.get("cross_attention_dim") == 1024 or unet.get("use_linear_projection") is True
    scheduler = _json(folder / "scheduler" / "scheduler_config.json") or {}
    return DetectedModel(
        "sdxl" if has_second else "sd2" if is_sd2 else "sd1",
        _prediction(scheduler.get("prediction_type")),
    )


def _of_file(path: Path) -> DetectedModel:
    try:
        header = safetensors_header.read(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"cannot read {display(path)}", hint="download the file again"
        ) from error
    names = header.shapes
    family = next((family for key, family in _FAMILY_KEYS.items() if _has(names, key)), None)
    if family is None:
        for key, (what, hint) in _OTHER_KEYS.items():
            if _has(names, key):
                raise ModelFileError(f"{display(path)} is {what}", hint=hint)
        raise ModelFileError(
            f"{display(path)} is not a Stable Diffusion checkpoint: none of its tensors has a "
            "known name",
            hint="name a full checkpoint (2 to 7 GB) in the original layout, or a diffusers folder",
        )
    _check_inputs(path, names.get(_FIRST_CONVOLUTION, (0, _LATENT_CHANNELS))[1], _LATENT_CHANNELS)
    return DetectedModel(family, _prediction_of_file(header))


def _prediction_of_file(header: safetensors_header.SafetensorsHeader) -> Predicts | None:
    """Return the prediction type that a file states in modelspec, or by the key that user
    interfaces look for.
    """
    stated = header.metadata.get("modelspec.prediction_type", "")
    if "v_pred" in header.shapes or stated in ("v", "v_prediction"):
        return "v_prediction"
    return "epsilon" if stated in ("eps", "epsilon") else None


def _check_inputs(source: Path, inputs: int, latent: int) -> None:
    if inputs != latent:
        raise ModelFileError(
            f"the UNet of {display(source)} has {inputs} input channels, but a latent has "
            f"{latent}: it is a model for inpainting, depth or upscaling",
            hint="train on the text-to-image model: its LoRA also works with this one",
        )


def _has(names: Mapping[str, object], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _prediction(value: object) -> Predicts | None:
    if value == "v_prediction":
        return "v_prediction"
    return "epsilon" if value == "epsilon" else None


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
