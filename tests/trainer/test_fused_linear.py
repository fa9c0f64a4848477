"""The fused LoRA layer equals peft's layer, forward and backward, in each precision."""

from typing import Any

import pytest
import torch
from peft import inject_adapter_in_model
from peft.tuners.lora import Linear
from torch import nn

from datasetkit.options.networks import NetworkArgs
from trainer.networks import lora
from trainer.networks.base import ADAPTER, TargetLayer
from trainer.networks.dropout import Dropout
from trainer.networks.fused_linear import FusedLinear
from trainer.networks.ranks import ModuleRank

IN, OUT, ROWS = 160, 320, 240
ALPHA = 3.0  # of rank 4: the scale is no power of two


def layers(dtype: torch.dtype = torch.float32, number: int = 2) -> list[Any]:
    """Make adapted layers of the same weights, each in a model of its own. dtype: of the frozen
    ones.
    """
    made = []
    for _ in range(number):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(IN, OUT))
        target = TargetLayer("layer", "0", (OUT, IN), ModuleRank(4, ALPHA))
        inject_adapter_in_model(lora.config([target], NetworkArgs()), model, adapter_name=ADAPTER)
        layer: Any = model[0]
        for parameter in layer.base_layer.parameters():
            parameter.data = parameter.data.to(dtype)
        layer.lora_B[ADAPTER].weight.data.normal_(
            std=0.1, generator=torch.Generator().manual_seed(1)
        )
        for parameter in (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        made.append(layer)
    assert all(type(layer) is FusedLinear for layer in made)
    return made


def seen(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, IN, generator=torch.Generator().manual_seed(2))


def passed(layer, x, apply, *, bf16=False):
    """Pass a copy of x through a layer by `how`; return what comes out, and the gradients of x and
    of the factors.
    """
    x = x.detach().clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = apply(layer, x)
    out.float().pow(2).sum().backward()
    return [out, x.grad, layer.lora_A[ADAPTER].weight.grad, layer.lora_B[ADAPTER].weight.grad]


def off(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return how far a tensor is from the true one, as a share of that."""
    return float(((found.double() - truth.double()).norm() / truth.double().norm()).detach())


SHAPES = [(ROWS,), (2, ROWS), (2, 3, ROWS)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_layer_equals_pefts_in_float32(shape):
    ours, theirs = layers()
    x = seen(*shape)
    for a, b in zip(
        passed(ours, x, FusedLinear.forward), passed(theirs, x, Linear.forward), strict=True
    ):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert off(a, b) < 1e-6
    assert not torch.allclose(ours(x), ours.base_layer(x))


@pytest.mark.parametrize("bf16", [True, False], ids=["autocast", "as it is"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_layer_is_as_accurate_as_pefts_in_bf16(shape, bf16):
    x = seen(*shape).bfloat16()
    ours, theirs, exact = layers(torch.bfloat16, 3)
    truth = passed(exact.double(), x.double(), Linear.forward)
    fused = passed(ours, x, FusedLinear.forward, bf16=bf16)
    plain = passed(theirs, x, Linear.forward, bf16=bf16)
    for a, b, c in zip(fused, plain, truth, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert off(a, c) < 0.005
        assert (
            off(a, c) < 1.3 * off(b, c) or not bf16
        )  # without autocast peft computes the LoRA in float32


def test_disabled_or_several_adapters_are_left_to_peft():
    ours, _ = layers()
    x = seen(2, 7)
    ours._disable_adapters = True
    assert torch.equal(ours(x), ours.base_layer(x))
    ours._disable_adapters = False
    before = ours(x)
    ours.merge()
    torch.testing.assert_close(ours(x), before, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours(x), ours.base_layer(x))


def test_dropped_inner_activations_add_nothing():
    ours, _ = layers()
    x = seen(2, 7)
    ours.lora_A[ADAPTER].register_forward_hook(Dropout(module=1.0))
    assert torch.equal(ours.train()(x), ours.base_layer(x))
    assert not torch.equal(ours.eval()(x), ours.base_layer(x))


def test_input_is_not_modified():
    ours, _ = layers()
    x = seen(2, 7).transpose(1, 2).contiguous().transpose(1, 2)
    before = x.clone()
    ours(x)
    assert torch.equal(x, before)
