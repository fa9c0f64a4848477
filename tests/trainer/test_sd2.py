"""Stable Diffusion 2: names, tensor shapes in files, padding, and what a single file does not
state.
"""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from datasetkit.captions import tokens
from datasetkit.captions.tokens import BOS, CHUNK, EOS
from datasetkit.core.errors import ConfigError
from tests.trainer import tiny, tiny_families
from tests.trainer.test_families import name_hash
from trainer.families import sd2
from trainer.families.base import Parts
from trainer.families.clip_text import chunks
from trainer.files import lora
from trainer.plan import model_shapes
from trainer.setup import load_parts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_families.save_pipeline(tmp_path_factory.mktemp("model") / "sd2", "sd2")


@pytest.fixture(scope="module", params=[sd2.CONFIGS, sd2.CONFIGS_V], ids=["512", "768 v"])
def full(request):
    """The model that the shipped configurations describe, without weights."""
    configs = request.param
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(configs, subfolder="unet")
        )
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(configs, subfolder="vae"))
        encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(configs, subfolder="text_encoder"))
    return Parts(unet, vae, {"text_encoder": encoder}, configs, "sd2")


def test_shipped_configurations_are_the_full_size_model(full):
    counted = [
        sum(p.numel() for p in part.parameters())
        for part in (full.denoiser, full.encoders["text_encoder"], full.vae)
    ]
    assert counted == [865_910_724, 340_387_840, 83_653_863]
    assert full.vae.config.scaling_factor == sd2.LATENT_SCALE


def test_names_of_all_modules_are_kohyas(full):
    found = [sd2.targets(full, part) for part in full.names]
    assert [(len(own), name_hash(own)) for own in found] == [
        (192, "bdfc29d0bf3d9ac6"),
        (138, "9df99b6511841d5a"),
    ]


@pytest.mark.long
def test_both_layouts_of_a_model_have_the_same_shapes(model, tmp_path):
    folder = model_shapes.read(str(model))
    assert folder is not None
    assert folder == model_shapes.read(str(tiny_families.save_checkpoint(tmp_path, "sd2")))


def test_kohyas_file_has_the_layers_around_the_attention_as_convolutions(model):
    parts = sd2.load(str(model))
    network = lora.attach(sd2, parts, parts.names, dim=4, alpha=1.0, dropout=0.0, seed=1)
    plain = lora.kohya_tensors(network, torch.float32)
    file = sd2.as_kohya(plain)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    assert file[f"{name}.lora_down.weight"].shape == (4, 8, 1, 1)
    assert file[f"{name}.lora_up.weight"].shape == (8, 4, 1, 1)
    assert file.keys() == plain.keys()
    four = [key for key, tensor in file.items() if tensor.ndim == 4]
    assert len(four) == 2 * 2 * 6 and all("_proj_in." in key or "_proj_out." in key for key in four)
    assert all(torch.equal(tensor.flatten(), plain[key].flatten()) for key, tensor in file.items())


def test_single_file_needs_v_parameterization(tmp_path):
    path = tiny_families.save_checkpoint(tmp_path, "sd2")
    with pytest.raises(ConfigError, match="noise or velocity") as caught:
        load_parts(tiny.options(path, tmp_path))
    assert "v_parameterization = true" in caught.value.hint


def of_sd_scripts(caption, limit):
    """The chunks by sd-scripts' own rule, for a pad of 0; it takes a `!` for a pad."""
    body = tokens.ids(caption)[1:-1][:limit]
    ids = (BOS, *body, EOS, *[0] * (limit - len(body)))
    found = []
    for j in range(limit // CHUNK):
        chunk = [BOS, *ids[1 + CHUNK * j : 1 + CHUNK * (j + 1)], ids[-1]]
        if chunk[-2] not in (EOS, 0):
            chunk[-1] = EOS
        if chunk[1] == 0:
            chunk[1] = EOS
        found.append(tuple(chunk))
    return tuple(found)


@settings(max_examples=60, deadline=None)
@given(words=st.integers(0, 240), limit=st.sampled_from([75, 150, 225]))
def test_chunks_equal_those_of_sd_scripts(words, limit):
    caption = " ".join(["cat"] * words)
    assert chunks(caption, limit, 0) == of_sd_scripts(caption, limit)


@pytest.mark.parametrize("words", [0, 1, 74, 75, 76, 149, 150, 151])
def test_chunks_differ_from_sd_scripts_at_a_padding_token(words):
    caption = " ".join(["cat"] * words)
    assert chunks(caption, 150, 0) == of_sd_scripts(caption, 150)
    assert all(len(one) == 77 and EOS in one for one in chunks(caption, 150, 0))


def test_token_with_the_id_of_the_padding_is_kept():
    assert tokens.ids("!~") == (BOS, 0, 349, EOS)
    assert chunks("!~", 75, 0) == ((BOS, 0, 349, EOS, *[0] * 73),)


def test_metadata_names_differ_for_epsilon_and_v():
    noise, velocity = sd2.metadata_names("epsilon"), sd2.metadata_names("v_prediction")
    assert (noise.base_model_version, noise.architecture) == (
        "sd_v2",
        "stable-diffusion-v2-512/lora",
    )
    assert (velocity.base_model_version, velocity.architecture) == (
        "sd_v2_v",
        "stable-diffusion-v2-768-v/lora",
    )
    assert noise.v2 and velocity.v2
