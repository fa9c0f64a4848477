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
from trainer.families.base import Parts
from trainer.lora_files import algebra
from trainer.lora_files.layer_names import LayerName, LayerPart, text_path, unet_path
from trainer.lora_files.lora_file import DORA, PEFT_DORA, LoraFile, LoraLayer

_BIAS: Final = "diff_b"
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
                weight = unet if layer.name.part == "unet" else text
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
        missing = [layer.key for layer in lora.layers if layer.name not in self._modules]
        if missing:
            names = ", ".join(map(display, missing[:_NAMED]))
            more = ", ..." if len(missing) > _NAMED else ""
            raise InputError(
                f"the base model does not have {counted(len(missing), 'layer')} of "
                f"{display(lora.path)}: {names}{more}",
                hint="give the model that the LoRA was trained on with --base",
            )

    def _add(self, layer: LoraLayer, factor: float, lora: LoraFile) -> None:
        module = self._modules[layer.name]
        base = module.weight
        change = _delta(layer, base.device)
        if change.numel() != base.numel() or len(change) != len(base):
            sizes = " x ".join(map(str, base.shape))
            raise InputError(
                f"{display(layer.key)} of {display(lora.path)} changes "
                f"{len(change)} x {change.shape[1]} weights, and the base model's layer is {sizes}",
                hint="give the model that the LoRA was trained on with --base",
            )
        self._keep(layer.name, "weight")
        wide = base.float()
        change = change.reshape(base.shape)
        if layer.is_dora:
            change = _decomposed(layer, wide, change) - wide
        base.copy_(wide + factor * change)
        if _BIAS in layer.tensors and getattr(module, "bias", None) is not None:
            self._keep(layer.name, "bias")
            bias = torch.from_numpy(layer.array(_BIAS).reshape(-1)).to(module.bias)
            module.bias.add_(bias, alpha=factor)

    def _keep(self, name: LayerName, key: str) -> None:
        kept = self._kept.setdefault(name, {})
        if key not in kept:
            kept[key] = getattr(self._modules[name], key).detach().to("cpu", copy=True)
        self._changed.add(name)


def _modules(parts: Parts) -> dict[LayerName, Any]:
    """Return the modules of a model by the names that LoRA files give its layers."""
    modules: dict[LayerName, Any] = {}
    for part in parts.names:
        parse = unet_path if part == parts.denoiser_name else text_path
        for path, module in parts.part(part).named_modules():
            name = parse(path.replace(".", "_"))
            if name is not None and isinstance(getattr(module, "weight", None), Tensor):
                modules[LayerName(cast(LayerPart, part), name)] = module
    return modules


def _delta(layer: LoraLayer, device: torch.device) -> Tensor:
    """Return the change of a layer, float32 of (out, in * kernel), on a device."""
    if layer.method != "lora":
        whole = torch.from_numpy(algebra.delta(layer))
        algebra.require_finite(layer, whole.numpy())
        return whole.float().to(device)
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
