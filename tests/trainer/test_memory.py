"""A run's memory is estimated from the headers of the model's files, close to the measured peak."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from datasetkit.options.networks import NetworkArgs
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer import random_base
from trainer.families import registry, sd
from trainer.networks import layers
from trainer.networks.ranks import RankSettings
from trainer.plan import memory, model_shapes


def shapes(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_assumed_shapes_are_those_of_stable_diffusion_1():
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(str(sd.CONFIGS / "unet"))
        )
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(str(sd.CONFIGS / "vae")))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(sd.CONFIGS, subfolder="text_encoder"))
    parts = {"unet": shapes(unet), "text_encoder": shapes(text), "vae": shapes(vae)}
    counted, assumed = model_shapes.count(registry.family("sd1"), parts), model_shapes.assumed()
    assert counted == assumed
    attention = [layer for layer in assumed.layers["unet"] if not layer.convolutional]
    ranks = RankSettings(NetworkArgs(), 32, 16, sd.BLOCKS)
    published = 13.57  # millions at rank 32
    assert round(layers.parameter_count(attention, ranks) / 1e6, 2) == published


def test_both_layouts_of_a_model_have_the_same_shapes(full_model, tmp_path):
    folder = model_shapes.read(str(full_model))
    assert folder is not None and folder == model_shapes.read(str(tiny.save_checkpoint(tmp_path)))
    unet, text, vae = random_base.parts()
    assert folder.denoiser == sum(p.numel() for p in unet.parameters())
    assert folder.encoders == sum(p.numel() for p in text.parameters())
    assert folder.vae == sum(p.numel() for p in vae.parameters())


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_file_that_is_not_a_model_has_no_shapes(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert model_shapes.read(str(path)) is None
    assert model_shapes.read(str(tmp_path)) is None
    assert model_shapes.read("owner/model-of-the-hub") is None


def total(**others) -> float:
    given = {"mixed_precision": "bf16", **others}
    return memory.estimate(TrainOptions(**given), (512, 512), None).bytes


def test_what_saves_memory_is_estimated_to_save_it():
    usual = total()
    for less in (
        {"gradient_checkpointing": True},
        {"optimizer_type": "AdamW8bit"},
        {"network_train_unet_only": True},
        {"network_dim": 4},
    ):
        assert total(**less) < usual, less
    for more in (
        {"train_batch_size": 4},
        {"mixed_precision": "no"},
        {"cache_latents": False},
        {"random_crop": True},
    ):
        assert total(**more) > usual, more
    large = memory.estimate(TrainOptions(mixed_precision="bf16"), (1024, 1024), None)
    assert large.bytes > usual


def test_shares_follow_the_formula_and_add_up():
    options = TrainOptions(mixed_precision="no", train_batch_size=2, optimizer_type="Lion")
    estimate = memory.estimate(options, (512, 512), None)
    shares = {share.name: share.bytes for share in estimate.shares}
    assert shares["weights"] == 4 * (859_520_964 + 123_060_480)
    assert shares["LoRA"] == 32 * (423_936 + 165_888) * (4 + 4 + 4)
    assert shares["activations"] == 2 * 64 * 64 * 57304 * 4 * 2
    assert estimate.bytes == sum(shares.values()) and estimate.assumed
    frozen = memory.estimate(TrainOptions(text_encoder_lr=0.0), (512, 512), None)
    shares = {share.name: share.bytes for share in frozen.shares}
    assert "text activations" not in shares and shares["cached text"] == memory.KEPT_TEXT


def test_latent_pixels_follow_the_vaes_factor():
    base = model_shapes.read("tiny")
    assert base is not None and base.vae_factor == 4
    options = TrainOptions(mixed_precision="no", train_batch_size=3)
    shares = {share.name: share.bytes for share in memory.estimate(options, (64, 64), base).shares}
    assert shares["activations"] == 3 * 16 * 16 * base.anatomy.width * 4 * 2


_RUN = """
import json, sys
from pathlib import Path
import torch
from datasetkit.options.train import TrainOptions
from trainer.plan import memory, model_shapes
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train
options = TrainOptions(**json.loads(sys.argv[1]))
plan = make_plan(find_subsets(Path(sys.argv[2]), options)[0], options)
shapes = model_shapes.read(options.pretrained_model_name_or_path)
estimate = memory.estimate(options, (256, 256), shapes)
train(options, plan)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([int(peak) * 1024, estimate.bytes, {s.name: s.bytes for s in estimate.shares}]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.slow
def test_estimate_is_near_the_measured_peak(tmp_path):
    """A model of a size between the random base and the real one, so that the activations weigh
    in the sum.
    """
    base = tiny.save_small(tmp_path / "model")
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(32, 64, 64, 64), cross_attention_dim=random_base.WIDTH,
        attention_head_dim=8, norm_num_groups=32,
    )  # fmt: skip
    unet.save_pretrained(base / "unet")
    tiny.save_images(tmp_path / "data" / "1_sks", [(256, 256)] * 4)
    options = {
        "pretrained_model_name_or_path": str(base), "output_dir": str(tmp_path / "out"),
        "resolution": 256, "train_batch_size": 4, "max_train_epochs": 1, "mixed_precision": "no",
        "save_every_n_epochs": 0, "save_precision": "float", "learning_rate": 0.01,
        "text_encoder_lr": 0.01, "save_state": False,
    }  # fmt: skip
    # Freed memory goes back at once, as it does on a GPU: the peak is what is used and not what the
    # allocator keeps.
    environment = {
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
    }
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, json.dumps(options), str(tmp_path / "data")],
        capture_output=True, text=True, env=environment, cwd=tiny.__file__.partition("/tests/")[0],
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    peak, estimated, shares = json.loads(ended.stdout.splitlines()[-1])
    assert shares["activations"] > 0.2 * estimated
    assert abs(estimated / peak - 1) <= memory.MARGIN, (peak, estimated, shares)


@pytest.mark.parametrize(
    ("given", "gigabytes"),
    [
        ({"mixed_precision": "bf16"}, 2.9),
        ({"mixed_precision": "no"}, 4.9),
        ({"mixed_precision": "bf16", "fp8_base": True}, 4.9),
        ({"mixed_precision": "bf16", "network_args": ("dora_wd=True",)}, 4.9),
    ],
)
def test_loading_memory_follows_the_load_precision(given, gigabytes):
    found = memory.estimate(TrainOptions(**given), (512, 512), None)
    assert round(found.loading / 1e9, 1) == gigabytes
