"""Anima: text, latents and predictions as diffusers' modular pipeline computes them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.transformers import transformer_cosmos
from diffusers.modular_pipelines.anima.encoders import AnimaTextEncoderStep
from torch.nn import functional

from trainer.families import registry
from trainer.families.base import concatenate

anima: Any = registry.family("anima")

CAPTIONS = ["1girl, solo", "1girl, solo, fox ears, orange hair, smile", "a", ""]


@pytest.fixture(scope="module")
def parts(dit_base):
    return anima.load(str(dit_base("anima")))


def encode(parts, captions):
    with torch.no_grad():
        return anima.encode_text(parts, captions, clip_skip=1, max_tokens=75)


def pipeline_states(parts, caption):
    """Return the states of one caption, computed as in diffusers' own steps."""
    encoder = parts.encoders["text_encoder"]
    names = parts.tokenizers
    step: Any = AnimaTextEncoderStep
    components: Any = type("Components", (), {})()
    components.tokenizer, components.t5_tokenizer = names["text_encoder"], names["text_conditioner"]
    components.text_encoder = encoder
    with torch.no_grad():
        states, mask = step._get_qwen_prompt_embeds(
            components, caption, 512, encoder.device, encoder.dtype
        )
        ids, ids_mask = step._get_t5_prompt_ids(components, caption, 512, encoder.device)
        return parts.encoders["text_conditioner"](
            source_hidden_states=states,
            target_input_ids=ids,
            target_attention_mask=ids_mask,
            source_attention_mask=mask,
        )


@pytest.mark.parametrize("caption", CAPTIONS)
def test_text_equals_diffusers(parts, caption):
    mine = encode(parts, [caption])
    assert mine.mask is not None
    padded = functional.pad(mine.states, (0, 0, 0, 512 - mine.states.shape[1]))
    assert padded.isfinite().all()
    torch.testing.assert_close(padded, pipeline_states(parts, caption))


def test_text_of_a_batch_is_that_of_each_caption_alone(parts):
    together = encode(parts, CAPTIONS).rows()
    for row, caption in zip(together, CAPTIONS, strict=True):
        torch.testing.assert_close(row.states, encode(parts, [caption]).states)


def test_long_captions_are_cut_off_at_512_tokens(parts):
    assert encode(parts, ["cat " * 400]).states.shape == (1, 512, 32)


def test_prediction_equals_diffusers_with_its_padding_mask(parts, dit_base, monkeypatch):
    from diffusers import CosmosTransformer3DModel

    needed = SimpleNamespace(  # what diffusers needs of torchvision
        InterpolationMode=SimpleNamespace(NEAREST="nearest"),
        functional=SimpleNamespace(
            resize=lambda mask, size, interpolation: functional.interpolate(mask, size)
        ),
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", needed, raising=False)
    plain = CosmosTransformer3DModel.from_pretrained(dit_base("anima") / "transformer").eval()
    noisy = torch.randn(2, 16, 6, 8, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([0.25, 0.9])
    text = encode(parts, CAPTIONS[:2])
    states = torch.cat([pipeline_states(parts, caption) for caption in CAPTIONS[:2]])
    with torch.no_grad():
        theirs = plain(
            hidden_states=noisy.unsqueeze(2),
            timestep=times,
            encoder_hidden_states=states,
            padding_mask=torch.zeros(1, 1, 48, 64),
            return_dict=False,
        )[0].squeeze(2)
        mine = anima.predict(parts, noisy, times, text)
    assert mine.shape == noisy.shape
    torch.testing.assert_close(mine, theirs)


def test_prediction_does_not_depend_on_the_batch(parts):
    noisy = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0.1, 0.5, 0.9])
    rows = encode(parts, CAPTIONS[:3]).rows()
    with torch.no_grad():
        together = anima.predict(parts, noisy, times, concatenate(rows))
        for n, row in enumerate(rows):
            alone = anima.predict(parts, noisy[n : n + 1], times[n], row)
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-6, rtol=1e-5)


def test_latents_are_normalised_by_channel_and_back(parts):
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        mean, std = anima.moments(parts.vae, pixels)
        images = anima.decode(parts.vae, mean)
    assert mean.shape == std.shape == (2, *anima.latent_shape(parts.vae, 48, 32)) == (2, 16, 4, 6)
    assert images.shape == pixels.shape
    normalised = anima.normalise(parts.vae, mean)
    first = (mean[:, 0] + 0.7571) / 2.8184
    torch.testing.assert_close(normalised[:, 0], first)
    torch.testing.assert_close(anima.denormalise(parts.vae, normalised), mean)


def test_tokens_are_counted_as_the_transformer_reads_them(dit_base):
    count = anima.token_counter(dit_base("anima"))
    assert count("a cat") == 7  # a space before it, five letters, and the end
