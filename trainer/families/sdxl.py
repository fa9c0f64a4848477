"""Stable Diffusion XL: two text encoders, a pooled caption vector, and size conditioning."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.progress import SILENT, Reporter
from trainer.families import autoencoders, unet_blocks, unet_family, unet_shapes
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

NAME: Final[FamilyName] = "sdxl"
TITLE: Final = "Stable Diffusion XL"
MARKS: Final = FileMarks(
    unet_family.UNET, ("conditioner.embedders.1.model.",), unet_family.is_xl, prefixes=("",)
)
PROCESS: Final[ProcessName] = "ddpm"
FLOW: Final = None
DENOISER: Final[Part] = "unet"
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder", "text_encoder_2")
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = True
FILE_PARTS: Final[Mapping[Part, str]] = {
    **unet_family.FILE_PARTS,
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}
PREDICTION: Final[Predicts | None] = "epsilon"
LATENT_SCALE: Final = 0.13025
DIVISOR: Final = 8
TEXT_LIMIT: Final = None
# The layer before the last is always used, in both encoders.
CLIP_SKIP: Final = False
BLOCKS: Final[BlockList] = unet_blocks.XL
FORMATS: Final[tuple[LoraFormat, ...]] = ("kohya", "diffusers")
REFUSES: Final[Mapping[str, str]] = unet_family.REFUSES
# The padding token of the second encoder; the first pads with the end-of-text token.
PAD_2: Final = 0
CONFIGS: Final = Path(__file__).parent / "sdxl"
_TEXT_NAMES: Final = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
_SMALL: Final = 768 * 768  # pixels; below this the model generates poor images

# The functions that all UNets have in common.
inspect = unet_family.inspect
check_network = unet_family.check_network
token_counter = unet_family.token_counter
conditioning_values = unet_family.conditioning_values
moments, decode = autoencoders.moments, autoencoders.decode
latent_shape = autoencoders.latent_shape
export, restore = unet_family.export, unet_family.restore
restored_shapes = unet_family.restored_shapes


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return unet_shapes.anatomy(shapes, BLOCKS, _TEXT_NAMES, drops=False)


def block(name: str) -> int | None:
    """Return the index of a UNet's layer in the block lists."""
    return unet_blocks.block(name, BLOCKS)


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return warnings about options that have little or another effect in this family."""
    warnings = []
    if options.clip_skip != 1:
        warnings.append(
            f"clip_skip = {options.clip_skip} has no effect: {TITLE} always uses the same layer"
        )
    if options.mixed_precision == "fp16":
        warnings.append(f"{TITLE}'s VAE overflows in fp16: it computes in float32")
    width, height = options.bucket_rules().resolution
    if width * height < _SMALL:
        warnings.append(
            f"resolution = {options.resolution}: {TITLE} was trained at 1024, and generates poor "
            "images at small sizes"
        )
    return warnings


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None, configs: Path = CONFIGS,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `checkpoint.load`."""
    from trainer.families import checkpoint, clip
    from trainer.families.checkpoint import ModelLayout, TextEncoder

    encoders = {
        "text_encoder": TextEncoder("CLIPTextModel", FILE_PARTS["text_encoder"]),
        "text_encoder_2": TextEncoder(
            "CLIPTextModelWithProjection", FILE_PARTS["text_encoder_2"], clip.of_open_clip
        ),
    }
    return checkpoint.load(
        ModelLayout(NAME, encoders),
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
    from trainer.families import module_names

    if part == DENOISER:
        paths = module_names.unet_modules(parts.denoiser)
        return {module_names.original(path): path for path in paths}
    return module_names.clip_targets(parts.part(part), _TEXT_NAMES[part])


def convolutions(parts: Parts) -> dict[str, str]:
    """Return kohya's name -> module path of the layers in the convolutional blocks."""
    from trainer.families import module_names

    return unet_family.convolutions(parts, module_names.original)


def norms(parts: Parts, *, convolutional: bool) -> dict[str, str]:
    """Return kohya's name -> module path of the UNet's norms."""
    from trainer.families import module_names

    return unet_family.norms(parts, module_names.original, convolutional=convolutional)


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: the first encoder's last layer.

    The second encoder's last layer affects the UNet through the pooled vector.
    """
    from trainer.families import module_names

    return module_names.layers_from(
        targets(parts, "text_encoder"), module_names.depth(parts.encoders["text_encoder"]) - 1
    )


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return both encoders' states concatenated, [captions, 77 | 152 | 227, 768 + 1280], and the
    pooled vector.

    clip_skip has no effect. The vector is taken at the end of the caption's first 75 tokens.
    """
    import torch

    from trainer.families.clip_text import encode_before_last

    encoder, encoder_2 = parts.encoders["text_encoder"], parts.encoders["text_encoder_2"]
    first, _ = encode_before_last(encoder, captions, max_tokens=max_tokens)
    second, ends = encode_before_last(encoder_2, captions, max_tokens=max_tokens, pad=PAD_2)
    return Conditioning(torch.cat([first, second], dim=2), encoder_2.text_projection(ends))


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`. The conditioning must have sizes."""
    if conditioning.pooled is None or conditioning.sizes is None:
        raise ValueError("Stable Diffusion XL needs size conditioning")
    added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.sizes}
    output = parts.denoiser(
        noisy, times, conditioning.states, added_cond_kwargs=added, return_dict=False
    )
    prediction: Tensor = output[0]
    return prediction


def normalise(vae: Any, latents: Tensor) -> Tensor:
    """Return latents with a variance of about 1."""
    return latents * LATENT_SCALE


def denormalise(vae: Any, latents: Tensor) -> Tensor:
    """Undo `normalise`."""
    return latents / LATENT_SCALE


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata; the implementation is Stability's code (`sgm`),
    whose module names are used.
    """
    return FamilyNames(
        "sdxl_base_v1-0",
        "stable-diffusion-xl-v1-base/lora",
        "https://github.com/Stability-AI/generative-models",
    )


def reload(path: Path, plain: Parts, trained: Sequence[Part], adapter: str) -> None:
    """Load a LoRA file with diffusers' loader, whose key mapping needs the UNet's config."""
    unet_family.reload(
        "StableDiffusionXLLoraLoaderMixin",
        path,
        plain,
        trained,
        adapter,
        unet_config=plain.denoiser.config,
    )
