"""The weights of a base model under the names of its layers, where they lie in its files: a
checkpoint in the original layout, or a diffusers folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import display
from trainer.families.open_clip_names import TO_TRANSFORMERS
from trainer.families.unet_paths import from_original
from trainer.lora_files.layer_names import LayerName, LayerPart, text_path, unet_path
from trainer.lora_files.precision import Array
from trainer.lora_files.tensor_file import TensorFile, open_file
from trainer.tinybase import shipped

_UNET: Final = "model.diffusion_model."
# Prefix of a text encoder with transformers' names -> which one it is.
_CLIP: Final[Mapping[str, LayerPart]] = {
    "cond_stage_model.transformer.": "text_encoder",
    "conditioner.embedders.0.transformer.": "text_encoder",
}
_OPEN_CLIP: Final[Mapping[str, LayerPart]] = {
    "cond_stage_model.model.": "text_encoder",
    "conditioner.embedders.1.model.": "text_encoder_2",
}
_RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.weight")
_IN_PROJECTION = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_weight")
_FOLDERS: Final[tuple[LayerPart, ...]] = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class BaseTensor:
    """A layer's weight in a file. rows: the part of the tensor, where it holds several layers."""

    file: TensorFile
    key: str
    rows: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        shape = self.file.entries[self.key].shape
        return shape if self.rows is None else (self.rows[1] - self.rows[0], *shape[1:])

    @property
    def bias_key(self) -> str | None:
        """Return the key of the layer's bias, None without one."""
        key = f"{self.key.removesuffix('weight')}bias"
        return key if key in self.file.entries else None

    @property
    def size(self) -> int:
        """Return its number of elements."""
        return math.prod(self.shape)

    @property
    def matrix_size(self) -> tuple[int, int]:
        """Return the shape of `matrix`, without reading it."""
        return self.shape[0], math.prod(self.shape[1:])

    def matrix(self) -> Array:
        """Return the weight as a matrix: (out, in * kernel)."""
        whole = self.file.array(self.key)
        part = whole if self.rows is None else whole[self.rows[0] : self.rows[1]]
        return part.reshape(len(part), -1)


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """A base model. files: all that were opened."""

    path: Path
    files: tuple[TensorFile, ...]
    layers: Mapping[LayerName, BaseTensor]


def open_base(base: str) -> BaseWeights:
    """Open a checkpoint, a diffusers folder, or the shipped base `tiny`. Raises ModelFileError."""
    path = Path(shipped.located(base))
    layers: dict[LayerName, BaseTensor] = {}
    files: list[TensorFile] = []
    if path.is_dir():
        for part in _FOLDERS:
            for file in _files_of(path / part):
                files.append(file)
                layers |= dict(_of_folder(file, part))
    else:
        files.append(open_file(path))
        layers |= dict(_of_checkpoint(files[0]))
    if not layers:
        raise ModelFileError(
            f"{display(path)} is not a base model: it has no layer of Stable Diffusion 1, 2 or XL",
            hint="name a full checkpoint in the original layout, or a diffusers folder",
        )
    return BaseWeights(path, tuple(files), layers)


def _files_of(folder: Path) -> list[TensorFile]:
    """Return the weights in a part's folder: those in full precision where there are two."""
    paths = sorted(folder.glob("*.safetensors"))
    full = [path for path in paths if ".fp16." not in path.name]
    return [open_file(path) for path in full or paths]


def _of_folder(file: TensorFile, part: LayerPart) -> Iterator[tuple[LayerName, BaseTensor]]:
    parse = unet_path if part == "unet" else text_path
    for key in file.entries:
        path = parse(key.removesuffix(".weight").replace(".", "_"))
        if key.endswith(".weight") and path is not None:
            yield LayerName(part, path), BaseTensor(file, key)


def _of_checkpoint(file: TensorFile) -> Iterator[tuple[LayerName, BaseTensor]]:
    for key in file.entries:
        if key.startswith(_UNET):
            inner = key.removeprefix(_UNET).removesuffix(".weight")
            path = unet_path(from_original(inner) or "")
            if key.endswith(".weight") and path is not None:
                yield LayerName("unet", path), BaseTensor(file, key)
            continue
        for prefix, part in _CLIP.items():
            if key.startswith(prefix) and key.endswith(".weight"):
                inner = key.removeprefix(prefix).removesuffix(".weight").replace(".", "_")
                if path := text_path(inner):
                    yield LayerName(part, path), BaseTensor(file, key)
        for prefix, part in _OPEN_CLIP.items():
            if key.startswith(prefix):
                yield from _of_open_clip(file, key, key.removeprefix(prefix), part)


def _of_open_clip(
    file: TensorFile, key: str, inner: str, part: LayerPart
) -> Iterator[tuple[LayerName, BaseTensor]]:
    """Yield the layers of one of OpenCLIP's tensors; query, key and value are three thirds of one
    tensor.
    """
    if match := _IN_PROJECTION.fullmatch(inner):
        third = file.entries[key].shape[0] // 3
        for n, letter in enumerate("qkv"):
            path = f"text_model.encoder.layers.{match[1]}.self_attn.{letter}_proj"
            yield LayerName(part, path), BaseTensor(file, key, (n * third, (n + 1) * third))
    elif (match := _RESBLOCK.fullmatch(inner)) and match[2] in TO_TRANSFORMERS:
        path = f"text_model.encoder.layers.{match[1]}.{TO_TRANSFORMERS[match[2]]}"
        yield LayerName(part, path), BaseTensor(file, key)
