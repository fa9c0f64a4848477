"""The LoRA of a diffusion transformer: from a network to the tensors of a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.families.base import Shapes
from trainer.families.dit_names import heights, module_name
from trainer.lora_files import dit_exports
from trainer.lora_files.dit_exports import DitExports, DitFormatName
from trainer.lora_files.low_rank import LowRank

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainer.networks.network import Lora

_DOWN, _UP, _ALPHA = "lora_down.weight", "lora_up.weight", "alpha"
# The ends of keys, and what kohya's files call that tensor.
_ENDS: Final = {
    "lora_A.weight": _DOWN,
    "lora_B.weight": _UP,
    _DOWN: _DOWN,
    _UP: _UP,
    _ALPHA: _ALPHA,
}


def targets(transformer: nn.Module, exports: DitExports) -> dict[str, str]:
    """Return name -> path of each layer of the main blocks that LoRA adapts."""
    from torch import nn

    linear = [path for path, m in transformer.named_modules() if isinstance(m, nn.Linear)]
    return {module_name(path): path for path in exports.names.targets(linear)}


def export(
    network: Lora, exports: DitExports, dtype: torch.dtype, form: DitFormatName
) -> dict[str, Tensor]:
    """Return a network's tensors under the names of a format.

    alpha is multiplied in float32 and each number rounded once. Raises InputError for a format that
    fuses layers of which one is not trained.
    """
    import numpy as np
    import torch

    layers = {
        module.path: LowRank(
            module.up.detach().float().cpu().numpy(),
            module.down.detach().float().cpu().numpy(),
            module.rank.alpha / module.rank.dim,
        )
        for module in network.modules
    }
    return {
        key: torch.from_numpy(np.array(values, np.float32)).to(
            torch.float32 if key.endswith(".alpha") else dtype
        )
        for key, values in exports.tensors(layers, form)
    }


def restore(tensors: Mapping[str, Tensor], exports: DitExports) -> dict[str, Tensor]:
    """Return the tensors of a file by modules' names, as `lora.kohya_tensors` has them.

    Fused layers are split. Layers that the family does not have keep their names.
    """
    restored: dict[str, Tensor] = {}
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, end = _divided(key)
        path = dit_exports.path_of(exports.names, name) if end else ""
        if path:
            layers.setdefault(path, {})[end] = tensor
        else:
            restored[key] = tensor
    for path, layer in layers.items():
        if _DOWN in layer and _UP in layer:
            restored |= _split(path, layer, exports)
        else:  # the comparison with the network reports what is missing
            restored |= {f"{module_name(path)}.{end}": tensor for end, tensor in layer.items()}
    return restored


def restored_shapes(shapes: Shapes, exports: DitExports) -> Shapes:
    """Return the shapes of what `restore` returns, from those of a file's tensors."""
    restored: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        name, end = _divided(key)
        path = dit_exports.path_of(exports.names, name) if end else ""
        parts = exports.names.from_original(path) or (path,)
        if not path:
            restored[key] = shape
        elif len(parts) == 1 or end == _ALPHA:
            restored |= {f"{module_name(part)}.{end}": shape for part in parts}
        elif end == _DOWN:
            rank = shape[0] // len(parts)
            restored |= {f"{module_name(part)}.{end}": (rank, *shape[1:]) for part in parts}
        else:
            width = _width(shapes, name)
            for part, height in zip(parts, heights(len(parts), shape[0], width), strict=True):
                restored[f"{module_name(part)}.{end}"] = (height, shape[1] // len(parts))
    return restored


def _width(shapes: Shapes, name: str) -> int:
    """Return the in features of a layer of a file."""
    ends = (end for end, kohya in _ENDS.items() if kohya == _DOWN)
    return next((shapes[key][1] for end in ends if (key := f"{name}.{end}") in shapes), 0)


def _divided(key: str) -> tuple[str, str]:
    """Return the layer's name in a key, and kohya's name of the tensor; "" for an unknown one."""
    for end, kohya in _ENDS.items():
        if key.endswith(f".{end}"):
            return key.removesuffix(f".{end}"), kohya
    return key, ""


def _split(path: str, layer: Mapping[str, Tensor], exports: DitExports) -> dict[str, Tensor]:
    import torch

    down, up = (layer[end].float().numpy() for end in (_DOWN, _UP))
    alpha = float(layer.get(_ALPHA, len(down)))
    rows = dit_exports.split_rows(exports.names, path, LowRank(up, down, alpha / len(down)))
    tensors: dict[str, Tensor] = {}
    for part, row in rows.items():
        name = module_name(part)
        tensors[f"{name}.{_DOWN}"] = torch.from_numpy(row.down.copy())
        tensors[f"{name}.{_UP}"] = torch.from_numpy(row.up.copy())
        tensors[f"{name}.{_ALPHA}"] = torch.tensor(row.scale * row.rank)
    return tensors


def reload(loader: str, path: Path, transformer: nn.Module, adapter: str) -> None:
    """Load a LoRA file into a transformer without one, with a class of diffusers' LoRA loaders."""
    from diffusers.loaders import lora_pipeline

    mixin = getattr(lora_pipeline, loader)
    tensors, facts = mixin.lora_state_dict(
        str(path.parent),
        weight_name=path.name,
        local_files_only=True,
        use_safetensors=True,
        return_lora_metadata=True,
    )
    # Flux.1's loader requires alphas, which no file of ours has.
    alphas: dict[str, Any] = {"network_alphas": None} if loader == "FluxLoraLoaderMixin" else {}
    mixin.load_lora_into_transformer(
        tensors, transformer=transformer, adapter_name=adapter, metadata=facts, **alphas
    )
