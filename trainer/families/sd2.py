"""Stable Diffusion 2.x at 512 and 768 pixels: OpenCLIP text encoder, linear layers around the
attention, epsilon or v prediction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from trainer.data.text_encoding import encode_clip
from trainer.families import checkpoint, clip, sd
from trainer.families.base import Conditioning, FamilyNames, Part, Parts
from trainer.families.checkpoint import ModelLayout, TextEncoder
from trainer.families.detect import LATENT_SCALES, FamilyName, Predicts

NAME: Final[FamilyName] = "sd2"
LATENT_SCALE: Final = LATENT_SCALES["sd2"]
CLIP_SKIP: Final = True
LOADER: Final = "StableDiffusionLoraLoaderMixin"
# The padding token; Stable Diffusion 1 pads with the end-of-text token.
PAD: Final = 0
# Configurations for epsilon and for v prediction: these differ in size, and v computes attention in
# float32.
CONFIGS: Final = Path(__file__).parent / "sd2"
CONFIGS_V: Final = Path(__file__).parent / "sd2_v"
_CONVOLVED: Final = re.compile(r"_proj_(?:in|out)\.lora_(?:down|up)\.weight$")
_LAYOUT: Final = ModelLayout(
    NAME,
    {"text_encoder": TextEncoder("CLIPTextModel", "cond_stage_model.model.", clip.of_open_clip)},
)


def load(
    base: str, *, revision: str = "", vae: str = "", prediction: Predicts | None = None,
    dtype: torch.dtype = torch.float32, configs: Path | None = None,
    reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `checkpoint.load`."""
    chosen = configs or (CONFIGS_V if prediction == "v_prediction" else CONFIGS)
    return checkpoint.load(
        _LAYOUT,
        base,
        revision=revision,
        vae=vae,
        configs=chosen,
        prediction=prediction,
        dtype=dtype,
        reporter=reporter,
    )


def targets(parts: Parts, part: Part) -> dict[str, str]:
    """Return kohya's name -> module path: 192 modules of the UNet's attention blocks, 138 of the
    text encoder.
    """
    return sd.targets(parts, part)


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: the layers behind the one that clip_skip
    chooses.
    """
    return sd.unreachable(parts, clip_skip)


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return OpenCLIP's states, [captions, 77 | 152 | 227, width].

    The encoder is loaded without its last layer (23 of 24), so its last states are those that the
    UNet was trained with: clip_skip is 1.
    """
    encoder = parts.text_encoder
    return Conditioning(
        encode_clip(encoder, captions, clip_skip=clip_skip, max_tokens=max_tokens, pad=PAD)
    )


def predict(parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`."""
    return sd.predict(parts, noisy, timesteps, conditioning)


def as_kohya(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a LoRA's tensors in the shapes of kohya's files.

    sd-scripts stores the linear layers around the attention as 1x1 convolutions.
    """
    return {
        key: tensor[..., None, None] if _CONVOLVED.search(key) else tensor
        for key, tensor in tensors.items()
    }


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    if prediction == "v_prediction":
        return FamilyNames("sd_v2_v", "stable-diffusion-v2-768-v/lora", v2=True)
    return FamilyNames("sd_v2", "stable-diffusion-v2-512/lora", v2=True)
