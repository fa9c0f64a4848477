"""Which layers a network adapts, their block indices and parameter counts, from names and shapes
alone.
"""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.lokr.layer import factorization

from datasetkit.core.errors import ConfigError
from datasetkit.options.network_args import read
from datasetkit.options.networks import NetworkArgs
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer.families import registry, sd, sdxl
from trainer.families.base import Parts
from trainer.networks import blocks, layers
from trainer.networks.ranks import ModuleRank, RankSettings
from trainer.plan import memory, model_shapes


def of_config(folder):
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(str(folder / "unet"))
        )


def sd1() -> Parts:
    return Parts(of_config(sd.CONFIGS), None, {}, sd.CONFIGS, "sd1")


def adapted(parts: Parts) -> dict[str, str]:
    family = registry.family(parts.family)
    return family.targets(parts, "unet") | family.convolutions(parts)


def digest(found) -> str:
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:16]


def test_locon_of_stable_diffusion_1_has_the_published_names():
    parts = sd1()
    found = adapted(parts)
    assert (len(found), digest(found)) == (278, "620b9a8905915e25")
    kinds = Counter(
        "3x3"
        if getattr(m := parts.denoiser.get_submodule(path), "kernel_size", None) == (3, 3)
        else type(m).__name__
        for path in sd.convolutions(parts).values()
    )
    assert kinds == {"3x3": 50, "Linear": 22, "Conv2d": 14}


def test_locon_of_sdxl_has_the_published_names():
    parts = replace(sd1(), denoiser=of_config(sdxl.CONFIGS), family="sdxl")
    found = adapted(parts)
    assert (len(found), digest(found)) == (788, "6eaed2d7a4528e0a")
    assert {sdxl.block(name) for name in found} == set(range(2, 22))


def test_every_layer_of_stable_diffusion_1_has_a_block():
    found = Counter(sd.block(name) for name in adapted(sd1()))
    assert set(found) == set(range(1, 25))
    assert sd.block("lora_te_text_model_encoder_layers_0_mlp_fc1") is None


@pytest.mark.parametrize(
    ("name", "sides", "place"),
    [
        ("lora_unet_down_blocks_0_resnets_0_conv1", 12, 1),
        ("lora_unet_down_blocks_2_attentions_1_proj_in", 12, 8),
        ("lora_unet_down_blocks_2_downsamplers_0_conv", 12, 9),
        ("lora_unet_mid_block_resnets_1_conv2", 12, 12),
        ("lora_unet_up_blocks_0_resnets_0_conv1", 12, 13),
        ("lora_unet_up_blocks_3_attentions_2_proj_out", 12, 24),
        ("lora_unet_input_blocks_4_1_proj_in", 9, 5),
        ("lora_unet_middle_block_1_proj_in", 9, 11),
        ("lora_unet_output_blocks_8_0_in_layers_2", 9, 21),
        ("input_blocks.4.1.proj_in.weight", 12, 4),
        ("middle_block.2.in_layers.2.weight", 12, 12),
        ("output_blocks.11.1.proj_in.weight", 12, 24),
    ],
)
def test_index_in_the_block_lists_is_that_of_sd_scripts(name, sides, place):
    assert (sd if sides == 12 else sdxl).block(name) == place


def test_layouts_agree_on_the_block_index():
    parts = replace(sd1(), denoiser=of_config(sdxl.CONFIGS), family="sdxl")
    for name, path in sdxl.convolutions(parts).items():
        assert sdxl.block(name) == sdxl.block(f"{path}.weight")


def message(*args, module="networks.lora") -> NetworkArgs:
    return read(module, args, dim=8, alpha=4)


def test_named_shapes_of_block_weights_are_those_of_sd_scripts():
    args = message("down_lr_weight=sine", "up_lr_weight=reverse_linear+.5")
    found = blocks.weights(args, sd.BLOCKS)
    assert (
        found[0] == 0
        and found[11] == pytest.approx(1)
        and found[6] == pytest.approx(0.7557495743542583)
    )
    assert found[12:15] == pytest.approx((1, 1.5, 0.5 + 10 / 11))
    of_sdxl = blocks.weights(message("mid_lr_weight=.5,.6,.7"), sdxl.BLOCKS)
    assert of_sdxl == (*(1.0,) * 10, 0.5, 0.6, 0.7, *(1.0,) * 10)
    args = message("mid_lr_weight=.5", "block_lr_zero_threshold=.5")
    assert blocks.weights(args, sd.BLOCKS)[12] == 0


