"""What Stable Diffusion 1, 2 and XL have in common: the files and the blocks of their UNets.

The families take these functions as their own. Loads no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.captions import tokens as token_counts
from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.families import model_files
from trainer.families.base import LoraFormat, ModelFacts, Part, Parts, Predicts, Shapes
from trainer.plan import safetensors_header
from trainer.plan.safetensors_header import SafetensorsHeader

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasetkit.options.networks import NetworkArgs
    from datasetkit.options.train import TrainOptions
    from trainer.networks.network import Lora

UNET: Final = "UNet2DConditionModel"
UNET_PREFIX: Final = "model.diffusion_model."
VAE_PREFIX: Final = "first_stage_model."
# The parts of a checkpoint file beside the text encoders.
FILE_PARTS: Final[Mapping[Part, str]] = {"unet": UNET_PREFIX, "vae": VAE_PREFIX}
REFINER: Final = "the refiner of Stable Diffusion XL"
# Option -> why it has no meaning for a UNet.
REFUSES: Final[Mapping[str, str]] = {
    "base_folder": "its files have all parts",
    "base_is_distilled": "no distilled model of it is known",
    "guidance_scale": "its guidance is not distilled",
    **dict.fromkeys(
        ("timestep_sampling", "discrete_flow_shift", "sigmoid_scale", "weighting_scheme"),
        "it is a diffusion model, whose timesteps are drawn evenly",
    ),
}
_LATENT_CHANNELS: Final = 4  # inpainting and depth models have more UNet inputs
_FIRST_CONVOLUTION: Final = "model.diffusion_model.input_blocks.0.0.weight"
_CONVOLUTIONAL: Final = re.compile(r"\.(?:resnets|downsamplers|upsamplers)\.")
_ATTENTION: Final = re.compile(r"\.attentions\.")


def is_xl(folder: Path, unet: Mapping[str, Any]) -> bool:
    """Tell whether a folder is of Stable Diffusion XL. unet: the UNet's config."""
    return (folder / "text_encoder_2").is_dir() or unet.get("addition_embed_type") == "text_time"


def is_2(folder: Path, unet: Mapping[str, Any]) -> bool:
    """Tell whether a folder is of Stable Diffusion 2: linear layers around the attention are new in
    it.
    """
    linear = unet.get("cross_attention_dim") == 1024 or unet.get("use_linear_projection") is True
    return linear and not is_xl(folder, unet)


def inspect(source: Path) -> ModelFacts:
    """Return what a folder's scheduler or a file's metadata states. Raises ModelFileError for a
    model for inpainting, depth or upscaling, for a refiner, and for half a model.
    """
    return _of_folder(source) if source.is_dir() else _of_file(source)


def _of_folder(folder: Path) -> ModelFacts:
    unet = model_files.read_json(folder / "unet" / "config.json") or {}
    vae = model_files.read_json(folder / "vae" / "config.json") or {}
    has_second = (folder / "text_encoder_2").is_dir()
    if has_second and not (folder / "text_encoder").is_dir():
        raise ModelFileError(
            f"{display(folder)} is {REFINER}", hint="train on Stable Diffusion XL's base model"
        )
    if unet.get("addition_embed_type") == "text_time" and not has_second:
        raise ModelFileError(
            f"{display(folder)} is not a complete Stable Diffusion XL model: text_encoder_2/ is "
            "missing",
            hint="download all of it: unet/, vae/, text_encoder/ and text_encoder_2/",
        )
    channels = vae.get("latent_channels", _LATENT_CHANNELS)
    _check_inputs(folder, unet.get("in_channels", channels), channels)
    scheduler = model_files.read_json(folder / "scheduler" / "scheduler_config.json") or {}
    return ModelFacts(_prediction(scheduler.get("prediction_type")))


def _of_file(path: Path) -> ModelFacts:
    header = safetensors_header.read(path)
    inputs = header.shapes.get(_FIRST_CONVOLUTION, (0, _LATENT_CHANNELS))[1]
    _check_inputs(path, inputs, _LATENT_CHANNELS)
    return ModelFacts(_prediction_of_file(header))


def _prediction_of_file(header: SafetensorsHeader) -> Predicts | None:
    """Return the prediction type that a file states in modelspec, or by the key that user
    interfaces look for.
    """
    stated = header.metadata.get("modelspec.prediction_type", "")
    if "v_pred" in header.shapes or stated in ("v", "v_prediction"):
        return "v_prediction"
    return "epsilon" if stated in ("eps", "epsilon") else None


