"""int8 quantization of the frozen base: one byte per weight, dequantized for each pass.

A row of weights (one output channel) is stored as 8-bit integers and a scale, its largest weight /
127. This loses less than 8-bit floats, which spend their bits on magnitudes that a row does not
have.

Streamed layers keep their weights in main memory and copy them to the device for each pass. A pass
holds one layer's copy at a time, and nothing depends on the order of passes, so gradient
checkpointing and LoRA layers work as with the weights on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

_INT8_MAX = 127.0


def quantize(model: nn.Module) -> int:
    """Quantize the frozen linear and convolutional layers of a model; return the number of weights.

    Trained layers and other kinds of layers are not changed.
    """
    count = 0
    for module in model.modules():
        int8_class = _KINDS.get(type(module))
        layer: Any = module
        if int8_class is None or layer.weight.requires_grad:
            continue
        weight: Tensor = layer.weight.detach().float()
        count += weight.numel()
        scale = (
            weight.flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
            / _INT8_MAX
        )
        rows = scale.view(-1, *[1] * (weight.ndim - 1))
        del layer.weight
        module.register_buffer("bytes", (weight / rows).round().to(torch.int8))
        module.register_buffer("scale", rows)
        layer.__class__ = int8_class
    return count


def is_quantizable(layer: nn.Module) -> bool:
    """Tell whether a layer is of a kind that `quantize` changes."""
    return type(layer) in _KINDS


def stream(modules: Iterable[nn.Module]) -> int:
    """Keep the weights of all quantized layers within the modules in main memory, pinned if there
    is a CUDA device; return their bytes.

    Call it before the model is moved to its device.
    """
    total = 0
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, _Int8Layer) and layer.is_quantized:
                weights = layer.bytes.cpu()
                layer.bytes = weights.pin_memory() if torch.cuda.is_available() else weights
                layer.is_streamed = True
                total += weights.nbytes
    return total


def last_blocks(
    model: nn.Module, block_of: Callable[[str], int | None], count: int
) -> list[nn.Module]:
    """Return the layers of the last blocks of a denoiser, so many. block_of: of a family, the index
    of the block that a tensor is in.
    """
    layers: dict[int, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if (
            isinstance(module, Int8Linear | Int8Conv2d)
            and (block := block_of(f"{name}.weight")) is not None
        ):
            layers.setdefault(block, []).append(module)
    return [layer for block in sorted(layers)[-count:] for layer in layers[block]]


def _dequantize(quantized: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    # Streamed weights come from main memory. The device runs the copy before the arithmetic that
    # needs it, and the CPU does not wait.
    return quantized.to(scale.device, non_blocking=True).to(dtype) * scale.to(dtype)


class _Int8Layer:
    """Shared by both kinds of layers: the weight as a tensor, and the dtype of the computation.

    peft creates the LoRA's layers with the class of the layer that they adapt; those have an
    ordinary weight and are not quantized.
    """

    bytes: Tensor
    scale: Tensor
    bias: nn.Parameter | None
    is_streamed = False
    _parameters: dict[str, nn.Parameter | None]
    _buffers: dict[str, Tensor | None]

    @property
    def is_quantized(self) -> bool:
        return "bytes" in self._buffers

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the layer to a device or change its precision; streamed weights are not changed."""
        weights = self._buffers.pop("bytes") if self.is_streamed else None
        try:
            super()._apply(change, recurse)  # type: ignore[misc]
        finally:
            if weights is not None:
                self._buffers["bytes"] = weights
        return self

    @property
    def weight(self) -> Tensor:
        """Return a dequantized copy, in the precision of the bias, else float32."""
        if self.is_quantized:
            return _dequantize(
                self.bytes, self.scale, torch.float32 if self.bias is None else self.bias.dtype
            )
        weight = self._parameters.get("weight")
        if weight is None:
            raise AttributeError("weight")
        return weight

    def _cast(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return x.to(dtype), None if self.bias is None else self.bias.to(dtype)


class Int8Linear(_Int8Layer, nn.Linear):  # type: ignore[misc, override]
    """A linear layer with int8 weights."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_quantized:
            return super().forward(x)
        cast, bias = self._cast(x)
        output: Tensor = _Linear.apply(cast, self.bytes, self.scale, bias)  # type: ignore[no-untyped-call]
        return output


class Int8Conv2d(_Int8Layer, nn.Conv2d):  # type: ignore[misc, override]
    """A convolution with int8 weights."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_quantized:
            return super().forward(x)
        cast, bias = self._cast(x)
        settings = (self.stride, self.padding, self.dilation, self.groups)
        output: Tensor = _Conv.apply(cast, self.bytes, self.scale, bias, settings)  # type: ignore[no-untyped-call]
        return output


# The int8 weights are saved for the backward pass, not the dequantized copies: these would use up
# more memory than the quantization saves.
class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, quantized: Tensor, scale: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(quantized, scale)
        return functional.linear(x, _dequantize(quantized, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        quantized, scale = ctx.saved_tensors
        return gradients[0] @ _dequantize(quantized, scale, gradients[0].dtype), None, None, None


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, quantized: Tensor, scale: Tensor, bias: Tensor | None, settings: Any
    ) -> Tensor:
        ctx.save_for_backward(quantized, scale)
        ctx.shape, ctx.settings = x.shape, settings
        return functional.conv2d(x, _dequantize(quantized, scale, x.dtype), bias, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        quantized, scale = ctx.saved_tensors
        weight = _dequantize(quantized, scale, gradients[0].dtype)
        back = conv2d_input(ctx.shape, weight, gradients[0], *ctx.settings)  # type: ignore[no-untyped-call]
        return back, None, None, None, None


_KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Int8Linear, nn.Conv2d: Int8Conv2d}
