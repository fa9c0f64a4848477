"""Load a base model's parts from a diffusers folder, or from one checkpoint file in the original
layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from trainer.families import clip, registry
from trainer.families.base import Family, FamilyName, Parts, Predicts
from trainer.families.model_files import parts_hint, require_scale
from trainer.families.source import find
from trainer.families.unet_family import UNET_PREFIX, VAE_PREFIX
from trainer.files import hub_model


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text encoder of a family. kind: transformers' class; prefix: of its tensors in one file.

    convert: from a file's tensors (without the prefix) and the number of layers to transformers'
    names without `text_model.`, which only some versions of transformers have.
    """

    kind: Literal["CLIPTextModel", "CLIPTextModelWithProjection"]
    prefix: str
    convert: Callable[[Mapping[str, Tensor], int], dict[str, Tensor]] = clip.of_hugging_face


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """The parts of a family's models. encoders: text encoders by part."""

    family: FamilyName
    encoders: Mapping[str, TextEncoder]

    @property
    def functions(self) -> Family:
        return registry.family(self.family)

    @property
    def title(self) -> str:
        return self.functions.TITLE


def load(
    layout: ModelLayout,
    base: str,
    *,
    revision: str,
    vae: str,
    configs: Path,
    prediction: Predicts | None = None,
    dtype: torch.dtype | None = None,
    reporter: Reporter = SILENT,
) -> Parts:
    """Load the parts of a model, frozen, on the CPU: the VAE in float32, the others in `dtype`
    (None: float32).

    base: a diffusers folder, a `.safetensors` file in the original (LDM or sgm) layout, or either
    on the hub at `revision`. vae: a folder or file that replaces the model's VAE, or one on the hub
    with its own @commit. configs: the architecture's configs, so that a single file needs nothing
    from the hub. Raises ModelFileError, ConfigError.
    """
    source = find(base, revision)
    dtype = dtype or torch.float32
    parts = (
        _load_folder(source, layout, dtype, reporter)
        if source.is_dir()
        else _load_file(source, layout, configs, dtype, reporter)
    )
    if vae:
        _loading(reporter, "vae")
        parts["vae"] = _load_vae(find(vae, layouts=hub_model.VAE), layout, configs)
    require_scale(vae or source, float(parts["vae"].config.scaling_factor), layout.functions)
    for part in parts.values():
        part.requires_grad_(False).eval()
    return Parts(
        parts["unet"],
        parts["vae"],
        {name: parts[name] for name in layout.encoders},
        source,
        layout.family,
        prediction=prediction,
    )


def _loading(reporter: Reporter, name: str) -> None:
    reporter.phase(f"loading the base model: {name}")


def _load_folder(
    folder: Path, layout: ModelLayout, dtype: torch.dtype, reporter: Reporter
) -> dict[str, Any]:
    reporter.phase("loading diffusers and transformers")
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would overwrite this program's progress line
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "unet": (UNet2DConditionModel, {"torch_dtype": dtype})
    }
    kinds |= {
        name: (getattr(transformers, encoder.kind), {"dtype": dtype})
        for name, encoder in layout.encoders.items()
    }
    kinds["vae"] = (AutoencoderKL, {"torch_dtype": torch.float32})
    parts: dict[str, Any] = {}
    try:
        for name, (kind, precision) in kinds.items():
            _loading(reporter, name)
            parts[name] = kind.from_pretrained(
                folder, subfolder=name, local_files_only=True, use_safetensors=True, **precision
            )
        return parts
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{display(folder)} is not a complete diffusers model: {_first_line(error)}",
            hint=parts_hint(tuple(kinds)),
        ) from error


def _load_file(
    path: Path, layout: ModelLayout, configs: Path, dtype: torch.dtype, reporter: Reporter
) -> dict[str, Any]:
    reporter.phase("loading diffusers and transformers")
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    _loading(reporter, path.name)
    checkpoint = read_tensors(path)
    kinds = (
        ("unet", UNet2DConditionModel, UNET_PREFIX, dtype),
        ("vae", AutoencoderKL, VAE_PREFIX, torch.float32),
    )
    parts: dict[str, Any] = {}
    try:
        for name, kind, prefix, precision in kinds:
            _loading(reporter, name)
            tensors = _pop_part(checkpoint, prefix, precision)
            parts[name] = kind.from_single_file(
                tensors,
                config=str(configs),
                subfolder=name,
                local_files_only=True,
                torch_dtype=precision,
            )
        for name, encoder in layout.encoders.items():
            _loading(reporter, name)
            parts[name] = _text_encoder(
                _pop_part(checkpoint, encoder.prefix, dtype), name, encoder, configs
            )
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is not a {layout.title} checkpoint: {_first_line(error)}",
            hint="name a full checkpoint (2 to 7 GB), not a LoRA or a VAE",
        ) from error
    return parts


def _pop_part(checkpoint: dict[str, Tensor], prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Move a part's tensors out of a checkpoint one by one, so that no part is in memory in two
    precisions.
    """
    names = (name for name in list(checkpoint) if name.startswith(prefix))
    return {
        name: t.to(dtype) if t.is_floating_point() else t
        for name in names
        for t in (checkpoint.pop(name),)
    }


def _text_encoder(
    checkpoint: Mapping[str, Tensor], name: str, encoder: TextEncoder, configs: Path
) -> Any:
    """Build a text encoder from its tensors in the original layout."""
    import transformers
    from accelerate import init_empty_weights

    config = transformers.CLIPTextConfig.from_pretrained(
        configs, subfolder=name, local_files_only=True
    )
    with init_empty_weights():
        model = getattr(transformers, encoder.kind)(config)
    tensors = encoder.convert(
        {n.removeprefix(encoder.prefix): t for n, t in checkpoint.items()}, config.num_hidden_layers
    )
    projection = tensors.pop(clip.PROJECTION, None)
    prefix = "text_model." if hasattr(model, "text_model") else ""
    state = {prefix + key: tensor for key, tensor in tensors.items()}
    if projection is not None and hasattr(model, "text_projection"):
        state[clip.PROJECTION] = projection
    model.load_state_dict(state, assign=True)
    return model


def _load_vae(path: Path, layout: ModelLayout, configs: Path) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    try:
        if path.is_dir():
            folder = path / "vae" if (path / "vae").is_dir() else path
            return AutoencoderKL.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32
            )
        # A separate VAE file does not have the prefix that a checkpoint has.
        tensors = read_tensors(path)
        if not any(name.startswith(VAE_PREFIX) for name in tensors):
            tensors = {f"{VAE_PREFIX}{name}": tensor for name, tensor in tensors.items()}
        return AutoencoderKL.from_single_file(
            tensors,
            config=str(configs),
            subfolder="vae",
            local_files_only=True,
            torch_dtype=torch.float32,
        )
    except (SingleFileComponentError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelFileError(
            f"{display(path)} is not a VAE: {_first_line(error)}", hint="check `vae` in [train]"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises ModelFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"cannot read {display(path)}: {error}", hint="download the file again"
        ) from error


def _first_line(error: Exception) -> str:
    return display((str(error).strip() or type(error).__name__).splitlines()[0][:200])
