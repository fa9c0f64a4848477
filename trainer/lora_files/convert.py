"""Give a LoRA the keys of another format. The numbers stay, bit by bit, and alpha is always
written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from datasetkit.core.errors import InputError, ModelFileError
from datasetkit.core.files import display
from datasetkit.core.words import counted
from trainer.families import registry
from trainer.families.base import FamilyName
from trainer.lora_files import algebra, dit_exports, dit_layers, layer_names
from trainer.lora_files.lora_file import ADAPTER_METADATA, DOWN, MID, UP, LoraFile, LoraLayer
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.new_lora import NewLayer, WrittenFormat

# Their projections around the attention are linear; kohya's files of SD2 store them as 1x1
# convolutions.
_LINEAR: Final = ("sd2", "sdxl")
_DOTTED: Final[tuple[WrittenFormat, ...]] = ("diffusers", "comfy")
_PROJECTIONS: Final = ("proj_in", "proj_out")


@dataclass(frozen=True, slots=True)
class ConvertedLora:
    """The layers of a converted file, read one by one, and its header without ranks and hashes."""

    layers: Iterator[NewLayer]
    metadata: dict[str, str]


def convert(lora: LoraFile, to: WrittenFormat) -> ConvertedLora:
    """Convert a LoRA. Raises InputError where the format cannot hold it, ModelFileError for
    incomplete layers.
    """
    if lora.transformer:
        return ConvertedLora(_of_transformer(lora, to), _header(lora, to))
    family = require_convertible(lora, to)
    if to == "comfy":
        raise InputError(
            f"LoRAs of {lora.family_title} have no comfy format",
            hint="ComfyUI reads kohya's: --to kohya",
        )
    layers = (_converted(layer, family, to) for layer in lora.layers)
    metadata = dict(lora.metadata)
    if to == "kohya":
        metadata.pop(ADAPTER_METADATA, None)
        metadata.setdefault("ss_network_module", "networks.lora")
        names = registry.family(family).metadata_names("epsilon")
        metadata.setdefault("ss_base_model_version", names.base_model_version)
    return ConvertedLora(layers, metadata)


def _header(lora: LoraFile, to: WrittenFormat) -> dict[str, str]:
    metadata = dict(lora.metadata)
    metadata.pop(ADAPTER_METADATA, None)
    if to == "kohya":
        metadata.setdefault("ss_network_module", "networks.lora")
    return metadata


def _of_transformer(lora: LoraFile, to: WrittenFormat) -> Iterator[NewLayer]:
    """Yield a transformer's layers in a format: fused ones are split where it has them alone, and
    the other way round.
    """
    require_complete(lora)
    require_plain(lora, to)
    exports = dit_layers.EXPORTS[lora.transformer]
    if to not in exports.formats:
        raise InputError(
            f"LoRAs of {lora.family_title} have no {to} format",
            hint=f"one of {', '.join(exports.formats)}",
        )
    unknown = [layer.key for layer in lora.layers if not layer.name.is_known] + list(lora.others)
    if unknown:
        raise InputError(
            f"{display(lora.path)}: {counted(len(unknown), 'name')} of {lora.family_title} cannot "
            f"be converted, such as {display(unknown[0])}",
            hint="the attention and MLP layers of the main blocks can",
        )
    layers: dict[str, LowRank] = {}
    for layer in lora.layers:
        factors = algebra.low_rank(layer)
        algebra.require_finite(layer, factors.down, factors.up)
        layers |= dit_exports.split_rows(exports.names, layer.name.path, factors)
    for key, factors in exports.keyed(layers, to):
        name = dit_layers.layer_name(lora.transformer, key)
        shape = (len(factors.up), factors.down.shape[1])
        alpha = factors.scale * factors.rank
        yield NewLayer(key, name, shape, LowRank(factors.up, factors.down), alpha)


def require_convertible(lora: LoraFile, to: WrittenFormat) -> FamilyName:
    """Return the family of a LoRA that can be converted; raise for others, see `convert`."""
    require_complete(lora)
    unknown = [layer.key for layer in lora.layers if not layer.name.is_known] + list(lora.others)
    if lora.family is None or unknown:
        raise InputError(
            f"{display(lora.path)} is of the family {display(lora.family_title)}: "
            f"{counted(len(unknown), 'name')} cannot be converted, such as {display(unknown[0])}",
            hint="Stable Diffusion 1, 2 and XL are supported",
        )
    require_plain(lora, to)
    return lora.family


def require_plain(lora: LoraFile, to: WrittenFormat) -> None:
    """Raise InputError for another method than LoRA."""
    for layer in lora.layers:
        if layer.is_dora:
            raise InputError(
                f"{display(lora.path)} is a DoRA, whose magnitudes the formats store along "
                "different axes",
                hint="use it in the format in which it was trained",
            )
        if layer.method == "norm":
            raise InputError(
                f"{display(lora.path)} changes norms, which {to} files cannot hold under other "
                f"keys ({display(layer.key)})",
                hint="use it as it is: ComfyUI and LyCORIS read its keys",
            )
        if layer.method != "lora" or MID in layer.tensors:
            raise InputError(
                f"{display(lora.path)} is not a plain LoRA, which {to} files cannot hold under "
                f"other keys ({display(layer.key)})",
                hint="dsk lora resize --as-lora makes a plain one of it",
            )


def require_complete(lora: LoraFile) -> None:
    """Raise ModelFileError for layers with a tensor missing, or of an unknown method."""
    for layer in lora.layers:
        if layer.method in ("incomplete", "other"):
            raise ModelFileError(
                f"{display(lora.path)}: {display(layer.key)} cannot be used: "
                f"{layer.problem or 'its method is not known'}",
                hint="dsk lora check lists all such layers",
            )


def _converted(layer: LoraLayer, family: FamilyName, to: WrittenFormat) -> NewLayer:
    down, up = layer.array(DOWN), layer.array(UP)
    algebra.require_finite(layer, down, up)
    alpha = float(layer.rank) if layer.alpha is None else layer.alpha
    key = (
        layer_names.kohya(layer.name, family)
        if to == "kohya"
        else layer_names.diffusers(layer.name)
    )
    factors = LowRank(up.reshape(len(up), -1), down.reshape(len(down), -1))
    return NewLayer(key, layer.name, _shape(layer, family, to), factors, alpha)


def _shape(layer: LoraLayer, family: FamilyName, to: WrittenFormat) -> tuple[int, ...]:
    """Return the shape of a layer's weight in a format."""
    shape = layer.shape
    if layer.name.part == "unet" and layer.name.kind in _PROJECTIONS and family in _LINEAR:
        if math.prod(shape[2:]) != 1:
            return shape
        return (*shape[:2], 1, 1) if to == "kohya" and family == "sd2" else shape[:2]
    return shape


def formats(loras: Iterable[LoraFile]) -> WrittenFormat:
    """Return the format of a file that is made of several: the one that all have, else kohya's."""
    formats = {lora.format for lora in loras}
    for form in _DOTTED:
        if formats == {form}:
            return form
    return "kohya"
