"""Checks of a base model's files that need no torch: whether a part is missing or cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.families.base import PART_TITLES, Family, Part, Shapes
from trainer.plan import safetensors_header


def require_whole(source: Path, family: Family) -> None:
    """Raise ModelFileError for a model of which a part is missing or cut short, before anything is
    loaded.
    """
    if source.is_dir():
        parts = (family.DENOISER, *family.ENCODERS, *family.EXTRA, "vae")
        for part in parts:
            _require_part(source, part, parts)
        return
    _require_uncut(source)
    names = safetensors_header.read(source).shapes
    for part, prefix in family.FILE_PARTS.items():
        if not has_prefix(names, prefix):
            raise ModelFileError(
                f"{display(source)} is not a {family.TITLE} checkpoint: its {PART_TITLES[part]} is "
                "missing",
                hint="name a full checkpoint (2 to 7 GB), not a LoRA or a VAE",
            )


def require_vae(path: Path, family: Family) -> None:
    """Raise ModelFileError for a `vae` that is not a VAE, is cut short or of another family."""
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        config = read_json(folder / "config.json")
        weights = folder / "diffusion_pytorch_model.safetensors"
        index = weights.with_name(f"{weights.name}.index.json")
        if config is None or not (weights.is_file() or index.is_file()):
            name = "config.json" if config is None else weights.name
            raise _not_a_vae(path, f"{name} is missing")
        if not {"latent_channels", "z_dim"} & config.keys():
            raise _not_a_vae(path, "its config.json is of another model")
        # Before configs had a scale, every VAE had that of Stable Diffusion 1.
        require_scale(path, config.get("scaling_factor", 0.18215), family)
        for file in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
            if file == weights or index.is_file():
                _require_uncut(file)
        return
    _require_uncut(path)
    names = safetensors_header.read(path).shapes
    if not any(name.endswith("encoder.conv_in.weight") for name in names):
        raise _not_a_vae(path, "it has no encoder.conv_in.weight")


def require_scale(vae: str | Path, scale: object, family: Family) -> None:
    """Raise ModelFileError for a VAE of another family, by the latent scale in its config."""
    wanted, title = family.LATENT_SCALE, family.TITLE
    if wanted is None:
        return
    if not isinstance(scale, int | float) or abs(scale - wanted) > 1e-6:
        raise ModelFileError(
            f"the VAE of {display(vae)} scales latents by {scale}, but {title} by {wanted:g}",
            hint=f"use a VAE of {title}, or remove `vae`",
        )


def _not_a_vae(path: Path, why: str) -> ModelFileError:
    return ModelFileError(
        f"{display(path)} is not a VAE: {why}",
        hint="name in `vae` of [train] a VAE's .safetensors file, or a folder with config.json and "
        "diffusion_pytorch_model.safetensors",
    )


def _require_part(folder: Path, part: Part, parts: Sequence[Part]) -> None:
    # transformers and diffusers name their files differently.
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    weights = folder / part / f"{stem}.safetensors"
    index = weights.with_name(f"{weights.name}.index.json")  # of a model in several files
    missing = [
        path for path in (folder / part / "config.json", weights)
        if not path.is_file() and not (path == weights and index.is_file())
    ]  # fmt: skip
    if missing:
        raise ModelFileError(
            f"{display(folder)} is not a complete diffusers model: {part}/{missing[0].name} is "
            "missing",
            hint=parts_hint(parts),
        )
    for file in sorted((folder / part).glob(f"{stem}*.safetensors")):
        if file == weights or index.is_file():
            _require_uncut(file)


def parts_hint(parts: Sequence[Part]) -> str:
    """Return what a folder has to have."""
    *most, last = [f"{name}/" for name in parts]
    return f"it needs {', '.join(most)} and {last}, each with config.json and .safetensors"


def transformer_alone(path: Path) -> ModelFileError:
    """Return the error for a transformer's file without the folder of the other parts."""
    return ModelFileError(
        f"{display(path)} is a transformer alone: its text encoder and its VAE are missing",
        hint="name in `base_folder` of [train] a diffusers folder of the same model, or its name "
        "on the hub with its @commit",
    )


def _require_uncut(path: Path) -> None:
    try:
        safetensors_header.require_whole(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"cannot read {display(path)}: it is damaged or cut short",
            hint="download the file again",
        ) from error


def has_prefix(names: Mapping[str, object], prefix: str) -> bool:
    """Tell whether a tensor's name begins with a prefix."""
    return any(name.startswith(prefix) for name in names)


def read_json(path: Path) -> Mapping[str, Any] | None:
    """Return a JSON object, None for any other file or none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def hidden_widths(shapes: Mapping[Part, Shapes]) -> dict[Part, int]:
    """Return the width of the token embedding of each part that has one."""
    ends = ("embed_tokens.weight", "shared.weight", "token_embedding.weight")
    embeddings = {
        part: next(
            (s for name, s in each.items() if name.endswith(ends) or name == "embed.weight"), ()
        )
        for part, each in shapes.items()
    }
    return {part: shape[1] for part, shape in embeddings.items() if len(shape) == 2}
