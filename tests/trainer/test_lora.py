"""The LoRA file has exactly what was trained, for diffusers, peft and plain arithmetic."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from datasetkit.core.errors import ConfigError, ModelFileError
from trainer.families import sd
from trainer.files import lora


@pytest.fixture(scope="module")
def model(full_model):
    return full_model


BOTH = ("unet", "text_encoder")


def attached(model, which=BOTH, **others):
    parts = sd.load(str(model))
    given = {"dim": 4, "alpha": 1.0, "dropout": 0.0, "seed": 1, **others}
    return parts, lora.attach(sd, parts, which, **given)


@torch.no_grad()
def disturbed(network):
    generator = torch.Generator().manual_seed(5)
    for module in network.modules:
        module.up.copy_(torch.randn(module.up.shape, generator=generator))
    return network


@torch.no_grad()
def output(parts):
    generator = torch.Generator().manual_seed(9)
    noisy = torch.randn((1, 4, 16, 16), generator=generator)
    states = sd.encode_text(parts, ["sks, cat"], clip_skip=2, max_tokens=75)
    return sd.predict(parts, noisy, torch.tensor([400]), states)


def pipeline_of(parts):
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    from datasetkit.captions.tokens import FOLDER

    return StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.encoders["text_encoder"],
        tokenizer=CLIPTokenizer(str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt")),
        unet=parts.denoiser,
        scheduler=DDPMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.long
def test_a_new_lora_changes_nothing(model):
    plain = output(sd.load(str(model)))
    parts, _ = attached(model)
    assert torch.equal(output(parts), plain)


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@pytest.mark.long
def test_diffusers_loads_the_file_at_the_trained_strength(model, tmp_path, form):
    parts, network = attached(model)
    plain = output(parts)
    trained = output((parts, disturbed(network))[0])
    path = tmp_path / "lora.safetensors"
    if form == "kohya":
        save_file(lora.kohya_tensors(network, torch.float32), path)
    else:
        save_file(
            lora.diffusers_tensors(network, torch.float32),
            path,
            metadata=lora.diffusers_metadata(network),
        )
    fresh = sd.load(str(model))
    pipeline_of(fresh).load_lora_weights(str(path))
    loaded = output(fresh)
    assert float((trained - plain).abs().max()) > 0.05
    assert torch.allclose(loaded, trained, atol=1e-6)


def test_plain_arithmetic_finds_what_peft_adds(model):
    _, network = attached(model, alpha=3.0)
    disturbed(network)
    added = lora.deltas(lora.kohya_tensors(network, torch.float32))
    for module in network.modules:
        peft = module.layer.get_delta_weight(lora.ADAPTER).detach().double().flatten(1)
        assert torch.allclose(added[module.name], peft, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_diffusers_file_has_its_alpha(model, tmp_path):
    _, network = attached(model, alpha=3.0)
    disturbed(network)
    path = tmp_path / "lora.safetensors"
    save_file(
        lora.diffusers_tensors(network, torch.float32),
        path,
        metadata=lora.diffusers_metadata(network),
    )
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    added = lora.diffusers_deltas(load_file(path), metadata)
    kohya = lora.deltas(lora.kohya_tensors(network, torch.float32))
    assert len(added) == len(kohya) == 264
    assert sorted(round(float(d.norm()), 6) for d in added.values()) == sorted(
        round(float(d.norm()), 6) for d in kohya.values()
    )


def test_file_has_three_tensors_per_module_and_convolutions_keep_four_dimensions(model):
    _, network = attached(model)
    tensors = lora.kohya_tensors(network, torch.float16)
    assert len(tensors) == 264 * 3
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape == (
        4,
        8,
        1,
        1,
    )
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"].shape == (8, 4, 1, 1)
    assert float(tensors["lora_unet_mid_block_attentions_0_proj_in.alpha"]) == 1.0


def test_an_alpha_is_not_rounded_by_the_files_precision(model):
    _, network = attached(model, ("text_encoder",), alpha=0.1)
    alpha = lora.kohya_tensors(network, torch.bfloat16)[
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"
    ]
    assert float(alpha) == pytest.approx(0.1, rel=1e-7)


@pytest.mark.long
def test_initial_values_of_a_module_do_not_depend_on_other_modules(model):
    _, both = attached(model)
    _, encoder_only = attached(model, ("text_encoder",))
    starts = {m.name: m.down for m in both.modules}
    assert all(torch.equal(starts[m.name], m.down) for m in encoder_only.modules)
    assert all(
        float(m.down.detach().abs().max()) <= 1 / m.down[0].numel() ** 0.5 for m in both.modules
    )
    assert not torch.equal(
        attached(model, ("text_encoder",), seed=2)[1].modules[0].down, encoder_only.modules[0].down
    )


@pytest.mark.long
def test_loaded_file_keeps_its_strength_with_another_alpha(model):
    _, first = attached(model, alpha=1.0)
    file = lora.kohya_tensors(disturbed(first), torch.float32)
    _, second = attached(model, alpha=4.0)
    lora.load_kohya(second, file, source="first")
    again = lora.deltas(lora.kohya_tensors(second, torch.float32))
    assert all(
        torch.allclose(delta, again[name], rtol=1e-5, atol=1e-9)
        for name, delta in lora.deltas(file).items()
    )


@pytest.mark.long
def test_file_of_another_rank_or_other_modules_is_refused(model):
    _, network = attached(model)
    file = lora.kohya_tensors(network, torch.float32)
    with pytest.raises(ConfigError, match="rank 4, not 8"):
        lora.load_kohya(attached(model, dim=8)[1], file, source="first")
    with pytest.raises(ModelFileError, match="has other modules"):
        lora.load_kohya(attached(model, ("unet",))[1], file, source="first")


@pytest.mark.long
def test_dropout_acts_on_the_inner_activations_while_training(model):
    parts, network = attached(model, dropout=0.5)
    disturbed(network)
    still = output(parts)
    assert torch.equal(output(parts), still)
    parts.denoiser.train()
    torch.manual_seed(0)
    assert not torch.equal(output(parts), still)
    module = next(m for m in network.modules if m.part == "unet" and m.down.ndim == 2)
    seen = module.layer.lora_A[lora.ADAPTER](torch.ones(50, module.down.shape[1]))
    assert 0.3 < float((seen == 0).float().mean()) < 0.7


@pytest.mark.long
def test_metadata_names_every_module(model):
    _, network = attached(model)
    facts = json.loads(lora.diffusers_metadata(network)["lora_adapter_metadata"])
    assert len(facts["unet.target_modules"]) == 192
    assert len(facts["text_encoder.target_modules"]) == 72
    assert facts["unet.lora_alpha"] == 1.0
