"""Checkpoints: a model's parts read from a diffusers folder, or from one file in the original layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer import hub
from trainer.families import clip
from trainer.families.base import Parts
from trainer.families.detect import TITLES, FamilyName, Predicts
from trainer.families.source import find

_UNET_PREFIX: Final = "model.diffusion_model."
_VAE_PREFIX: Final = "first_stage_model."


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder of a family. kind: transformers' class; prefix: where it lies in one file.

    convert: the tensors of a file behind that prefix, and the number of layers -> transformers' names without
    `text_model.`, which versions of transformers have or have not.
    """

    kind: Literal["CLIPTextModel", "CLIPTextModelWithProjection"]
    prefix: str
    convert: Callable[[Mapping[str, Tensor], int], dict[str, Tensor]] = clip.of_hugging_face


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model of a family consists of. encoders: text encoders by their part's name; scale: of the latents."""

    family: FamilyName
    encoders: Mapping[str, TextEncoder]
    scale: float

    @property
    def title(self) -> str:
        return TITLES[self.family]


def load(
    layout: Layout, base: str, *, revision: str, vae: str, configs: Path, prediction: Predicts | None = None
) -> Parts:
    """Load the parts of a model, frozen, in float32 on the CPU.

    base: a diffusers folder, a `.safetensors` file in the original (LDM or sgm) layout, or one of them on the hub at
    its revision. vae: a folder or a file that replaces the model's own, or one on the hub with its own @commit.
    configs: the architecture's numbers, so that a single file needs no look at the hub. Raises ModelFileError,
    ConfigError.
    """
    source = find(base, revision)
    parts = _load_folder(source, layout) if source.is_dir() else _load_file(source, layout, configs)
    if vae:
        parts["vae"] = _load_vae(find(vae, layouts=hub.VAE), layout, configs)
    _check_scale(parts["vae"], layout, vae or str(source))
    for part in parts.values():
        part.requires_grad_(False).eval()
    return Parts(**parts, source=source, prediction=prediction, family=layout.family)


def _load_folder(folder: Path, layout: Layout) -> dict[str, Any]:
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would draw over this program's own
    kinds: dict[str, Any] = {"unet": UNet2DConditionModel}
    kinds |= {name: getattr(transformers, encoder.kind) for name, encoder in layout.encoders.items()}
    kinds["vae"] = AutoencoderKL
    try:
        return {
            name: kind.from_pretrained(folder, subfolder=name, local_files_only=True, use_safetensors=True).float()
            for name, kind in kinds.items()
        }
    except (OSError, ValueError, RuntimeError) as error:
        *most, last = [f"{name}/" for name in kinds]
        raise ModelFileError(
            f"{display(folder)} is no whole diffusers model: {_first_line(error)}",
            hint=f"it needs {', '.join(most)} and {last}, each with config.json and .safetensors",
        ) from error


def _load_file(path: Path, layout: Layout, configs: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    checkpoint = read_tensors(path)
    parts: dict[str, Any] = {}
    try:
        for name, kind, prefix in (("unet", UNet2DConditionModel, _UNET_PREFIX), ("vae", AutoencoderKL, _VAE_PREFIX)):
            own = _taken(checkpoint, prefix)
            parts[name] = kind.from_single_file(own, config=str(configs), subfolder=name, local_files_only=True).float()
        for name, encoder in layout.encoders.items():
            parts[name] = _text_encoder(_taken(checkpoint, encoder.prefix), name, encoder, configs).float()
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is no {layout.title} checkpoint: {_first_line(error)}",
            hint="name a full checkpoint (2 to 7 GB), not a LoRA or a VAE",
        ) from error
    return parts


def _taken(checkpoint: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take a part's tensors out of a checkpoint, so that they are gone from memory when the part is made."""
    return {name: checkpoint.pop(name) for name in list(checkpoint) if name.startswith(prefix)}


def _text_encoder(own: Mapping[str, Tensor], name: str, encoder: TextEncoder, configs: Path) -> Any:
    """Build a text encoder from its tensors in the original layout."""
    import transformers

    config = transformers.CLIPTextConfig.from_pretrained(configs, subfolder=name, local_files_only=True)
    made = getattr(transformers, encoder.kind)(config)
    tensors = encoder.convert({n.removeprefix(encoder.prefix): t for n, t in own.items()}, config.num_hidden_layers)
    projection = tensors.pop(clip.PROJECTION, None)
    prefix = "text_model." if hasattr(made, "text_model") else ""
    state = {prefix + key: tensor for key, tensor in tensors.items()}
    if projection is not None and hasattr(made, "text_projection"):
        state[clip.PROJECTION] = projection
    made.load_state_dict(state)
    return made


def _load_vae(path: Path, layout: Layout, configs: Path) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        if path.is_dir():
            folder = path / "vae" if (path / "vae").is_dir() else path
            return AutoencoderKL.from_pretrained(folder, local_files_only=True, use_safetensors=True).float()
        # A VAE by itself comes without the prefix that it has in a checkpoint.
        tensors = read_tensors(path)
        if not any(name.startswith(_VAE_PREFIX) for name in tensors):
            tensors = {f"{_VAE_PREFIX}{name}": tensor for name, tensor in tensors.items()}
        loaded = AutoencoderKL.from_single_file(tensors, config=str(configs), subfolder="vae", local_files_only=True)
        return loaded.float()
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is no VAE: {_first_line(error)}", hint="check `vae` in [train]"
        ) from error


def _check_scale(vae: Any, layout: Layout, named: str) -> None:
    """Refuse a VAE whose latents are not the family's: its configuration tells by what they are scaled."""
    said = float(vae.config.scaling_factor)
    if abs(said - layout.scale) > 1e-6:
        raise ModelFileError(
            f"the VAE of {display(named)} scales latents by {said:g}, {layout.title} by {layout.scale:g}",
            hint=f"name a VAE of {layout.title}, or none",
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises ModelFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"cannot read {display(path)}: {error}", hint="fetch the file again") from error


def _first_line(error: Exception) -> str:
    return display((str(error).strip() or type(error).__name__).splitlines()[0][:200])
