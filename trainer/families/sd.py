"""Stable Diffusion 1.x: which modules LoRA adapts, and how text conditions the UNet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
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

NAME: Final[FamilyName] = "sd1"
TITLE: Final = "Stable Diffusion 1"
MARKS: Final = FileMarks(
    unet_family.UNET,
    ("cond_stage_model.transformer.",),
    lambda folder, unet: not unet_family.is_xl(folder, unet) and not unet_family.is_2(folder, unet),
    prefixes=("",),
)
PROCESS: Final[ProcessName] = "ddpm"
FLOW: Final = None
DENOISER: Final[Part] = "unet"
ENCODERS: Final[tuple[Part, ...]] = ("text_encoder",)
EXTRA: Final[tuple[Part, ...]] = ()
TRAINS_TEXT: Final = True
FILE_PARTS: Final[Mapping[Part, str]] = {
    **unet_family.FILE_PARTS,
    "text_encoder": "cond_stage_model.transformer.",
}
PREDICTION: Final[Predicts | None] = "epsilon"
LATENT_SCALE: Final = 0.18215
DIVISOR: Final = 8
TEXT_LIMIT: Final = None
CLIP_SKIP: Final = True
BLOCKS: Final[BlockList] = unet_blocks.PLAIN
FORMATS: Final[tuple[LoraFormat, ...]] = ("kohya", "diffusers")
REFUSES: Final[Mapping[str, str]] = unet_family.REFUSES
CONFIGS: Final = Path(__file__).parent / "sd1"
_LOADER: Final = "StableDiffusionLoraLoaderMixin"
_TEXT_NAMES: Final = {"text_encoder": "lora_te"}

# The functions that all UNets have in common.
inspect = unet_family.inspect
check_network = unet_family.check_network
token_counter = unet_family.token_counter
conditioning_values = unet_family.conditioning_values
moments, decode = autoencoders.moments, autoencoders.decode
latent_shape = autoencoders.latent_shape
export, restore = unet_family.export, unet_family.restore
restored_shapes = unet_family.restored_shapes
reload = partial(unet_family.reload, _LOADER)


def anatomy(shapes: Mapping[Part, Shapes]) -> Anatomy:
    """Return the layers of a model from the shapes of its tensors."""
    return unet_shapes.anatomy(shapes, BLOCKS, _TEXT_NAMES, drops=False)


def assumed_anatomy() -> Anatomy:
    """Return what `anatomy` returns for a full-size model; a test compares them."""
    return Anatomy(
        {"unet": 859_520_964, "text_encoder": 123_060_480},
        unet_shapes.stable_diffusion_1(),
        57304.0,
        {"text_encoder": 82_944},
        {"text_encoder": 768},
    )


def block(name: str) -> int | None:
    """Return the index of a UNet's layer in the block lists."""
    return unet_blocks.block(name, BLOCKS)


def remarks(options: TrainOptions) -> Sequence[str]:
    """Return warnings about options: none."""
    return ()


def load(
    base: str, *, revision: str = "", vae: str = "", folder: Path | None = None,
    prediction: Predicts | None = None, dtype: torch.dtype | None = None, configs: Path = CONFIGS,
    only: Collection[Part] = (), int8: bool = False, reporter: Reporter = SILENT,
) -> Parts:  # fmt: skip
    """Load the parts of a model, frozen, on the CPU; see `checkpoint.load`."""
    from trainer.families import checkpoint
    from trainer.families.checkpoint import ModelLayout, TextEncoder

    encoder = TextEncoder("CLIPTextModel", FILE_PARTS["text_encoder"])
    return checkpoint.load(
        ModelLayout(NAME, {"text_encoder": encoder}),
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
    from trainer.families import module_names

    if part == DENOISER:
        paths = module_names.unet_modules(parts.denoiser)
        return {module_names.plain(path): path for path in paths}
    return module_names.clip_targets(parts.part(part), _TEXT_NAMES[part])


def convolutions(parts: Parts) -> dict[str, str]:
    """Return kohya's name -> module path of the layers in the convolutional blocks."""
    from trainer.families import module_names

    return unet_family.convolutions(parts, module_names.plain)


def norms(parts: Parts, *, convolutional: bool) -> dict[str, str]:
    """Return kohya's name -> module path of the UNet's norms."""
    from trainer.families import module_names

    return unet_family.norms(parts, module_names.plain, convolutional=convolutional)


def unreachable(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: the layers behind the one that clip_skip
    chooses.
    """
    from trainer.families import module_names

    used = module_names.depth(parts.encoders["text_encoder"]) - (clip_skip - 1)
    return module_names.layers_from(targets(parts, "text_encoder"), used)


def encode_text(
    parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int
) -> Conditioning:
    """Return CLIP's states, [captions, 77 | 152 | 227, width]."""
    from trainer.families.clip_text import encode_clip

    encoder = parts.encoders["text_encoder"]
    return Conditioning(encode_clip(encoder, captions, clip_skip=clip_skip, max_tokens=max_tokens))


def predict(parts: Parts, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`."""
    prediction: Tensor = parts.denoiser(noisy, times, conditioning.states, return_dict=False)[0]
    return prediction


def normalise(vae: Any, latents: Tensor) -> Tensor:
    """Return latents with a variance of about 1."""
    return latents * LATENT_SCALE


def denormalise(vae: Any, latents: Tensor) -> Tensor:
    """Undo `normalise`."""
    return latents / LATENT_SCALE


def metadata_names(prediction: Predicts) -> FamilyNames:
    """Return the family's names in LoRA metadata."""
    return FamilyNames(
        "sd_v1_v" if prediction == "v_prediction" else "sd_v1", "stable-diffusion-v1/lora"
    )
