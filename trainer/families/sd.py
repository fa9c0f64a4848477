"""Stable Diffusion 1.x: which modules LoRA adapts, and how text conditions the UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from trainer.data.text_encoding import encode_clip
from trainer.families import checkpoint, module_names
from trainer.families.base import Conditioning, FamilyNames, Part, Parts
from trainer.families.checkpoint import ModelLayout, TextEncoder
from trainer.families.detect import LATENT_SCALES, FamilyName, Predicts

NAME: Final[FamilyName] = "sd1"
LATENT_SCALE: Final = LATENT_SCALES["sd1"]
CLIP_SKIP: Final = True
LOADER: Final = "StableDiffusionLoraLoaderMixin"
CONFIGS: Final = Path(__file__).parent / "sd1"
_LAYOUT: Final = ModelLayout(
    NAME,
    {"text_encoder": TextEncoder("CLIPTextModel", "cond_stage_model.transformer.")},
)


def load(
    base: str, *, revision: str = "", vae: str = "", prediction: Predicts | None = None,
    dtype: torch.dtype = torch.float32, configs: Path = CONFIGS,
    reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `checkpoint.load`."""
    return checkpoint.load(
        _LAYOUT,
        base,
        revision=revision,
        vae=vae,
        configs=configs,
        prediction=prediction,
        dtype=dtype,
        reporter=reporter,
    )


def targets(parts: Parts, part: Part) -> dict[str, str]:
    """Return kohya's name -> module path: 192 modules of the UNet's attention blocks, 72 of the
    text encoder.
    """
    if part == "unet":
        return {module_names.plain(path): path for path in module_names.unet_modules(parts.unet)}
    return module_names.clip_targets(parts.text_encoder, "lora_te")


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: the layers behind the one that clip_skip
    chooses.
    """
    used = module_names.depth(parts.text_encoder) - (clip_skip - 1)
    return module_names.layers_from(targets(parts, "text_encoder"), used)


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return CLIP's states, [captions, 77 | 152 | 227, width]."""
    return Conditioning(
        encode_clip(parts.text_encoder, captions, clip_skip=clip_skip, max_tokens=max_tokens)
    )


def predict(parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`."""
    prediction: Tensor = parts.unet(noisy, timesteps, conditioning.states, return_dict=False)[0]
    return prediction


def as_kohya(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a LoRA's tensors in the shapes of kohya's files, which are those of the layers."""
    return dict(tensors)


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames(
        "sd_v1_v" if prediction == "v_prediction" else "sd_v1", "stable-diffusion-v1/lora"
    )
