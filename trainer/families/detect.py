"""Detect a base model's family, and what it states about itself, from its tensor names, shapes and
configs.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.families import registry, unet_family
from trainer.families.base import DENOISERS, Family, FamilyName, Predicts
from trainer.families.model_files import has_prefix, read_json
from trainer.plan import safetensors_header

_SUPPORTED: Final = (
    "Stable Diffusion 1, 2 and XL are supported, and the transformers of docs/families.md"
)
# Key prefixes of other files -> what they are and what to do instead; used if no family matches.
_BASE: Final = "name its base model"
_OTHER_KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "double_blocks.": ("a model of Flux", _SUPPORTED),
    "model.diffusion_model.double_blocks.": ("a model of Flux", _SUPPORTED),
    "conditioner.embedders.0.model.": (
        unet_family.REFINER,
        "train on Stable Diffusion XL's base model",
    ),
    "lora_": ("a LoRA", f"{_BASE}; network_weights continues from a LoRA"),
    "unet.": ("a LoRA", f"{_BASE}; network_weights continues from a LoRA"),
    "control_model.": ("a ControlNet", _BASE),
    "encoder.conv_in.": ("a VAE", f"{_BASE}; name a VAE in `vae` of [train]"),
}


@dataclass(frozen=True, slots=True)
class DetectedModel:
    """A model's family. The rest as in `ModelFacts`."""

    family: FamilyName
    prediction: Predicts | None = None
    distilled: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        return registry.family(self.family).TITLE

    @property
    def saves_kohya(self) -> bool:
        """Tell whether kohya's keys are the family's first format."""
        return registry.family(self.family).FORMATS[0] == "kohya"


def detect(source: Path) -> DetectedModel:
    """Detect the family of a diffusers folder or a file. Raises ModelFileError for unsupported
    models.
    """
    family = _of_folder(source) if source.is_dir() else _of_file(source)
    facts = family.inspect(source)
    return DetectedModel(family.NAME, facts.prediction, facts.distilled, facts.note)


def _of_folder(folder: Path) -> Family:
    for part, config in _denoisers(folder):
        for family in registry.families():
            marks = family.MARKS
            # Configs of early models have no class.
            of_class = config.get("_class_name", unet_family.UNET) == marks.class_name
            if part == family.DENOISER and of_class and marks.is_folder(folder, config):
                return family
        raise ModelFileError(
            f"{display(folder)} is a model of a family that is not supported: its {part} is "
            f"{display(str(config.get('_class_name')))}",
            hint=_SUPPORTED,
        )
    if (folder / "transformer").is_dir():
        raise ModelFileError(
            f"{display(folder)} is a model without a UNet, such as Flux", hint=_SUPPORTED
        )
    raise ModelFileError(
        f"{display(folder)} is not a complete diffusers model: unet/config.json is missing",
        hint="it needs unet/, vae/ and text_encoder/, each with config.json and .safetensors",
    )


def _denoisers(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for part in DENOISERS:
        config = read_json(folder / part / "config.json")
        if config is not None:
            yield part, config


def _of_file(path: Path) -> Family:
    try:
        names = safetensors_header.read(path).shapes
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"cannot read {display(path)}", hint="download the file again"
        ) from error
    for family in registry.families():
        marks = family.MARKS
        if any(
            all(has_prefix(names, prefix + key) for key in keys)
            for keys in filter(None, (marks.keys, marks.own_keys))
            for prefix in marks.prefixes
        ):
            return family
    for key, (what, hint) in _OTHER_KEYS.items():
        if has_prefix(names, key):
            raise ModelFileError(f"{display(path)} is {what}", hint=hint)
    raise ModelFileError(
        f"{display(path)} is not a Stable Diffusion checkpoint: none of its tensors has a "
        "known name",
        hint="name a full checkpoint (2 to 7 GB) in the original layout, or a diffusers folder",
    )
