"""Tiny models of Stable Diffusion 2 and XL learn, resume bit by bit, and diffusers loads their
LoRA.
"""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.trainer import tiny, tiny_families
from tests.trainer.test_learning import grid_loss
from tests.trainer.test_loop import ready
from tests.trainer.test_run import planned, stopped
from trainer import setup
from trainer.errors import LoraCheckFailed
from trainer.families import registry, sd, sd2, sdxl
from trainer.files import lora, roundtrip
from trainer.loop import steps
from trainer.monitor import preview
from trainer.monitor.prompts import Prompt
from trainer.plan import size_conditioning
from trainer.run import train

pytestmark = pytest.mark.long

KINDS = [("sd2", "v_prediction"), ("sdxl", "epsilon")]


@pytest.fixture(
    scope="module", params=KINDS, ids=[f"{family} {prediction}" for family, prediction in KINDS]
)
def base(request, tmp_path_factory):
    family, prediction = request.param
    return tiny_families.save_pipeline(
        tmp_path_factory.mktemp("model") / family, family, prediction
    )


@pytest.fixture(scope="module")
def loaded(base):
    return setup.load_parts(tiny.options(base, base))


def test_24_steps_lower_the_loss_on_a_fixed_grid(data, base, tmp_path):
    run = ready(
        data,
        tiny.options(
            base, tmp_path, max_train_steps=24, lr_scheduler="constant", learning_rate=0.05
        ),
    )
    image = run.plan.images[0]
    before = grid_loss(run, image)
    assert len(list(steps(run))) == 24
    assert grid_loss(run, image) < 0.98 * before


