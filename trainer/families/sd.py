"""Stable Diffusion 1.x: where its parts are found, which modules LoRA adapts, how text conditions the UNet."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor, nn

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from trainer import hub
from trainer.families.base import Part, Parts
from trainer.text import encode_clip
from trainer.tinybase import shipped

NAME: Final = "sd1"
BASE_MODEL_VERSION: Final = "sd_v1"
LATENT_SCALE: Final = 0.18215
# The architecture's numbers, so that a single file needs no look at the hub.
CONFIGS: Final = Path(__file__).parent / "sd1"

_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl"})
_CLIP_PREFIX = "cond_stage_model.transformer.text_model."
_CLIP_LINEAR = re.compile(r"encoder\.layers\.(\d+)\.(self_attn\.(?:[qkv]|out)_proj|mlp\.fc[12])$")
# What the other families' checkpoints have, and Stable Diffusion 1 has not.
_OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "double_blocks.": "Flux",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
}


def load(base: str, *, revision: str = "", vae: str = "", configs: Path = CONFIGS) -> Parts:
    """Load the parts of a model, frozen, in float32 on the CPU.

    base: a diffusers folder, a `.safetensors` file in the original (LDM) layout, or one of them on the hub at its
    revision. vae: a folder or a file that replaces the model's own, or one on the hub with its own @commit. Raises
    ModelFileError, ConfigError.
    """
    source = find(base, revision)
    unet, encoder, own_vae = _load_folder(source) if source.is_dir() else _load_file(source, configs)
    replaced = own_vae if not vae else _load_vae(find(vae, layouts=hub.VAE), configs)
    for part in (unet, encoder, replaced):
        part.requires_grad_(False).eval()
    return Parts(unet, replaced, encoder, source, _prediction(source))


def find(base: str, revision: str = "", *, layouts: Sequence[hub.Files] = hub.MODEL) -> Path:
    """Return the file or folder of a model; one of the hub is fetched at its pinned commit.

    layouts: what a repository of the hub has to hold.
    """
    if not base:
        raise ConfigError("no model to train on", hint="set pretrained_model_name_or_path in [train]")
    if base == shipped.NAME:
        shipped.check()
        return shipped.FOLDER
    path = Path(base).expanduser()
    if path.suffix.lower() in _PICKLES:
        raise ModelFileError(
            f"{display(path)} is a pickle, which may run any code when it is read",
            hint="convert it to .safetensors with a tool that you trust, and name that file",
        )
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".safetensors"):
        return path
    if path.exists():
        raise ModelFileError(f"{display(path)} is no .safetensors file", hint="name a .safetensors file or a folder")
    name = hub.parse(base, revision)
    if name is None:
        raise ModelFileError(f"the model {display(base)} does not exist", hint="check its path in [train]")
    return hub.fetch(name, layouts)


def _load_folder(folder: Path) -> tuple[Any, Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would draw over this program's own
    if (folder / "text_encoder_2").is_dir():
        raise _not_ours(folder, "Stable Diffusion XL")
    try:
        unet = UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", local_files_only=True, use_safetensors=True
        )
        encoder = CLIPTextModel.from_pretrained(
            folder, subfolder="text_encoder", local_files_only=True, use_safetensors=True
        )
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{display(folder)} is no whole diffusers model: {_first_line(error)}",
            hint="it needs unet/, vae/ and text_encoder/, each with config.json and .safetensors",
        ) from error
    if unet.config.cross_attention_dim == 1024:
        raise _not_ours(folder, "Stable Diffusion 2")
    return unet.float(), encoder.float(), vae.float()


def _load_file(path: Path, configs: Path) -> tuple[Any, Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    checkpoint = read_tensors(path)
    for prefix, family in _OTHERS.items():
        if any(name.startswith(prefix) for name in checkpoint):
            raise _not_ours(path, family)
    try:
        # diffusers takes tensors out of the dict that it is given.
        unet = UNet2DConditionModel.from_single_file(
            dict(checkpoint), config=str(configs), subfolder="unet", local_files_only=True
        )
        vae = AutoencoderKL.from_single_file(
            dict(checkpoint), config=str(configs), subfolder="vae", local_files_only=True
        )
        encoder = _clip_of(checkpoint, configs)
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is no Stable Diffusion 1 checkpoint: {_first_line(error)}",
            hint="name a full checkpoint (about 2 or 4 GB), not a LoRA or a VAE",
        ) from error
    return unet.float(), encoder.float(), vae.float()


def _clip_of(checkpoint: dict[str, Tensor], configs: Path) -> Any:
    """Build the text encoder from a checkpoint in the original layout."""
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(configs, subfolder="text_encoder", local_files_only=True))
    prefix = "text_model." if hasattr(encoder, "text_model") else ""
    tensors = {
        prefix + name.removeprefix(_CLIP_PREFIX): tensor
        for name, tensor in checkpoint.items()
        if name.startswith(_CLIP_PREFIX) and not name.endswith("position_ids")
    }
    encoder.load_state_dict(tensors)
    return encoder


def _load_vae(path: Path, configs: Path) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        if path.is_dir():
            folder = path / "vae" if (path / "vae").is_dir() else path
            return AutoencoderKL.from_pretrained(folder, local_files_only=True, use_safetensors=True).float()
        # A VAE by itself comes without the prefix that it has in a checkpoint.
        tensors = read_tensors(path)
        if not any(name.startswith("first_stage_model.") for name in tensors):
            tensors = {f"first_stage_model.{name}": tensor for name, tensor in tensors.items()}
        loaded = AutoencoderKL.from_single_file(tensors, config=str(configs), subfolder="vae", local_files_only=True)
        return loaded.float()
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is no VAE: {_first_line(error)}", hint="check `vae` in [train]"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises ModelFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"cannot read {display(path)}: {error}", hint="fetch the file again") from error


def _prediction(source: Path) -> Literal["epsilon", "v_prediction"] | None:
    path = source / "scheduler" / "scheduler_config.json"
    if not source.is_dir() or not path.is_file():
        return None
    said = json.loads(path.read_text(encoding="utf-8")).get("prediction_type")
    return said if said in ("epsilon", "v_prediction") else None


def _not_ours(path: Path, family: str) -> ModelFileError:
    return ModelFileError(
        f"{display(path)} is a model of {family}", hint="models of Stable Diffusion 1.x can be trained on"
    )


def _first_line(error: Exception) -> str:
    return display((str(error).strip() or type(error).__name__).splitlines()[0][:200])


def targets(parts: Parts, part: Part) -> dict[str, str]:
    """Return kohya's name -> module path: 192 modules of the UNet's attention blocks, 72 of the text encoder.

    The text encoder's names come from the layer and the projection: its module tree differs between versions of
    transformers.
    """
    modules = parts.part(part).named_modules()
    if part == "unet":
        paths = [path for path, m in modules if ".attentions." in path and isinstance(m, nn.Linear | nn.Conv2d)]
        return {"lora_unet_" + path.replace(".", "_"): path for path in paths}
    found = [(path, match) for path, _ in modules if (match := _CLIP_LINEAR.search(path))]
    return {f"lora_te_text_model_encoder_layers_{match[1]}_{match[2].replace('.', '_')}": path for path, match in found}


def idle(parts: Parts, clip_skip: int) -> frozenset[str]:
    """Return the modules that no gradient reaches: those of the layers behind the one that clip_skip takes."""
    taken = parts.text_encoder.config.num_hidden_layers - (clip_skip - 1)
    names = targets(parts, "text_encoder")
    return frozenset(n for n, path in names.items() if (m := _CLIP_LINEAR.search(path)) and int(m[1]) >= taken)


def encode_text(parts: Parts, captions: Sequence[str], *, clip_skip: int, max_tokens: int) -> Tensor:
    """Return CLIP's states, [captions, 77 | 152 | 227, width]."""
    return encode_clip(parts.text_encoder, captions, clip_skip=clip_skip, max_tokens=max_tokens)


def predict(parts: Parts, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    """Return the UNet's prediction, of the shape of `noisy`."""
    prediction: Tensor = parts.unet(noisy, timesteps, text, return_dict=False)[0]
    return prediction
