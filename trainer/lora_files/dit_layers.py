"""Which family of transformers a LoRA file is of, and what its layers are called there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trainer.families.dit_family import TransformerFamily
from trainer.families.registry import families
from trainer.lora_files import dit_exports
from trainer.lora_files.dit_exports import DitExports
from trainer.lora_files.layer_names import LayerName


def _by_layers() -> dict[str, list[TransformerFamily]]:
    """Return the families in groups with the same layers and formats, whose files look the same;
    each group under the name of the last one.
    """
    groups: dict[str, list[TransformerFamily]] = {}
    for family in (each for each in families() if isinstance(each, TransformerFamily)):
        alike = [name for name, group in groups.items() if group[0].EXPORTS is family.EXPORTS]
        groups[family.NAME] = [family, *(groups.pop(alike[0]) if alike else [])]
    return groups


_FAMILIES: Final = _by_layers()
EXPORTS: Final[Mapping[str, DitExports]] = {
    name: group[0].EXPORTS for name, group in _FAMILIES.items()
}
TITLES: Final[Mapping[str, str]] = {
    name: " or ".join(family.TITLE for family in group) for name, group in _FAMILIES.items()
}
_HEADER: Final = ("ss_base_model_version", "modelspec.architecture")
# Layers that several families have are this one's if the header does not say: it came first.
_USUAL: Final = "flux"
# Of layers outside the main blocks, that some programs train too, few are in a file.
_LEAST_KNOWN: Final = 0.5


def family_of(keys: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str | None:
    """Return the family whose layers a file's are; None for no family of transformers.

    keys: name of a layer -> the shape of its weight, () for an unknown one. Where the layers are
    those of several, as with attention alone, their shapes decide, then the header.
    """
    counts = {
        family: sum(dit_exports.path_of(exports.names, key) != "" for key in keys)
        for family, exports in EXPORTS.items()
    }
    most = max(counts.values())
    if not keys or most < _LEAST_KNOWN * len(keys):
        return None
    candidates = [family for family, count in counts.items() if count == most]
    fitting = [
        family
        for family in candidates
        if all(EXPORTS[family].fits(key, shape) for key, shape in keys.items())
    ]
    candidates = sorted(fitting or candidates, key=lambda family: family != _USUAL)
    stated = [family for family in candidates if _is_stated(family, metadata)]
    return (stated or candidates)[0]


def _is_stated(family: str, metadata: Mapping[str, str]) -> bool:
    texts = [re.sub(r"[^a-z0-9]", "", metadata.get(entry, "").lower()) for entry in _HEADER]
    names = [name for each in _FAMILIES[family] for name in each.METADATA.known_as]
    return any(name in text for name in names for text in texts)


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
