"""Eight bits: frozen layers whose weights lie in a byte a number, and are read back for each pass.

A row of weights (what makes one output) is 8-bit integers and one scale, its largest weight / 127.
That loses less than 8-bit floats, whose three bits of mantissa are spent on magnitudes that a row
does not have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

_MOST = 127.0


def shrink(model: nn.Module) -> int:
    """Keep the weights of a model's frozen linear and convolutional layers in bytes; return how
    many weights those are.

    What is trained, and layers of other kinds, stay as they are.
    """
    count = 0
    for module in model.modules():
        made = _KINDS.get(type(module))
        given: Any = module
        if made is None or given.weight.requires_grad:
            continue
        weight: Tensor = given.weight.detach().float()
        count += weight.numel()
        scale = (
            weight.flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _MOST
        )
        rows = scale.view(-1, *[1] * (weight.ndim - 1))
        del given.weight
        module.register_buffer("bytes", (weight / rows).round().to(torch.int8))
        module.register_buffer("scale", rows)
        given.__class__ = made
    return count


def _read(kept: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return kept.to(dtype) * scale.to(dtype)


class _Kept:
    """What both kinds of layers share: the weight as a tensor, and in what the layer computes.

    peft makes a LoRA's own layers of the type of the layer that they adapt: such a one keeps its
    weight as it is.
    """

    bytes: Tensor
    scale: Tensor
    bias: nn.Parameter | None
    _parameters: dict[str, nn.Parameter | None]
    _buffers: dict[str, Tensor | None]

    @property
    def is_kept(self) -> bool:
        return "bytes" in self._buffers

    @property
    def weight(self) -> Tensor:
        """Return the weights; a copy, in the precision of the bias, else float32."""
        if self.is_kept:
            return _read(
                self.bytes, self.scale, torch.float32 if self.bias is None else self.bias.dtype
            )
        own = self._parameters.get("weight")
        if own is None:
            raise AttributeError("weight")
        return own

    def _cast(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return x.to(dtype), None if self.bias is None else self.bias.to(dtype)


class ByteLinear(_Kept, nn.Linear):  # type: ignore[misc, override]
    """A linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_kept:
            return super().forward(x)
        cast, bias = self._cast(x)
        made: Tensor = _Linear.apply(cast, self.bytes, self.scale, bias)  # type: ignore[no-untyped-call]
        return made


class ByteConv2d(_Kept, nn.Conv2d):  # type: ignore[misc, override]
    """A convolution."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_kept:
            return super().forward(x)
        cast, bias = self._cast(x)
        how = (self.stride, self.padding, self.dilation, self.groups)
        made: Tensor = _Conv.apply(cast, self.bytes, self.scale, bias, how)  # type: ignore[no-untyped-call]
        return made


# The weights themselves are kept for the backward pass, and not the copies that a pass reads: those
# would be all that is saved, and more.
class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(kept, scale)
        return functional.linear(x, _read(kept, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        kept, scale = ctx.saved_tensors
        return gradients[0] @ _read(kept, scale, gradients[0].dtype), None, None, None


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kept: Tensor, scale: Tensor, bias: Tensor | None, how: Any
    ) -> Tensor:
        ctx.save_for_backward(kept, scale)
        ctx.shape, ctx.how = x.shape, how
        return functional.conv2d(x, _read(kept, scale, x.dtype), bias, *how)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        kept, scale = ctx.saved_tensors
        weight = _read(kept, scale, gradients[0].dtype)
        back = conv2d_input(ctx.shape, weight, gradients[0], *ctx.how)  # type: ignore[no-untyped-call]
        return back, None, None, None, None


_KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: ByteLinear, nn.Conv2d: ByteConv2d}
