"""Stable Diffusion XL: names, size conditioning, two encoders with their own rates, the pooled
vector.
"""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from datasetkit.dataset.buckets import Bucket, BucketRules, select
from datasetkit.options.networks import NetworkArgs
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny, tiny_families
from tests.trainer.test_families import name_hash
from tests.trainer.test_loop import ready
from trainer import loop
from trainer.data.epochs import epoch_batches
from trainer.families import module_names, registry, sdxl
from trainer.families.base import Parts
from trainer.loop import steps
from trainer.networks import layers
from trainer.networks.ranks import RankSettings
from trainer.plan import memory, model_shapes, size_conditioning
from trainer.plan.plan import Subset, TrainImage, caption_options


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_families.save_pipeline(tmp_path_factory.mktemp("model") / "sdxl", "sdxl")


@pytest.fixture(scope="module")
def full():
    """The model that the shipped configurations describe, without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(sdxl.CONFIGS, subfolder="unet")
        )
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(sdxl.CONFIGS, subfolder="vae"))
        first = CLIPTextModel(
            CLIPTextConfig.from_pretrained(sdxl.CONFIGS, subfolder="text_encoder")
        )
        second = CLIPTextModelWithProjection(
            CLIPTextConfig.from_pretrained(sdxl.CONFIGS, subfolder="text_encoder_2")
        )
    encoders = {"text_encoder": first, "text_encoder_2": second}
    return Parts(unet, vae, encoders, sdxl.CONFIGS, "sdxl")


def test_shipped_configurations_are_the_full_size_model(full):
    counted = [
        sum(p.numel() for p in part.parameters())
        for part in (full.denoiser, full.encoders["text_encoder"], full.vae)
    ]
    assert counted == [2_567_463_684, 123_060_480, 83_653_863]
    assert sum(p.numel() for p in full.encoders["text_encoder_2"].parameters()) == 694_659_840
    assert full.vae.config.scaling_factor == sdxl.LATENT_SCALE


def test_names_of_all_modules_are_kohyas(full):
    found = [sdxl.targets(full, part) for part in full.names]
    assert [(len(own), name_hash(own)) for own in found] == [
        (722, "5d819b833e27947d"), (72, "d9e087048fab15eb"), (192, "5f9c761b5ffdbbdc"),
    ]  # fmt: skip


def test_convolutions_have_sgm_names_too(full):
    blocks = ("resnets", "attentions", "downsamplers", "upsamplers")
    paths = [
        path
        for path, module in full.denoiser.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and any(f".{kind}." in path for kind in blocks)
    ]
    found = [module_names.original(path) for path in paths]
    assert (len(found), name_hash(found)) == (788, "6eaed2d7a4528e0a")
    assert module_names.original("conv_in") == "lora_unet_input_blocks_0_0"
    assert module_names.original("add_embedding.linear_3") == "lora_unet_add_embedding_linear_3"


def test_plan_knows_the_full_size_model(full):
    models = full.models | {"vae": full.vae}
    parts = {
        part: {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for part, model in models.items()
    }
    anatomy = model_shapes.count(registry.family("sdxl"), parts)
    assert (anatomy.denoiser, anatomy.encoders) == (2_567_463_684, 123_060_480 + 694_659_840)
    attention = [layer for layer in anatomy.layers["unet"] if not layer.convolutional]
    ranks = RankSettings(NetworkArgs(), 32, 16, sdxl.BLOCKS)
    assert round(layers.parameter_count(attention, ranks) / 1e6, 1) == 85.1  # published
    options = TrainOptions(
        resolution=1024, text_encoder_lr=0.0, gradient_checkpointing=True, mixed_precision="bf16"
    )
    shares = {s.name: s.bytes for s in memory.estimate(options, (1024, 1024), anatomy).shares}
    assert shares["weights"] == 2 * (anatomy.denoiser + anatomy.encoders)
    both = memory.estimate(TrainOptions(text_encoder_lr=(1e-5, 1e-5)), (1024, 1024), anatomy)
    one = memory.estimate(TrainOptions(text_encoder_lr=(1e-5, 0.0)), (1024, 1024), anatomy)
    assert (
        both.bytes
        > one.bytes
        > memory.estimate(TrainOptions(text_encoder_lr=0.0), (1024, 1024), anatomy).bytes
    )


@pytest.mark.long
def test_both_layouts_of_a_model_have_the_same_shapes(model, tmp_path):
    folder = model_shapes.read(str(model))
    assert folder is not None and len(folder.layers["text_encoder_2"]) > 0
    file = model_shapes.read(str(tiny_families.save_checkpoint(tmp_path, "sdxl")))
    assert folder == file


def image(size, bucket):
    options = TrainOptions()
    subset = Subset(Path("x"), "x", 1, caption_options(options), options.blocks()[0])
    return TrainImage(Path("x.png"), "0", size, "x", bucket, subset)


@pytest.mark.parametrize(
    ("size", "corner"),
    [
        ((1000, 1200), (0, 32)),
        ((1920, 1080), (10, 0)),
        ((3000, 2000), (16, 0)),
        ((800, 1500), (23, 0)),
    ],
)
def test_sizes_are_those_of_the_actual_crop(size, corner):
    bucket = select(BucketRules.standard(1024), *size)
    width, height = bucket.bucket
    told = size_conditioning.of_sample(image(size, bucket), bucket.crop, False)
    assert told == (size[1], size[0], corner[1], corner[0], height, width)


@given(
    trim=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    flip=st.booleans(),
)
def test_any_crop_is_within_its_image_and_a_mirrored_one_is_mirrored_back(trim, part, flip):
    resized = (512 + trim[0], 768 + trim[1])
    at = (int(part[0] * trim[0]), int(part[1] * trim[1]))
    bucket = Bucket((512, 768), resized, (trim[0] // 2, trim[1] // 2), 1.0, 0.0)
    seen = image((900, 900), bucket)
    _, _, top, left, height, width = size_conditioning.of_sample(seen, at, flip)
    assert min(left, top) >= 0 and left + width <= resized[0] and top + height <= resized[1]
    assert top == at[1]
    assert size_conditioning.of_sample(seen, (left, top), flip)[3] == at[0]


@pytest.mark.long
def test_random_crop_and_flip_reach_the_unet(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, flip_aug=True, random_crop=True))
    seen_sizes, reporter = [], []
    true = run.parts.denoiser.forward

    def listen(*args, **kwargs):
        reporter.extend(kwargs["added_cond_kwargs"]["time_ids"].tolist())
        return true(*args, **kwargs)

    run.parts.denoiser.forward = listen
    for batch in epoch_batches(run.plan, 42, 0):
        read = loop.reader(run).batch(batch, 0)
        seen_sizes += [
            list(map(float, size_conditioning.of_sample(s.image, s.at, s.flip))) for s in read
        ]
        loop.sample_losses(run, read, 0)
    assert reporter == seen_sizes
    assert len({tuple(told) for told in reporter}) > 4


@pytest.mark.long
def test_each_encoder_has_its_own_rate_and_0_leaves_it_out(data, model, tmp_path):
    run = ready(
        data, tiny.options(model, tmp_path, max_train_steps=1, text_encoder_lr=(0.003, 0.0))
    )
    assert set(run.lora.parts) == {"unet", "text_encoder"}
    run = ready(
        data, tiny.options(model, tmp_path, max_train_steps=1, text_encoder_lr=(0.003, 0.002))
    )
    (log,) = steps(run)
    assert log.scheduled == {"unet": 0.01, "text_encoder": 0.003, "text_encoder_2": 0.002}
    run = ready(
        data, tiny.options(model, tmp_path, max_train_steps=1, network_train_text_encoder_only=True)
    )
    assert set(run.lora.parts) == {"text_encoder", "text_encoder_2"}


def test_only_the_first_encoders_last_layer_is_unreachable(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, max_train_steps=2))
    list(steps(run))
    still = {module.name for module in run.lora.modules if not bool(module.up.any())}
    assert still == sdxl.unreachable(run.parts, 1) and len(still) == 6
    assert all(name.startswith("lora_te1_text_model_encoder_layers_1_") for name in still)


@torch.no_grad()
def test_states_are_before_the_last_layer_and_pooled_at_the_first_eos(model):
    parts = sdxl.load(str(model))
    long = ", ".join(f"tag {n}" for n in range(60))
    found = sdxl.encode_text(parts, ["sks, cat", long], clip_skip=2, max_tokens=75)
    assert found.states.shape == (2, 77, tiny_families.WIDTH + tiny_families.WIDTH_2)
    pipe = tiny_families.pipeline_of(parts)
    states, _, pooled, _ = pipe.encode_prompt(["sks, cat", long], do_classifier_free_guidance=False)
    assert torch.allclose(found.states, states, atol=1e-6)
    assert found.pooled is not None and torch.allclose(found.pooled, pooled, atol=1e-6)
    more = sdxl.encode_text(parts, ["sks, cat", long], clip_skip=1, max_tokens=225)
    assert more.states.shape[1] == 227
    assert more.pooled is not None and torch.allclose(more.pooled, found.pooled, atol=1e-6)


def pooled_of(parts):
    return sdxl.encode_text(parts, ["sks, cat"], clip_skip=1, max_tokens=75).pooled


@torch.no_grad()
def test_eos_id_of_the_config_does_not_matter(model):
    parts = sdxl.load(str(model))
    before = pooled_of(parts)
    inner = getattr(
        parts.encoders["text_encoder_2"], "text_model", parts.encoders["text_encoder_2"]
    )
    inner.eos_token_id = 49407
    assert torch.equal(pooled_of(parts), before)


def test_missing_sizes_are_an_error(model):
    parts = sdxl.load(str(model))
    text = sdxl.encode_text(parts, ["sks"], clip_skip=1, max_tokens=75)
    with pytest.raises(ValueError, match="size conditioning"):
        sdxl.predict(parts, torch.zeros(1, 4, 8, 8), torch.tensor([1]), text)


def test_vae_never_computes_in_fp16(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, mixed_precision="fp16"))
    assert run.encoder.dtype == torch.float32
