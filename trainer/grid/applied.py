"""Apply LoRA files to a loaded model by changing its weights in place, and restore them exactly.

The base is loaded once for a whole grid: a copy of each weight that was changed is kept in main
memory.
"""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from torch import Tensor

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.core.words import counted
from trainer.families import dit_names
from trainer.families.base import DENOISERS, Part, Parts
from trainer.lora_files import algebra, dit_layers
from trainer.lora_files.layer_names import LayerName, LayerPart, text_path, unet_path
from trainer.lora_files.lora_file import DORA, PEFT_DORA, LoraFile, LoraLayer

_NAMED: Final = 3  # layers that a message names


class AppliedLora:
    """A loaded model whose weights are those of the base, or of the base with a LoRA."""

    def __init__(self, parts: Parts) -> None:
        self._modules = _modules(parts)
        self._kept: dict[LayerName, dict[str, Tensor]] = {}
        self._changed: set[LayerName] = set()

    @torch.no_grad()
    def apply(self, lora: LoraFile | None, unet: float = 1.0, text: float = 1.0) -> None:
        """Let the model be the base with a LoRA at these weights; None for the base alone.

        Raises InputError where a layer does not fit the model, with the model restored.
        """
        self.restore()
        if lora is None:
            return
        self._require_layers(lora)
        try:
            for layer in lora.layers:
                weight = unet if layer.name.part in DENOISERS else text
                if weight:
                    self._add(layer, weight, lora)
        except BaseException:
            self.restore()
            raise

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the weights of the base, bit by bit."""
        for name in self._changed:
            for key, kept in self._kept[name].items():
                getattr(self._modules[name], key).copy_(kept)
        self._changed.clear()

    def _require_layers(self, lora: LoraFile) -> None:
        missing = [
            layer.key
            for layer in lora.layers
            if any(name not in self._modules for name in _names(lora, layer))
        ]
        if missing:
            names = ", ".join(map(display, missing[:_NAMED]))
            more = ", ..." if len(missing) > _NAMED else ""
            raise InputError(
                f"the base model does not have {counted(len(missing), 'layer')} of "
                f"{display(lora.path)}: {names}{more}",
                hint="give the model that the LoRA was trained on with --base",
            )

    def _add(self, layer: LoraLayer, factor: float, lora: LoraFile) -> None:
        device = self._modules[_names(lora, layer)[0]].weight.device
        for name, change in _changes(lora, layer, device):
            self._add_change(name, change, layer, factor, lora)

    def _add_change(
        self, name: LayerName, matrix: Tensor, layer: LoraLayer, factor: float, lora: LoraFile
    ) -> None:
        module = self._modules[name]
        base = module.weight
        if matrix.numel() != base.numel() or len(matrix) != len(base):
            sizes = " x ".join(map(str, base.shape))
            raise InputError(
                f"{display(layer.key)} of {display(lora.path)} changes "
                f"{len(matrix)} x {matrix.shape[1]} weights, and the base model's layer is {sizes}",
                hint="give the model that the LoRA was trained on with --base",
            )
        self._keep(name, "weight")
        wide = base.float()
        change = matrix.reshape(base.shape)
        if layer.is_dora:
            change = _decomposed(layer, wide, change) - wide
        base.copy_(wide + factor * change)
        bias = algebra.bias(layer)
        if bias is not None and getattr(module, "bias", None) is not None:
            self._keep(name, "bias")
            wide = module.bias.float()
            module.bias.copy_(wide + factor * torch.from_numpy(bias).to(wide))

    def _keep(self, name: LayerName, key: str) -> None:
        kept = self._kept.setdefault(name, {})
        if key not in kept:
            kept[key] = getattr(self._modules[name], key).detach().to("cpu", copy=True)
        self._changed.add(name)


def _modules(parts: Parts) -> dict[LayerName, Any]:
    """Return the modules of a model by the names that LoRA files give its layers."""
    modules: dict[LayerName, Any] = {}
    for part in parts.names:
        for path, module in parts.part(part).named_modules():
            name = _path(part, path)
            if name is not None and isinstance(getattr(module, "weight", None), Tensor):
                modules[LayerName(cast(LayerPart, part), name)] = module
    return modules


def _path(part: Part, path: str) -> str | None:
    """Return what LoRA files call the path of a module; None for one that they do not know."""
    if part == "transformer":
        return path
    parse = unet_path if part == "unet" else text_path
    return parse(path.replace(".", "_"))


def _names(lora: LoraFile, layer: LoraLayer) -> list[LayerName]:
    """Return the layers of the model that a layer of a file is: several, where it is fused."""
    if layer.name.part != "transformer":
        return [layer.name]
    names = dit_layers.EXPORTS[lora.transformer].names
    paths = names.from_original(layer.name.path) or (layer.name.path,)
    return [LayerName("transformer", path) for path in paths]


def _changes(
    lora: LoraFile, layer: LoraLayer, device: torch.device
) -> list[tuple[LayerName, Tensor]]:
    """Return the change of each layer of the model, float32 of (out, in * kernel), on a device."""
    names, whole = _names(lora, layer), _delta(layer, device)
    if len(names) == 1:
        return [(names[0], whole)]
    heights = dit_names.heights(len(names), len(whole), whole.shape[1])
    return list(zip(names, torch.split(whole, list(heights)), strict=True))


def _delta(layer: LoraLayer, device: torch.device) -> Tensor:
    if layer.method != "lora":
        whole = algebra.delta(layer)
        algebra.require_finite(layer, whole)
        return torch.from_numpy(whole).float().to(device)
    factors = algebra.low_rank(layer)
    algebra.require_finite(layer, factors.up, factors.down)
    up, down = (
        torch.from_numpy(factor).float().to(device)
        for factor in (factors.up * factors.scale, factors.down)
    )
    return up @ down


def _decomposed(layer: LoraLayer, base: Tensor, change: Tensor) -> Tensor:
    """Return a layer's weight with DoRA: the magnitude times the direction, with one norm for each
    input channel, or for each output channel, as the magnitude has them.
    """
    name = DORA if DORA in layer.tensors else PEFT_DORA
    magnitude = torch.from_numpy(layer.array(name)).float().to(base.device)
    direction = base + change
    axis = 1 if magnitude.ndim > 1 and magnitude.shape[0] == 1 else 0
    others = [n for n in range(base.ndim) if n != axis]
    norms = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
    tiny = torch.finfo(torch.float32).tiny
    result: Tensor = direction * (magnitude.reshape(norms.shape) / norms.clamp(min=tiny))
    return result