def _prediction(value: object) -> Predicts | None:
    if value == "v_prediction":
        return "v_prediction"
    return "epsilon" if value == "epsilon" else None


def _check_inputs(source: Path, inputs: int, latent: int) -> None:
    if inputs != latent:
        raise ModelFileError(
            f"the UNet of {display(source)} has {inputs} input channels, but a latent has "
            f"{latent}: it is a model for inpainting, depth or upscaling",
            hint="train on the text-to-image model: its LoRA also works with this one",
        )


def convolutions(parts: Parts, name: Callable[[str], str]) -> dict[str, str]:
    """Return the name -> path of the 3x3 convolutions, time embeddings and 1x1 shortcuts.

    86 in Stable Diffusion 1 and 2 (50 + 22 + 14), 66 in SDXL (38 + 17 + 11).
    """
    from torch import nn

    kinds = nn.Linear | nn.Conv2d
    return {
        name(path): path
        for path, module in parts.denoiser.named_modules()
        if _CONVOLUTIONAL.search(path) and isinstance(module, kinds)
    }


def norms(parts: Parts, name: Callable[[str], str], *, convolutional: bool) -> dict[str, str]:
    """Return the name -> path of the norms in the attention blocks, which LyCORIS trains too.
    convolutional: also those of the convolutional blocks.

    64 in Stable Diffusion 1 and 2, with the convolutional blocks 108; 221 and 255 in XL.
    """
    from trainer.networks.norm import KINDS

    return {
        name(path): path
        for path, module in parts.denoiser.named_modules()
        if isinstance(module, KINDS)
        and (_ATTENTION.search(path) or (convolutional and _CONVOLUTIONAL.search(path)))
    }


def check_network(_args: NetworkArgs) -> None:
    """Refuse nothing: every network can be trained."""


def token_counter(source: Path) -> Callable[[str], int]:
    """Return CLIP's: its tokenizer ships with the package."""
    return token_counts.count


def conditioning_values(widths: Mapping[Part, int], tokens: int, options: TrainOptions) -> int:
    """Return the values of a caption's states, which are padded, and have start and end tokens in
    each chunk.
    """
    chunks = options.max_token_length // token_counts.CHUNK
    return chunks * (token_counts.CHUNK + 2) * sum(widths.values())


def export(
    network: Lora,
    dtype: torch.dtype,
    form: LoraFormat,
    as_kohya: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
) -> tuple[dict[str, Tensor], Mapping[str, str] | None]:
    """Return a network's tensors with kohya's or diffusers' keys; the latter have a header of their
    own. as_kohya: changes the shapes of some.
    """
    from trainer.files import lora

    if form == "diffusers":
        return lora.diffusers_tensors(network, dtype), lora.diffusers_metadata(network)
    return as_kohya(lora.kohya_tensors(network, dtype)), None


def restore(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file with kohya's keys."""
    return dict(tensors)


def restored_shapes(shapes: Shapes) -> Shapes:
    """Return the shapes of a file with kohya's keys."""
    return shapes


def reload(
    loader: str,
    path: Path,
    plain: Parts,
    trained: Sequence[Part],
    adapter: str,
    *,
    linear: bool = False,
    **mapping: Any,
) -> None:
    """Load a LoRA file with a class of diffusers.loaders. mapping: what its key mapping needs.

    linear: the file's 1x1 convolutions around the attention are linear layers in the model, which
    diffusers does not convert.
    """
    from diffusers import loaders

    mixin = getattr(loaders, loader)
    # Older versions of diffusers accept no file path together with local_files_only.
    tensors, alphas, facts = mixin.lora_state_dict(
        str(path.parent),
        weight_name=path.name,
        local_files_only=True,
        use_safetensors=True,
        return_lora_metadata=True,
        **mapping,
    )
    if linear:
        tensors = {
            key: tensor.flatten(1) if ".proj_" in key else tensor for key, tensor in tensors.items()
        }
    if "unet" in trained:
        mixin.load_lora_into_unet(
            tensors, alphas, plain.denoiser, adapter_name=adapter, metadata=facts
        )
    for part in trained:
        if part != "unet":
            mixin.load_lora_into_text_encoder(
                tensors, alphas, plain.part(part), prefix=part, adapter_name=adapter, metadata=facts
            )