def test_block_lists_of_another_model_are_an_error():
    with pytest.raises(ConfigError, match="9 down blocks, but the model has 12"):
        blocks.check(message("mid_lr_weight=1,1,1"), sd.BLOCKS)
    with pytest.raises(ConfigError, match="9 down blocks"):
        memory.estimate(TrainOptions(network_args=("mid_lr_weight=1,1,1",)), (512, 512), None)


def test_ranks_follow_kind_and_block():
    dims = ",".join(str(n) for n in range(25))
    ranks = RankSettings(
        message(f"block_dims={dims}", "conv_dim=2", "conv_alpha=0"), 8, 4, sd.BLOCKS
    )
    assert ranks.of(None, kernel=False) == ModuleRank(8, 4)
    assert ranks.of(5, kernel=False) == ModuleRank(5, 4)
    assert ranks.of(5, kernel=True) == ModuleRank(2, 2)
    assert ranks.of(0, kernel=False) is None
    left_out = RankSettings(message("mid_lr_weight=0", "conv_dim=0"), 8, 4, sd.BLOCKS)
    assert left_out.of(12, kernel=False) is None and left_out.of(11, kernel=False) == ModuleRank(
        8, 4
    )
    assert left_out.of(11, kernel=True) is None


def test_rank_stabilised_alpha_is_written_so_that_every_reader_scales_by_its_root():
    rank = RankSettings(message("rs_lora=True"), 16, 4, sd.BLOCKS).of(None, kernel=False)
    assert rank is not None and rank.alpha / rank.dim == pytest.approx(4 / 16**0.5)


@given(st.integers(1, 5000), st.sampled_from([-1, 1, 2, 4, 8, 16, 7, 100]))
def test_layers_are_split_as_peft_splits_them(size, factor):
    assert layers.split(size, factor) == factorization(size, factor)


def test_assumed_model_has_the_layers_of_stable_diffusion_1():
    shapes = {name: tuple(tensor.shape) for name, tensor in sd1().denoiser.state_dict().items()}
    found = sd.anatomy({"unet": shapes}).layers["unet"]
    assert len([layer for layer in found if not layer.is_norm]) == 278
    norms = [layer for layer in found if layer.is_norm]
    assert (len(norms), sum(not layer.convolutional for layer in norms)) == (108, 64)
    assumed = model_shapes.assumed().layers
    assert Counter(found) == Counter(assumed["unet"])
    plain = RankSettings(NetworkArgs(), 32, 16, sd.BLOCKS)
    assert layers.parameter_count(found, plain) == 32 * 423_936
    assert layers.parameter_count(assumed["text_encoder"], plain) == 32 * 165_888


def test_both_layouts_of_a_model_have_the_same_layers(full_model, tmp_path):
    folder, file = (
        model_shapes.read(str(full_model)),
        model_shapes.read(str(tiny.save_checkpoint(tmp_path))),
    )
    assert folder is not None and file is not None
    for part, own in folder.layers.items():
        assert Counter(own) == Counter(file.layers[part])


def test_ema_and_full_weight_changes_are_in_the_estimate():
    def shares(**others) -> dict[str, float]:
        options = TrainOptions(mixed_precision="no", text_encoder_lr=0.0, **others)
        return {
            share.name: share.bytes for share in memory.estimate(options, (512, 512), None).shares
        }

    assert shares(ema_decay=0.99)["LoRA"] == shares()["LoRA"] * 20 / 16
    assert "weight changes" not in shares()
    whole = shares(network_module="networks.loha")
    assert whole["LoRA"] == 2 * shares()["LoRA"]
    held = shares(network_module="networks.loha", gradient_checkpointing=True)["weight changes"]
    assert 0 < held < whole["weight changes"] / 4
