"""The keys and tensors of a diffusion transformer's LoRA in the formats that programs load.

The main formats have no alpha: it is multiplied into lora_B, because diffusers misreads `.alpha`
keys of half of the families, and ComfyUI does not read the header.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from datasetkit.core.errors import InputError
from trainer.families import dit_names
from trainer.families.dit_names import DitNames
from trainer.lora_files.fused_layers import folded, fused, split
from trainer.lora_files.low_rank import LowRank
from trainer.lora_files.precision import Array

DitFormatName = Literal["diffusers", "comfy", "kohya"]


@dataclass(frozen=True, slots=True)
class DitFormat:
    """How a format names layers. is_original: with the paths, and the fused layers, of the original
    code; has_alpha: kohya's, with `_` for `.` and an alpha beside each pair.
    """

    prefix: str
    is_original: bool = False
    has_alpha: bool = False

    def key(self, path: str) -> str:
        """Return a layer's name in the file."""
        return self.prefix + (path.replace(".", "_") if self.has_alpha else path)


# `transformer.` and diffusers' paths: what diffusers itself writes.
DIFFUSERS: Final = DitFormat("transformer.")
# `diffusion_model.`: what ComfyUI and Forge call the transformer of every family.
COMFY: Final = DitFormat("diffusion_model.", is_original=True)
COMFY_SPLIT: Final = DitFormat("diffusion_model.")
KOHYA: Final = DitFormat("lora_unet_", is_original=True, has_alpha=True)


@dataclass(frozen=True, slots=True)
class DitExports:
    """The formats of a family. default: the one that every program loads. wide: end of an original
    path -> out features of the layer per in feature, where families share the path.
    """

    names: DitNames
    default: DitFormatName
    formats: Mapping[DitFormatName, DitFormat]
    wide: Mapping[str, int] = field(default_factory=dict)

    def fits(self, key: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a layer of the family can have this shape; () is an unknown one."""
        name = key.replace(".", "_")
        return len(shape) < 2 or all(
            shape[0] == n * shape[1] for end, n in self.wide.items() if name.endswith(end)
        )

    def tensors(
        self,
        layers: Mapping[str, LowRank],
        form: DitFormatName | None = None,
        heights: Mapping[str, int] | None = None,
    ) -> Iterator[tuple[str, Array]]:
        """Yield the keys and numbers of a LoRA, layer by layer. layers: by diffusers' path.

        form: None is the default. heights: the out features of layers that have no LoRA, by path;
        needed where such a layer is a part of a fused one.
        """
        chosen = self.formats[form or self.default]
        for key, layer in self.keyed(layers, form, heights):
            yield from _pair(chosen, key, layer)

    def keyed(
        self,
        layers: Mapping[str, LowRank],
        form: DitFormatName | None = None,
        heights: Mapping[str, int] | None = None,
    ) -> Iterator[tuple[str, LowRank]]:
        """Yield the name of each layer in a format, and the layer; see `tensors`."""
        chosen = self.formats[form or self.default]
        for path, layer in self._layers(layers, chosen, heights or {}):
            yield chosen.key(path), layer

    def _layers(
        self, layers: Mapping[str, LowRank], form: DitFormat, heights: Mapping[str, int]
    ) -> Iterator[tuple[str, LowRank]]:
        if not form.is_original:
            yield from layers.items()
            return
        originals = dict.fromkeys(self.names.to_original(path).path for path in layers)
        for original in originals:
            parts = self.names.from_original(original)
            rows = [layers.get(part) for part in parts]
            if len(parts) == 1 and rows[0] is not None:
                yield original, rows[0]
            else:
                yield original, fused(rows, _heights(parts, rows, heights))


def _heights(
    parts: tuple[str, ...], rows: list[LowRank | None], heights: Mapping[str, int]
) -> list[int]:
    for part, row in zip(parts, rows, strict=True):
        if row is None and part not in heights:
            raise InputError(
                f"the LoRA has no layer {part}, which this format stores in one with {parts[0]}",
                hint="choose the format diffusers, which stores each layer alone",
            )
    return [
        heights[part] if row is None else len(row.up) for part, row in zip(parts, rows, strict=True)
    ]


def _pair(form: DitFormat, key: str, layer: LowRank) -> Iterator[tuple[str, Array]]:
    if form.has_alpha:
        yield f"{key}.lora_down.weight", layer.down
        yield f"{key}.lora_up.weight", layer.up
        yield f"{key}.alpha", np.asarray(layer.scale * layer.rank, np.float64)
    else:
        yield f"{key}.lora_A.weight", layer.down
        yield f"{key}.lora_B.weight", folded(layer).up


# ---- reading

# What programs put before the path of a transformer's layer; "" is a bare path.
_PREFIXES: Final = (
    *("base_model.model.", "diffusion_model.", "transformer."),
    *("lora_unet_", "lora_transformer_", "lycoris_", ""),
)


def path_of(names: DitNames, key: str) -> str:
    """Return the path of the layer that a file calls `key`, in diffusers or in the original code;
    "" for an unknown one.
    """
    prefix = next(p for p in _PREFIXES if key.startswith(p))
    path = key.removeprefix(prefix)
    return names.dotted(path.replace(".", "_"))


def split_rows(names: DitNames, path: str, layer: LowRank) -> dict[str, LowRank]:
    """Return a layer of a file by diffusers' paths: the parts of a fused one, without those that do
    not change. path: of `path_of`. Raises ValueError for rows of another number.
    """
    parts = names.from_original(path) or (path,)
    if len(parts) == 1:
        return {parts[0]: layer}
    rows = split(layer, dit_names.heights(len(parts), len(layer.up), layer.down.shape[1]))
    return {part: row for part, row in zip(parts, rows, strict=True) if row is not None}


# ---- the families

FLUX: Final = DitExports(
    dit_names.FLUX, "diffusers", {"diffusers": DIFFUSERS, "kohya": KOHYA},
    {"linear1": 7, "mlp_0": 4},
)  # fmt: skip
# Its MLP is gated.
FLUX2: Final = DitExports(
    dit_names.FLUX2, "comfy", {"comfy": COMFY, "diffusers": DIFFUSERS, "kohya": KOHYA},
    {"linear1": 9, "mlp_0": 6},
)  # fmt: skip
QWEN: Final = DitExports(
    dit_names.QWEN, "comfy", {"comfy": COMFY_SPLIT, "diffusers": DIFFUSERS, "kohya": KOHYA}
)
# ComfyUI and Forge know the split names here; diffusers loses the fused ones.
Z_IMAGE: Final = DitExports(
    dit_names.Z_IMAGE, "comfy", {"comfy": COMFY_SPLIT, "diffusers": DIFFUSERS, "kohya": KOHYA}
)
KREA2: Final = DitExports(dit_names.KREA2, "comfy", {"comfy": COMFY, "diffusers": DIFFUSERS})
ANIMA: Final = DitExports(
    dit_names.ANIMA, "comfy", {"comfy": COMFY, "diffusers": DIFFUSERS, "kohya": KOHYA}
)
SD3: Final = DitExports(dit_names.SD3, "diffusers", {"diffusers": DIFFUSERS})
