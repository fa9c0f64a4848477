"""Flux.2: text, latents and predictions as diffusers' pipelines compute them."""

import json
import shutil
from typing import Any

import pytest
import torch
import transformers
from diffusers import Flux2KleinPipeline, Flux2Pipeline, Flux2Transformer2DModel

from trainer import random_dit
from trainer.data.latents import fingerprint
from trainer.families import registry
from trainer.families.base import Conditioning

flux2: Any = registry.family("flux2")

CAPTIONS = ["1girl, solo", "a fox girl with orange hair, who smiles"]


@pytest.fixture(scope="module")
def parts(dit_base):
    return flux2.load(str(dit_base("flux2")))


def encode(parts, captions):
    with torch.no_grad():
        return flux2.encode_text(parts, captions, clip_skip=1, max_tokens=75)


def test_text_of_klein_equals_diffusers(parts):
    with torch.no_grad():
        theirs = Flux2KleinPipeline._get_qwen3_prompt_embeds(
            parts.encoders["text_encoder"], parts.tokenizers["text_encoder"], CAPTIONS
        )
    mine = encode(parts, CAPTIONS)
    assert mine.states.shape == (2, 512, 48)
    torch.testing.assert_close(mine.states, theirs)


MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}[SYSTEM_PROMPT]"
    "{{ message.content[0].text }}[/SYSTEM_PROMPT]{% else %}[INST]{{ message.content[0].text }}"
    "[/INST]{% endif %}{% endfor %}"
)


def mistral() -> transformers.Mistral3ForConditionalGeneration:
    text = {
        "model_type": "mistral", "vocab_size": 261, "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 31, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    config = transformers.Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=10
    )
    torch.manual_seed(0)
    return transformers.Mistral3ForConditionalGeneration(config)


def test_text_and_guidance_of_dev_equal_diffusers(dit_base, tmp_path):
    folder = shutil.copytree(dit_base("flux2"), tmp_path / "dev")
    shutil.rmtree(folder / "text_encoder")
    mistral().save_pretrained(folder / "text_encoder")
    tokenizer = random_dit.byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    tokenizer.chat_template = MISTRAL_TEMPLATE
    tokenizer.save_pretrained(folder / "tokenizer")
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    torch.manual_seed(1)
    Flux2Transformer2DModel.from_config(config | {"guidance_embeds": True}).save_pretrained(
        folder / "transformer"
    )
    parts = flux2.load(str(folder))
    with torch.no_grad():
        theirs = Flux2Pipeline._get_mistral_3_small_prompt_embeds(
            parts.encoders["text_encoder"], parts.tokenizers["text_encoder"], ["a [IMG]cat"]
        )
        mine = encode(parts, ["a [IMG]cat"])
    torch.testing.assert_close(mine.states, theirs)
    noisy = torch.randn(1, 128, 2, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        usual, same, other = (
            flux2.predict(parts, noisy, torch.tensor([0.5]), mine.guided(guidance))
            for guidance in (None, 3.5, 1.0)
        )
    assert torch.equal(usual, same)
    assert not torch.equal(usual, other)


def test_prediction_equals_diffusers(parts):
    noisy = torch.randn(2, 128, 2, 3, generator=torch.Generator().manual_seed(1))
    text = encode(parts, CAPTIONS)
    pipeline = Flux2KleinPipeline
    times = torch.tensor([0.25, 0.9])
    with torch.no_grad():
        theirs = parts.denoiser(
            hidden_states=pipeline._pack_latents(noisy),
            timestep=times,
            guidance=None,
            encoder_hidden_states=text.states,
            txt_ids=pipeline._prepare_text_ids(text.states),
            img_ids=pipeline._prepare_latent_ids(noisy),
            return_dict=False,
        )[0]
        mine = flux2.predict(parts, noisy, times, text)
    ids = pipeline._prepare_latent_ids(noisy)
    torch.testing.assert_close(mine, pipeline._unpack_latents_with_ids(theirs, ids, 2, 3))


def test_prediction_does_not_depend_on_the_batch(parts):
    noisy = torch.randn(2, 128, 2, 2, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0.1, 0.9])
    text = encode(parts, CAPTIONS)
    with torch.no_grad():
        together = flux2.predict(parts, noisy, times, text)
        for n in range(2):
            row = Conditioning(text.states[n : n + 1])
            alone = flux2.predict(parts, noisy[n : n + 1], times[n], row)
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-6, rtol=1e-5)


def test_latents_are_patched_and_normalised_as_in_diffusers(parts):
    pipeline = Flux2KleinPipeline
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        mean, _ = flux2.moments(parts.vae, pixels)
    patched = pipeline._patchify_latents(mean)
    deviation = (parts.vae.bn.running_var + parts.vae.config.batch_norm_eps).sqrt()
    theirs = (patched - parts.vae.bn.running_mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
    mine = flux2.normalise(parts.vae, mean)
    assert mine.shape == (2, *flux2.latent_shape(parts.vae, 48, 32)) == (2, 128, 2, 3)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(flux2.denormalise(parts.vae, mine), mean, atol=1e-6, rtol=1e-5)
    assert flux2.decode(parts.vae, mean).shape == pixels.shape


def test_cache_of_latents_knows_the_vae_with_its_count_of_batches(parts):
    assert fingerprint(parts.vae) == fingerprint(parts.vae) != fingerprint(parts.denoiser)


@pytest.mark.parametrize(("blocks", "size"), [(5, "4B"), (8, "9B")])
def test_distilled_klein_names_the_base_to_train_on(dit_base, tmp_path, blocks, size):
    folder = shutil.copytree(dit_base("flux2"), tmp_path / "klein")
    assert flux2.inspect(folder).distilled == ""
    for name, entry in (
        ("model_index.json", {"is_distilled": True}),
        ("transformer/config.json", {"num_layers": blocks}),
    ):
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8")) | entry
        path.write_text(json.dumps(content), encoding="utf-8")
    assert flux2.inspect(folder).distilled == f"black-forest-labs/FLUX.2-klein-base-{size}"


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("flux-2-klein-4b.safetensors", "black-forest-labs/FLUX.2-klein-base-4B"),
        ("FLUX.2-klein-9B", "black-forest-labs/FLUX.2-klein-base-9B"),
        (
            "models--black-forest-labs--FLUX.2-klein-9B/snapshots/abc",
            "black-forest-labs/FLUX.2-klein-base-9B",
        ),
        ("flux-2-klein-base-4b.safetensors", ""),
        ("flux2-dev", ""),
        ("klein/my-model", ""),
    ],
)
def test_name_of_a_file_or_folder_says_that_it_is_distilled(tmp_path, name, base):
    assert flux2.inspect(tmp_path / name).distilled == base
