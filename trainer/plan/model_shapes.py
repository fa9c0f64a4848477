"""A model's parameter counts and layer widths, read from the headers of its files.

Needs no torch and reads no weights, so that a plan can estimate memory before anything is loaded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ModelFileError
from trainer.families import registry
from trainer.families.base import Anatomy, BlockList, Family, FamilyName, Part, Shapes
from trainer.families.detect import detect
from trainer.networks.layers import Layer
from trainer.plan import safetensors_header
from trainer.tinybase import shipped

VAE: Final = "vae"
_HALVES = re.compile(
    r"encoder\.(?:(?:down_blocks\.\d+\.downsamplers\.0|down\.\d+\.downsample)\.conv"
    r"|down_blocks\.\d+\.resample\.1)\.weight"
)
_FACTOR: Final = 8  # of every family's VAE, where its shapes do not say another


@dataclass(frozen=True, slots=True)
class ModelShapes:
    """The facts about a model that memory depends on.

    vae: its parameters; vae_width: its channels at full image size; vae_factor: by which it divides
    an image's sides. anatomy: of the other parts.
    """

    family: FamilyName
    anatomy: Anatomy
    vae: int
    vae_width: int
    vae_factor: int = _FACTOR

    @property
    def denoiser(self) -> int:
        """Return the denoiser's number of parameters."""
        return self.anatomy.parameters[registry.family(self.family).DENOISER]

    @property
    def encoders(self) -> int:
        """Return the number of parameters of all text encoders, and of other frozen parts."""
        return sum(self.anatomy.parameters.values()) - self.denoiser

    @property
    def layers(self) -> Mapping[Part, tuple[Layer, ...]]:
        """Return the layers of each part that a network can adapt."""
        return self.anatomy.layers

    @property
    def blocks(self) -> BlockList:
        """Return the blocks of the model's block lists."""
        return registry.family(self.family).BLOCKS


def assumed() -> ModelShapes:
    """Return the shapes that are assumed for a model whose files are missing."""
    return ModelShapes(registry.ASSUMED, registry.assumed_anatomy(), 83_653_863, 128)


def read(base: str, vae: str = "", others: Path | None = None) -> ModelShapes | None:
    """Return the shapes of a model on disk; None if it is missing or not a model. vae: as in
    `[train]`; others: the folder with the other parts of a file that is the denoiser alone.
    """
    path = Path(shipped.located(base)).expanduser()
    try:
        family = registry.family(detect(path).family)
        parts = _of_folder(path, family) if path.is_dir() else _of_file(path, family)
        if others is not None and not path.is_dir():
            parts = {**_of_folder(others, family), **parts}
        if vae and (vae_path := Path(vae).expanduser()).exists():
            folder = vae_path / VAE if (vae_path / VAE).is_dir() else vae_path
            parts[VAE] = _headers(folder)
    except (OSError, ValueError, ModelFileError):
        return None
    if not all(parts.get(part) for part in (family.DENOISER, *family.ENCODERS)):
        return None
    return count(family, parts)


def count(family: Family, parts: Mapping[Part, Shapes]) -> ModelShapes:
    """Count a model by the shapes of its parts' tensors, in diffusers' or the original layout."""
    vae = parts.get(VAE, {})
    first = next((s for n, s in vae.items() if n.endswith("encoder.conv_in.weight")), (0,))
    others = {part: shapes for part, shapes in parts.items() if part != VAE}
    return ModelShapes(
        family.NAME,
        family.anatomy(others),
        sum(map(math.prod, vae.values())),
        first[0],
        _vae_factor(vae),
    )


def _vae_factor(vae: Shapes) -> int:
    """Return the factor by which the VAE divides a side: 2 per downsampler."""
    return 2 ** sum(map(bool, map(_HALVES.search, vae))) if vae else _FACTOR


def _of_file(path: Path, family: Family) -> dict[Part, Shapes]:
    shapes = safetensors_header.read(path).shapes
    if not family.FILE_PARTS:
        return {family.DENOISER: shapes}
    return {
        part: {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
        for part, prefix in family.FILE_PARTS.items()
    }


def _of_folder(path: Path, family: Family) -> dict[Part, Shapes]:
    return {
        part: _headers(path / part)
        for part in (family.DENOISER, *family.ENCODERS, *family.EXTRA, VAE)
        if (path / part).is_dir()
    }


def _headers(folder: Path) -> Shapes:
    """Return the shapes in a part's weights: all files of an index, else the largest file, because
    there may be several precisions.
    """
    if folder.is_file():
        return safetensors_header.read(folder).shapes
    for index in sorted(folder.glob("*.safetensors.index.json")):
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return {
            name: shape
            for file in sorted(files)
            for name, shape in safetensors_header.read(folder / file).shapes.items()
        }
    files_by_size = sorted(folder.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    if not files_by_size:
        raise FileNotFoundError(folder)
    return safetensors_header.read(files_by_size[-1]).shapes