@pytest.fixture(scope="module")
def trained(data, base, tmp_path_factory):
    """A run of a few steps that saves both formats, and draws."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "prompts.txt").write_text(
        "sks, red hair --n bad --w 64 --h 64 --s 2\n", encoding="utf-8"
    )
    options = tiny.options(
        base, folder / "out", lora_format="both", max_train_steps=6, save_every_n_epochs=0,
        save_every_n_steps=3, network_alpha=2.0, flip_aug=True,
        sample_prompts=str(folder / "prompts.txt"), caption_dropout_rate=0.2, max_token_length=150,
        lr_scheduler="constant",
    )  # fmt: skip
    return options, train(options, planned(data, options))


@torch.no_grad()
def output(parts):
    family = registry.family(parts.family)
    text = family.encode_text(parts, ["sks, cat", ""], clip_skip=1, max_tokens=75)
    noisy = torch.randn((2, 4, 16, 16), generator=torch.Generator().manual_seed(9))
    told = torch.tensor([size_conditioning.of_image(128, 128)] * 2, dtype=torch.float32)
    return family.predict(parts, noisy, torch.tensor([400, 10]), text.sized(told))


@pytest.mark.parametrize("form", ["", ".diffusers"])
def test_diffusers_pipeline_loads_the_file_with_the_same_change(base, trained, form):
    _, result = trained
    path = result.files[-1].parent / f"sks{form}.safetensors"
    parts = setup.load_parts(tiny.options(base, base))
    plain = output(parts)
    network = lora.attach(
        registry.family(parts.family), parts, parts.names, dim=4, alpha=2.0, dropout=0.0, seed=1,
    )  # fmt: skip
    lora.load_kohya(network, load_file(result.files[-1].parent / "sks.safetensors"), source="sks")
    ours = output(parts)
    fresh = setup.load_parts(tiny.options(base, base))
    file: object = str(path)
    if (
        parts.family == "sd2" and not form
    ):  # diffusers refuses sd-scripts' files of Stable Diffusion 2 for their shapes
        file = {
            key: value.flatten(1) if ".lora_" in key else value
            for key, value in load_file(path).items()
        }
    tiny_families.pipeline_of(fresh).load_lora_weights(file)
    assert float((ours - plain).abs().max()) > 1e-3
    assert torch.allclose(output(fresh), ours, atol=1e-6)


def test_resumed_run_is_bit_identical(data, trained, tmp_path):
    options, result = trained
    again = replace(options, output_dir=str(tmp_path), sample_prompts="")
    stopped(data, again, 5)
    resumed = train(again, planned(data, again), resume=True)
    assert resumed.start == 3
    whole, other = load_file(result.files[-1]), load_file(resumed.files[-1])
    assert whole.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in whole.items())


def test_metadata_has_the_family(trained, loaded):
    _, result = trained
    path = result.files[-1].parent / "sks.safetensors"
    with safe_open(path, "pt") as file:
        message = file.metadata()
    published = {
        ("sd2", "v_prediction"): ("sd_v2_v", "stable-diffusion-v2-768-v/lora", "v", "True"),
        ("sdxl", "epsilon"): (
            "sdxl_base_v1-0",
            "stable-diffusion-xl-v1-base/lora",
            "epsilon",
            "False",
        ),
    }[loaded.family, loaded.prediction]
    keys = ("ss_base_model_version", "modelspec.architecture", "modelspec.prediction_type", "ss_v2")
    assert tuple(message[key] for key in keys) == published
    assert message["modelspec.resolution"] == "128x128"
    is_xl = loaded.family == "sdxl"
    assert message["modelspec.implementation"] == (
        "https://github.com/Stability-AI/generative-models" if is_xl else "diffusers"
    )
    assert message["ss_clip_skip"] == ("None" if is_xl else "1")
    assert ("modelspec.encoder_layer" in message) is not is_xl


def test_every_module_is_trained_and_counted(trained, loaded):
    _, result = trained
    targets = [registry.family(loaded.family).targets(loaded, part) for part in loaded.names]
    assert (
        result.modules == sum(map(len, targets)) == len({name for own in targets for name in own})
    )


def test_images_equal_those_of_diffusers_pipeline(data, loaded, base, tmp_path):
    options = tiny.options(base, tmp_path)
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    prompt = Prompt(
        text="sks", negative="bad", width=64, height=64, steps=4, seed=3, sampler="ddim"
    )
    ours = np.asarray(preview.generate(made, [prompt])[0]).astype(int)
    theirs = tiny_families.pipeline_of(loaded)(
        "sks", negative_prompt="bad", width=64, height=64, num_inference_steps=4,
        guidance_scale=7.5, generator=torch.Generator().manual_seed(3), output_type="np",
    ).images[0]  # fmt: skip
    assert np.abs(ours - theirs * 255).max() < 1


def test_one_file_in_the_original_layout_is_the_same_model_as_a_folder(loaded, tmp_path):
    path = tiny_families.save_checkpoint(tmp_path, loaded.family)
    family: Any = registry.family(loaded.family)
    single = family.load(
        str(path), revision="", vae="", prediction=loaded.prediction, configs=tmp_path / "configs"
    )
    assert single.names == loaded.names
    for name in (*loaded.names, "vae"):
        there, here = (
            (parts.vae if name == "vae" else parts.part(name)).state_dict()
            for parts in (loaded, single)
        )
        assert there.keys() == here.keys()
        assert all(torch.equal(there[key], here[key]) for key in there), name


def test_half_precision_checkpointing_and_buckets_of_32_train(base, tmp_path):
    folder = tmp_path / "data"
    tiny.save_images(folder / "train" / "1_sks", [(160, 96), (96, 160)])
    options = tiny.options(
        base, tmp_path / "out", mixed_precision="bf16", gradient_checkpointing=True,
        bucket_reso_steps=32, max_train_steps=1, train_batch_size=2,
    )  # fmt: skip
    plan = planned(folder, options)
    assert any(side % 64 for image in plan.images for side in image.bucket.bucket)
    result = train(options, plan)
    assert all(torch.isfinite(value).all() for value in load_file(result.files[-1]).values())
    assert json.loads(result.metrics.read_text().splitlines()[0])["loss"] > 0


NARROW: dict[str, Any] = {
    "norm_num_groups": 2,
    "attention_head_dim": 2,
    "cross_attention_dim": 8,
    "sample_size": 8,
}
SHIPPED = [
    (sd.CONFIGS, 0, {"block_out_channels": (4, 8, 8, 8)}),
    (sd2.CONFIGS_V, 0, {"block_out_channels": (4, 8, 8, 8)}),
    (
        sdxl.CONFIGS,
        2,
        {"block_out_channels": (4, 8, 8), "projection_class_embeddings_input_dim": 1536 + 4},
    ),
]


@pytest.mark.parametrize(("configs", "bare", "widths"), SHIPPED, ids=["sd1", "sd2", "sdxl"])
def test_shipped_structure_is_read_from_one_file(tmp_path, configs, bare, widths):
    described = UNet2DConditionModel.load_config(configs, subfolder="unet")
    made = UNet2DConditionModel.from_config({**described, **NARROW, **widths})
    made.save_config(tmp_path / "unet")
    tensors = {
        f"model.diffusion_model.{name}": value
        for name, value in tiny.original_unet(made, bare).items()
    }
    read = UNet2DConditionModel.from_single_file(
        tensors, config=str(tmp_path), subfolder="unet", local_files_only=True
    ).state_dict()
    assert read.keys() == made.state_dict().keys()
    assert all(torch.equal(value, read[name]) for name, value in made.state_dict().items())


def test_wrong_file_fails_the_lora_check(data, base, trained, tmp_path):
    options, result = trained
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    path = result.files[-1].parent / "sks.safetensors"
    tensors = load_file(path)
    lora.load_kohya(made.lora, tensors, source="sks")
    roundtrip.check(path, made, torch.float32)
    wrong = next(
        key for key in tensors if key.startswith("lora_te") and "layers_0" in key and "up" in key
    )
    save_file({**tensors, wrong: tensors[wrong] * 1.01}, tmp_path / "wrong.safetensors")
    with pytest.raises(LoraCheckFailed, match=r"1 of \d+ modules"):
        roundtrip.check(tmp_path / "wrong.safetensors", made, torch.float32)
