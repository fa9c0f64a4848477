"""int8 layers: nearly the same weights, correct gradients, a quarter of the memory."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer.families import int8_base
from trainer.plan import memory
from trainer.plan.model_shapes import assumed
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

SD1 = assumed()


@pytest.fixture(params=["linear", "conv"])
def layer(request):
    torch.manual_seed(0)
    made = (
        nn.Linear(24, 16)
        if request.param == "linear"
        else nn.Conv2d(24, 16, 3, stride=2, padding=1)
    )
    x = torch.randn(2, 5, 24) if request.param == "linear" else torch.randn(2, 24, 9, 7)
    return made.requires_grad_(False), x


def shrunk(layer: nn.Module) -> Any:
    """Return the layer in bytes."""
    holder = nn.Sequential(layer)
    assert int8_base.quantize(holder) > 0
    return holder[0]


def test_int8_layer_equals_a_layer_with_the_dequantized_weights(layer):
    plain, x = layer
    exact = plain.weight.clone()
    kept: Any = shrunk(plain)
    error = (kept.weight - exact).flatten(1)
    assert bool((error.abs().amax(1) <= exact.flatten(1).abs().amax(1) / 254 * 1.001).all())
    assert kept.bytes.dtype == torch.int8 and [name for name, _ in kept.named_parameters()] == [
        "bias"
    ]
    given = x.requires_grad_(True)
    made = kept(given)
    if isinstance(kept, nn.Linear):
        wanted = functional.linear(given, kept.weight, kept.bias)
    else:
        wanted = functional.conv2d(given, kept.weight, kept.bias, 2, 1)
    assert torch.allclose(made, wanted, atol=1e-6)
    upstream = torch.randn_like(made)
    [mine] = torch.autograd.grad(made, given, upstream)
    [theirs] = torch.autograd.grad(wanted, given, upstream)
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_int8_layer_follows_autocast(layer):
    plain, x = layer
    holder = shrunk(plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert holder(x).dtype == torch.bfloat16
    assert holder(x).dtype == torch.float32


def test_int8_loses_less_than_float8():
    torch.manual_seed(0)
    weight = torch.randn(64, 320) * 0.03
    plain = nn.Linear(320, 64, bias=False).requires_grad_(False)
    plain.weight.copy_(weight)
    kept = shrunk(plain)
    floats = weight.to(torch.float8_e4m3fn).float()
    assert float((kept.weight - weight).norm()) < 0.5 * float((floats - weight).norm())


def test_streamed_layer_is_equal_and_its_weights_stay_in_main_memory(layer):
    """The meta device stands for a GPU: whatever moves there has no values any more."""
    plain, x = layer
    kept = shrunk(plain)
    given = x.requires_grad_(True)
    wanted = kept(given)
    upstream = torch.randn_like(wanted)
    [gradient] = torch.autograd.grad(wanted, given, upstream)
    assert int8_base.stream([nn.Sequential(kept)]) == kept.bytes.nbytes == plain.bytes.numel()
    made = kept(given)
    assert torch.equal(made, wanted)
    assert torch.equal(torch.autograd.grad(made, given, upstream)[0], gradient)
    kept.to("meta")
    assert kept.bytes.device.type == "cpu" and kept.bytes.dtype == torch.int8
    assert kept.scale.is_meta and kept.bias.is_meta and kept.weight.is_meta


def test_streamed_layers_fetch_their_weights_in_each_pass(monkeypatch):
    """Forward, recomputation, and backward: three fetches of each layer in a checkpointed block."""
    fetches = []
    whole = int8_base._dequantize

    def recorded(quantized, *rest):
        fetches.append(quantized.nbytes)
        return whole(quantized, *rest)

    monkeypatch.setattr(int8_base, "_dequantize", recorded)
    model = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8)).requires_grad_(False)
    int8_base.quantize(model)
    assert int8_base.stream([model]) == 128
    x = torch.randn(2, 8, requires_grad=True)
    torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).sum().backward()
    assert fetches == [64] * 6


def test_layers_that_are_not_quantized_are_not_streamed():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    int8_base.quantize(model)
    assert int8_base.stream([model]) == 0
    model.to("meta")
    assert model[0].weight.is_meta


def test_trained_and_other_layers_are_not_quantized():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.LayerNorm(4).requires_grad_(False), nn.Embedding(3, 4)
    )
    assert int8_base.quantize(model) == 0 and type(model[0]) is nn.Linear


def test_new_layer_of_the_class_is_not_quantized():
    made: Any = int8_base.Int8Conv2d(3, 4, 1, bias=False)
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(made(x), functional.conv2d(x, made.weight)) and made.weight.requires_grad


def test_row_of_zeros_stays_zero():
    plain = nn.Linear(4, 2, bias=False).requires_grad_(False)
    plain.weight.zero_()
    assert torch.equal(shrunk(plain).weight, torch.zeros(2, 4))


def trained(data, model, out, **more):
    options = tiny.options(model, out, max_train_steps=1, save_state=False, **more)
    return train(options, make_plan(find_subsets(data, options)[0], options))


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({}, 2 * (SD1.denoiser + SD1.encoders)),
        ({"fp8_base": True}, SD1.denoiser + SD1.encoders),
        ({"base_precision": "int8"}, SD1.denoiser + SD1.encoders),
        ({"fp8_base_unet": True}, SD1.denoiser + 2 * SD1.encoders),
    ],
)
def test_plan_counts_quantized_weights(given, weights):
    shares = {
        share.name: share.bytes
        for share in memory.estimate(
            TrainOptions(mixed_precision="bf16", **given), (512, 512), None
        ).shares
    }
    assert shares["weights"] == weights


@pytest.mark.parametrize("given", [{"fp8_base": True}, {"base_precision": "int8"}])
def test_dora_excludes_8_bits(given):
    with pytest.raises(ConfigError, match=rf"{next(iter(given))}.* keeps them in 8 bits"):
        TrainOptions(network_args=("dora_wd=True",), **given)


def test_blocks_to_swap_needs_8_bits():
    with pytest.raises(ConfigError, match="the base is not kept in 8 bits") as caught:
        TrainOptions(blocks_to_swap=2)
    assert 'base_precision = "int8"' in caught.value.hint
    TrainOptions(blocks_to_swap=2, base_precision="int8")


def test_the_plan_counts_streamed_blocks_but_for_the_layer_that_is_copied():
    def streamed(count):
        options = TrainOptions(base_precision="int8", blocks_to_swap=count)
        shares = memory.estimate(options, (512, 512), None).shares
        return sum(-share.bytes for share in shares if share.name == "streamed")

    sizes = [
        (layer.block, layer.out * layer.ins * layer.kernel)
        for layer in SD1.layers["unet"]
        if layer.block is not None
    ]
    last, largest = max(block for block, _ in sizes), max(size for _, size in sizes)
    of_last = sum(size for block, size in sizes if block == last)
    assert streamed(0) == 0 and streamed(1) == max(0, of_last - largest)
    assert streamed(999) == sum(size for _, size in sizes) - largest


def test_fits_names_the_mildest_options_and_they_are_true():
    options = TrainOptions(
        mixed_precision="bf16", resolution=1024, train_batch_size=4, network_dim=128
    )
    fits = memory.fits(options, (1024, 1024), None)
    assert fits and [fit.card for fit in fits] == sorted((fit.card for fit in fits), reverse=True)
    for fit in fits:
        given: Any = dict(fit.options)
        changed = replace(options, **given)
        needed = memory.estimate(changed, (1024, 1024), None).bytes
        assert needed <= 0.9 * fit.card * 2**30
        if count := given.get("blocks_to_swap"):
            fewer = replace(changed, blocks_to_swap=count - 1)
            assert memory.estimate(fewer, (1024, 1024), None).bytes > 0.9 * fit.card * 2**30
    assert memory.fits(TrainOptions(), (64, 64), None) == ()


def test_fits_does_not_offer_8_bits_to_dora():
    options = TrainOptions(
        mixed_precision="bf16", resolution=1024, train_batch_size=8, network_args=("dora_wd=True",)
    )
    fits = memory.fits(options, (1024, 1024), None)
    assert all(fit.options == {"gradient_checkpointing": True} for fit in fits)


def test_last_blocks_are_those_of_the_family(model):
    from trainer.families import registry
    from trainer.setup import load_parts

    parts = load_parts(tiny.options(model, model / "out"))
    family = registry.family(parts.family)
    int8_base.quantize(parts.denoiser)
    names = {id(module): name for name, module in parts.denoiser.named_modules()}
    blocks = {
        count: {
            family.block(f"{names[id(layer)]}.weight")
            for layer in int8_base.last_blocks(parts.denoiser, family.block, count)
        }
        for count in (1, 2, 1000)
    }
    every = sorted(block for block in blocks[1000] if block is not None)
    assert blocks[1] == set(every[-1:]) and blocks[2] == set(every[-2:]) and len(every) > 2


@pytest.mark.long
def test_run_on_a_quantized_base_trains_nearly_the_same(data, model, tmp_path):
    more = {"mixed_precision": "bf16", "gradient_checkpointing": True}
    plain = trained(data, model, tmp_path / "plain", **more)
    small = trained(data, model, tmp_path / "small", fp8_base=True, **more)
    assert abs(small.loss - plain.loss) < 0.02 * plain.loss and small.loss != plain.loss
    assert small.modules == plain.modules  # which passed the LoRA check
    streamed = trained(
        data, model, tmp_path / "streamed", base_precision="int8", blocks_to_swap=1000, **more
    )
    assert load_file(streamed.files[-1]).keys() == load_file(small.files[-1]).keys()
    for name, tensor in load_file(small.files[-1]).items():
        assert torch.equal(load_file(streamed.files[-1])[name], tensor)
