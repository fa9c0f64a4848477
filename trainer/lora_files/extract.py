"""The difference of two models as a LoRA: for each layer the best approximation of a rank, in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from datasetkit.core.errors import InputError, ModelFileError
from datasetkit.core.files import display
from trainer.families.base import FamilyName
from trainer.lora_files import algebra, layer_names
from trainer.lora_files.base_weights import BaseTensor, BaseWeights
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.new_lora import NewLayer
from trainer.lora_files.precision import Array
from trainer.lora_files.resize import RankRule, ResizedLayer, group_of
from trainer.lora_files.tensor_file import TensorFile

_PROJECTIONS: Final = ("proj_in", "proj_out")
# A LoRA holds matrices and kernels only.
_NORMS: Final = ("norm", "norm1", "norm2", "norm3", "layer_norm1", "layer_norm2")
_VAE: Final = "first_stage_model."


@dataclass(frozen=True, slots=True)
class UncapturedChange:
    """What differs and is in no layer of a LoRA: norms, biases, embeddings, the first and the last
    convolution. norm: of all of it;
    vae: whether the VAE differs, which no LoRA changes.
    """

    tensors: int
    norm: float
    vae: bool


def shared_layers(tuned: BaseWeights, base: BaseWeights) -> list[LayerName]:
    """Return the layers that both models have. Raises InputError for models that do not fit."""
    names = sorted(filter(_is_adapted, tuned.layers.keys() & base.layers.keys()))
    if not names:
        raise InputError(
            f"{display(tuned.path)} and {display(base.path)} have no layer in common",
            hint="name a model and the one that it was tuned from",
        )
    for name in names:
        first, second = _size(tuned.layers[name]), _size(base.layers[name])
        if first != second:
            raise InputError(
                f"{display(tuned.layers[name].key)} is {first[0]} x {first[1]} in "
                f"{display(tuned.path)} and {second[0]} x {second[1]} in {display(base.path)}",
                hint="name two models of one family",
            )
    return names


def _is_adapted(name: LayerName) -> bool:
    """Tell whether LoRAs adapt a layer: a matrix or a kernel in a block."""
    in_block = name.part != "unet" or "_block" in name.path
    return in_block and name.kind not in _NORMS


def _size(tensor: BaseTensor) -> tuple[int, int]:
    return tensor.shape[0], math.prod(tensor.shape[1:])


def extract(
    tuned: BaseWeights,
    base: BaseWeights,
    names: Sequence[LayerName],
    family: FamilyName,
    rule: RankRule,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[tuple[NewLayer, ResizedLayer]]:
    """Yield the layers that differ. Raises ModelFileError for numbers that are not finite."""
    for name in names:
        difference = tuned.layers[name].matrix() - base.layers[name].matrix()
        if not np.isfinite(difference).all():
            raise ModelFileError(
                f"{display(tuned.layers[name].key)} has numbers that are not finite",
                hint="name models whose weights are finite",
            )
        if difference.any():
            yield _extracted(
                name, difference, _shape(tuned.layers[name], name, family), family, rule
            )
        advance()


def _extracted(
    name: LayerName,
    difference: Array,
    shape: tuple[int, ...],
    family: FamilyName,
    rule: RankRule,
) -> tuple[NewLayer, ResizedLayer]:
    decomposed = algebra.svd_of_matrix(difference)
    values = decomposed.values
    rank = rule.choose(values, kernel=math.prod(shape[2:]) > 1)
    key = layer_names.kohya(name, family)
    new = NewLayer(key, name, shape, algebra.truncated(decomposed, rank), float(rank))
    norm, kept = float(np.linalg.norm(values)), algebra.energy_kept(values, rank)
    return new, ResizedLayer(key, group_of(name), len(values), rank, norm, kept, False)


def _shape(tensor: BaseTensor, name: LayerName, family: FamilyName) -> tuple[int, ...]:
    """Return the shape of a layer in kohya's files, which store SD2's linear projections around the
    attention as 1x1 convolutions.
    """
    shape = tensor.shape
    if family == "sd2" and name.kind in _PROJECTIONS and len(shape) == 2:
        return (*shape, 1, 1)
    return shape


def uncaptured(tuned: BaseWeights, base: BaseWeights) -> UncapturedChange | None:
    """Compare the tensors that are in no layer; None for models of different layouts."""
    if tuned.path.is_dir() != base.path.is_dir():
        return None
    layers = {(_part(t.file, base), t.key) for n, t in base.layers.items() if _is_adapted(n)}
    others = {(_part(f, tuned), key): f for f in tuned.files for key in f.entries}
    tensors, square, vae = 0, 0.0, False
    for file in base.files:
        for key, entry in file.entries.items():
            identity = _part(file, base), key
            other = others.get(identity)
            if identity in layers or other is None or not entry.is_float:
                continue
            if other.entries[key].shape != entry.shape:
                continue
            difference = other.array(key) - file.array(key)
            if not difference.any():
                continue
            if key.startswith(_VAE):
                vae = True
                continue
            tensors += 1
            square += float((difference**2).sum())
    return UncapturedChange(tensors, math.sqrt(square), vae)


def _part(file: TensorFile, model: BaseWeights) -> str:
    return file.path.parent.name if model.path.is_dir() else ""
