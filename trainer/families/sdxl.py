"""Stable Diffusion XL: two text encoders, a pooled caption vector, and size conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from trainer.data.text_encoding import encode_before_last
from trainer.families import checkpoint, clip, module_names
from trainer.families.base import Conditioning, FamilyNames, Part, Parts
from trainer.families.checkpoint import ModelLayout, TextEncoder
from trainer.families.detect import LATENT_SCALES, FamilyName, Predicts

NAME: Final[FamilyName] = "sdxl"
LATENT_SCALE: Final = LATENT_SCALES["sdxl"]
# The layer before the last is always used, in both encoders.
CLIP_SKIP: Final = False
LOADER: Final = "StableDiffusionXLLoraLoaderMixin"
# The padding token of the second encoder; the first pads with the end-of-text token.
PAD_2: Final = 0
CONFIGS: Final = Path(__file__).parent / "sdxl"
_PREFIXES: Final = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
_LAYOUT: Final = ModelLayout(
    NAME,
    {
        "text_encoder": TextEncoder("CLIPTextModel", "conditioner.embedders.0.transformer."),
        "text_encoder_2": TextEncoder(
            "CLIPTextModelWithProjection", "conditioner.embedders.1.model.", clip.of_open_clip
        ),
    },
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
    """Return kohya's name -> module path: 722 modules of the UNet's attention blocks, 72 and 192 of
    the encoders.
    """
    if part == "unet":
        return {module_names.original(path): path for path in module_names.unet_modules(parts.unet)}
    return module_names.clip_targets(parts.part(part), _PREFIXES[part])


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: the first encoder's last layer.

    The second encoder's last layer affects the UNet through the pooled vector.
    """
    return module_names.layers_from(
        targets(parts, "text_encoder"), module_names.depth(parts.text_encoder) - 1
    )


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return both encoders' states concatenated, [captions, 77 | 152 | 227, 768 + 1280], and the
    pooled vector.

    clip_skip has no effect. The vector is taken at the end of the caption's first 75 tokens.
    """
    first, _ = encode_before_last(parts.text_encoder, captions, max_tokens=max_tokens)
    second, ends = encode_before_last(
        parts.text_encoder_2, captions, max_tokens=max_tokens, pad=PAD_2
    )
    return Conditioning(
        torch.cat([first, second], dim=2), parts.text_encoder_2.text_projection(ends)
    )


def predict(parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`. The conditioning must have sizes."""
    if conditioning.pooled is None or conditioning.sizes is None:
        raise ValueError("Stable Diffusion XL needs size conditioning")
    added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.sizes}
    output = parts.unet(
        noisy, timesteps, conditioning.states, added_cond_kwargs=added, return_dict=False
    )
    prediction: Tensor = output[0]
    return prediction


def as_kohya(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a LoRA's tensors in the shapes of kohya's files, which are those of the layers."""
    return dict(tensors)


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata; the implementation is Stability's code (`sgm`),
    whose module names are used.
    """
    return FamilyNames(
        "sdxl_base_v1-0",
        "stable-diffusion-xl-v1-base/lora",
        "https://github.com/Stability-AI/generative-models",
    )
