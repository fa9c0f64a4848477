"""Which family of transformers a LoRA file is of, and what its layers are called there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trainer.lora_files import dit_exports
from trainer.lora_files.dit_exports import DitExports
from trainer.lora_files.layer_names import LayerName

# Where a file's layers are those of several, the first one counts.
EXPORTS: Final[Mapping[str, DitExports]] = {
    "z-image": dit_exports.Z_IMAGE,
    "anima": dit_exports.ANIMA,
    "flux": dit_exports.FLUX,
    "flux2": dit_exports.FLUX2,
    "krea2": dit_exports.KREA2,
    "qwen": dit_exports.QWEN,
    "sd3": dit_exports.SD3,
}
TITLES: Final[Mapping[str, str]] = {
    "z-image": "Z-Image",
    "anima": "Anima",
    "flux2": "Flux.2",
    "krea2": "Krea 2",
    "flux": "Flux.1 or Chroma",
    "qwen": "Qwen-Image",
    "sd3": "Stable Diffusion 3.5",
}
# In the lower-case header entries ss_base_model_version and modelspec.architecture.
_STATED: Final[Mapping[str, tuple[str, ...]]] = {
    "z-image": ("z-image", "zimage", "z_image"),
    "anima": ("anima",),
    "flux2": ("flux2", "flux-2", "flux.2"),
    "krea2": ("krea2", "krea-2"),
    "flux": ("flux1", "flux-1", "flux.1", "chroma"),
    "qwen": ("qwen",),
    "sd3": ("sd3", "stable-diffusion-3"),
}
_HEADER: Final = ("ss_base_model_version", "modelspec.architecture")
# Of layers outside the main blocks, that some programs train too, few are in a file.
_LEAST_KNOWN: Final = 0.5


def family_of(keys: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str | None:
    """Return the family whose layers a file's are; None for no family of transformers.

    keys: name of a layer -> the shape of its weight, () for an unknown one. Where the layers are
    those of several, as with attention alone, the header decides; without a statement there the
    first one that has them all.
    """
    counts = {
        family: sum(dit_exports.path_of(exports.names, key) != "" for key in keys)
        for family, exports in EXPORTS.items()
    }
    most = max(counts.values())
    if not keys or most < _LEAST_KNOWN * len(keys):
        return None
    candidates = [family for family, count in counts.items() if count == most]
    text = " ".join(metadata.get(entry, "") for entry in _HEADER).lower()
    if "flux2" in candidates and any(_is_flux2(key, shape) for key, shape in keys.items()):
        return "flux2"
    stated = [family for family in candidates if any(sign in text for sign in _STATED[family])]
    return (stated or candidates)[0]


def _is_flux2(key: str, shape: tuple[int, ...]) -> bool:
    """Tell whether a layer of the original code is of Flux.2, whose MLP is gated: it has 6 rows for
    each column, and the fused one of a single block 9; in Flux.1 they have 4 and 7.
    """
    if len(shape) < 2:
        return False
    wide = {"linear1": 9, "mlp_0": 6}
    name = key.replace(".", "_")
    return any(name.endswith(end) and shape[0] == n * shape[1] for end, n in wide.items())


def layer_name(family: str, key: str) -> LayerName:
    """Return the layer that a file calls `key`: diffusers' path, or the original path of a layer
    that is several in diffusers.
    """
    names = EXPORTS[family].names
    path = dit_exports.path_of(names, key)
    if not path:
        return LayerName("", key)
    parts = names.from_original(path) or (path,)
    return LayerName("transformer", parts[0] if len(parts) == 1 else path)
