"""Stable Diffusion 2.x at 512 and 768 pixels: OpenCLIP text encoder, linear layers around the
attention, epsilon or v prediction.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, sd, unet_blocks, unet_family, unet_shapes
from trainer.families.base import (
    Anatomy,
    BlockList,
    Conditioning,
    FamilyName,
    FamilyNames,
    FileMarks,
    LoraFormat,
    Part,
    Parts,
    Predicts,
    ProcessName,
    Shapes,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.train import TrainOptions

NAME: Final[FamilyName] = "sd2"
TITLE: Final = "Stable Diffusion 2"
MARKS: Final = FileMarks(
    unet_family.UNET, ("cond_stage_model.model.",), unet_family.is_2, prefixes=("",)
)
PROCESS: Final[ProcessName] = "ddpm"
FLOW: Final = None
DENOISER: Final[Part] = "unet"
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = True
FILE_PARTS: Final[Mapping[Part, str]] = {
    **unet_family.FILE_PARTS,
    "text_encoder": "cond_stage_model.model.",
}
PREDICTION: Final[Predicts | None] = None
LATENT_SCALE: Final = sd.LATENT_SCALE
DIVISOR: Final = 8
TEXT_LIMIT: Final = None
CLIP_SKIP: Final = True
BLOCKS: Final[BlockList] = unet_blocks.PLAIN
FORMATS: Final[tuple[LoraFormat, ...]] = ("kohya", "diffusers")
REFUSES: Final[Mapping[str, str]] = unet_family.REFUSES
# The padding token; Stable Diffusion 1 pads with the end-of-text token.
PAD: Final = 0
# Configurations for epsilon and for v prediction: these differ in size, and v computes attention in
# float32.
CONFIGS: Final = Path(__file__).parent / "sd2"
CONFIGS_V: Final = Path(__file__).parent / "sd2_v"
_CONVOLVED: Final = re.compile(r"_proj_(?:in|out)\.lora_(?:down|up)\.weight$")
_LOADER: Final = "StableDiffusionLoraLoaderMixin"
_TEXT_NAMES: Final = {"text_encoder": "lora_te"}

# The functions that all UNets have in common.
inspect = unet_family.inspect
check_network = unet_family.check_network
token_counter = unet_family.token_counter
conditioning_values = unet_family.conditioning_values
moments, decode = autoencoders.moments, autoencoders.decode
latent_shape = autoencoders.latent_shape
# As in Stable Diffusion 1: 192 modules of the UNet's attention blocks, 138 of the text encoder.
block, targets, unreachable = sd.block, sd.targets, sd.unreachable
convolutions, norms = sd.convolutions, sd.norms
predict, normalise, denormalise = sd.predict, sd.normalise, sd.denormalise
restore, restored_shapes = unet_family.restore, unet_family.restored_shapes
reload = partial(unet_family.reload, _LOADER, linear=True)


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return unet_shapes.anatomy(shapes, BLOCKS, _TEXT_NAMES, drops=True)


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return warnings about options that have another effect in this family."""
    if options.clip_skip == 1:
        return ()
    return (
        f"clip_skip = {options.clip_skip}: {TITLE} was trained with 1, the last of its 23 layers",
    )


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None,
    configs: Path | None = None,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `checkpoint.load`."""
    from trainer.families import checkpoint, clip
    from trainer.families.checkpoint import ModelLayout, TextEncoder

    encoder = TextEncoder("CLIPTextModel", FILE_PARTS["text_encoder"], clip.of_open_clip)
    chosen = configs or (CONFIGS_V if prediction == "v_prediction" else CONFIGS)
    return checkpoint.load(
        ModelLayout(NAME, {"text_encoder": encoder}),
        base,
        revision=revision,
        vae=vae,
        configs=chosen,
        prediction=prediction,
        dtype=dtype,
        reporter=reporter,
    )


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return OpenCLIP's states, [captions, 77 | 152 | 227, width].

    The encoder is loaded without its last layer (23 of 24), so its last states are those that the
    UNet was trained with: clip_skip is 1.
    """
    from trainer.families.clip_text import encode_clip

    encoder = parts.encoders["text_encoder"]
    return Conditioning(
        encode_clip(encoder, captions, clip_skip=clip_skip, max_tokens=max_tokens, pad=PAD)
    )


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    if prediction == "v_prediction":
        return FamilyNames("sd_v2_v", "stable-diffusion-v2-768-v/lora", v2=True)
    return FamilyNames("sd_v2", "stable-diffusion-v2-512/lora", v2=True)


def as_kohya(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a LoRA's tensors in the shapes of kohya's files.

    sd-scripts stores the linear layers around the attention as 1x1 convolutions.
    """
    return {
        key: tensor[..., None, None] if _CONVOLVED.search(key) else tensor
        for key, tensor in tensors.items()
    }


export = partial(unet_family.export, as_kohya=as_kohya)
