"""Flux.1, Chroma, Qwen-Image, Krea 2 and Stable Diffusion 3.5: text and predictions as diffusers'
pipelines compute them.
"""

import json
import math
import shutil
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from diffusers.utils import logging
from safetensors.torch import save_file

from trainer.families import dit_packing, registry
from trainer.families.base import concatenate
from trainer.objective import flow_sampler, process

FAMILIES: dict[str, Any] = {
    name: registry.family(name) for name in ("flux", "chroma", "qwen", "krea2", "sd3")
}
CAPTIONS = ["1girl, solo", "a fox girl with orange hair, who smiles", ""]


@pytest.fixture(scope="module")
def loaded(dit_base):
    @cache
    def of(name):
        logging.disable_progress_bar()
        parts = FAMILIES[name].load(str(dit_base(name)))
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            dit_base(name), local_files_only=True
        )
        pipeline.set_progress_bar_config(disable=True)
        return parts, pipeline

    return of


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def encode(family, parts, captions):
    with torch.no_grad():
        return FAMILIES[family].encode_text(parts, captions, clip_skip=1, max_tokens=75)


def theirs(family, pipeline, caption):
    """Return the states of one caption without padding that is not read, and the vector."""
    with torch.no_grad():
        if family == "flux":
            states, vector, _ = pipeline.encode_prompt(caption, caption)
            return states, vector
        if family == "chroma":
            states, mask = pipeline._get_t5_prompt_embeds(caption)
            return states[:, mask[0].bool()], None
        if family == "qwen":
            return pipeline.encode_prompt(caption)[0], None
        if family == "krea2":
            states, mask = pipeline.encode_prompt(caption)
            return states[:, mask[0]], None
        states, _, vector, _ = pipeline.encode_prompt(
            caption, caption, caption, do_classifier_free_guidance=False
        )
        return states, vector


@pytest.mark.parametrize("caption", CAPTIONS)
def test_text_equals_diffusers(loaded, family, caption):
    parts, pipeline = loaded(family)
    (row,) = encode(family, parts, [caption]).rows()
    states, vector = theirs(family, pipeline, caption)
    torch.testing.assert_close(row.states, states, atol=1e-5, rtol=1e-4)
    if vector is not None:
        torch.testing.assert_close(row.pooled, vector)


def test_text_of_a_batch_is_that_of_each_caption_alone(loaded, family):
    parts, _ = loaded(family)
    for row, caption in zip(encode(family, parts, CAPTIONS).rows(), CAPTIONS, strict=True):
        (alone,) = encode(family, parts, [caption]).rows()
        torch.testing.assert_close(row.states, alone.states, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(4, 4), (4, 6)])
def test_predictions_of_a_pipeline_are_ours(loaded, family, size):
    """The pipeline's own call of its transformer is recorded, and repeated by `predict`."""
    parts, pipeline = loaded(family)
    recorded: list[Any] = []
    forward = pipeline.transformer.forward

    def record(*args, **named):
        output = forward(*args, **named)
        recorded.append((named, output[0]))
        return output

    pipeline.transformer.forward = record
    try:
        guidance: dict[str, Any] = {"guidance_scale": 0.0 if family == "krea2" else 1.0}
        if family == "qwen":
            guidance = {}
        pipeline(
            prompt=CAPTIONS[0], height=8 * size[0], width=8 * size[1], num_inference_steps=2,
            output_type="latent", generator=torch.Generator().manual_seed(0), **guidance,
        )  # fmt: skip
    finally:
        pipeline.transformer.forward = forward
    named, expected = recorded[1]
    noisy = named["hidden_states"]
    if family == "chroma":  # its pipeline adds the mask to the attention instead of masking
        named["attention_mask"] = named["attention_mask"].bool()
        with torch.no_grad():
            expected = forward(**named)[0]
    if family != "sd3":
        like = torch.empty(1, 16, *size)
        noisy, expected = (dit_packing.unpacked(x, like) for x in (noisy, expected))
    time = named["timestep"] / (1000 if family == "sd3" else 1)
    with torch.no_grad():
        text = encode(family, parts, CAPTIONS[:1])
        mine = FAMILIES[family].predict(parts, noisy, time, text)
        other = FAMILIES[family].predict(parts, noisy, time * 0.5, text)
    assert mine.shape == noisy.shape
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mine, other)


def test_prediction_does_not_depend_on_the_batch(loaded, family):
    parts, _ = loaded(family)
    noisy = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    times = torch.tensor([0.1, 0.5, 0.9])
    rows = encode(family, parts, CAPTIONS).rows()
    with torch.no_grad():
        together = FAMILIES[family].predict(parts, noisy, times, concatenate(rows))
        for n, row in enumerate(rows):
            alone = FAMILIES[family].predict(parts, noisy[n : n + 1], times[n], row)
            torch.testing.assert_close(together[n : n + 1], alone, atol=1e-5, rtol=1e-4)


def test_latents_are_normalised_and_back(loaded, family):
    parts, _ = loaded(family)
    functions = FAMILIES[family]
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        mean, std = functions.moments(parts.vae, pixels)
        assert functions.decode(parts.vae, mean).shape == pixels.shape
    assert mean.shape == std.shape
    normalised = functions.normalise(parts.vae, mean)
    assert normalised.shape == (2, *functions.latent_shape(parts.vae, 48, 32)) == (2, 16, 4, 6)
    torch.testing.assert_close(functions.denormalise(parts.vae, normalised), mean)
    numbers = {"sd3": (0.0609, 1.5305), "flux": (0.1159, 0.3611), "chroma": (0.1159, 0.3611)}
    shift, scale = numbers.get(family, (-0.7571, 1 / 2.8184))
    torch.testing.assert_close(normalised[:, 0], (mean[:, 0] - shift) * scale)


@pytest.mark.parametrize(
    ("name", "shift"),
    [("flux", 3.158193), ("chroma", 3.158193), ("krea2", 2.475024), ("qwen", 2.000803), ("sd3", 3)],
)
def test_previews_of_a_model_without_a_scheduler_have_the_familys_shift(tmp_path, name, shift):
    times = process.preview_schedule(FAMILIES[name].FLOW, tmp_path).times(4, (1024, 1024))
    torch.testing.assert_close(times, flow_sampler.step_times(4, shift))


def test_previews_of_flux2_count_the_steps_whatever_its_scheduler_says(tmp_path):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}', "utf-8")
    flow = registry.family("flux2").FLOW
    assert flow is not None
    schedule = process.preview_schedule(flow, tmp_path)
    for steps, shift in ((4, 2.29118), (50, 2.023351)):
        times = flow_sampler.step_times(steps, math.exp(shift))
        torch.testing.assert_close(schedule.times(steps, (1024, 1024)), times, rtol=1e-5, atol=0)


def test_packing_is_diffusers():
    latents = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(4))
    pipeline = diffusers.FluxPipeline
    tokens = dit_packing.packed(latents)
    assert torch.equal(tokens, pipeline._pack_latents(latents, 2, 16, 4, 6))
    assert torch.equal(dit_packing.unpacked(tokens, latents), latents)
    ids = pipeline._prepare_latent_image_ids(1, 2, 3, "cpu", torch.int64)
    assert torch.equal(dit_packing.grid(latents), ids)


IDLE = {
    "qwen": {
        f"lora_transformer_transformer_blocks_1_{x}"
        for x in ("attn_add_q_proj", "attn_to_add_out", "txt_mlp_net_0_proj", "txt_mlp_net_2")
    },
    "sd3": {"lora_transformer_transformer_blocks_1_attn_add_q_proj"},
}


def test_a_layer_is_unreachable_if_and_only_if_no_gradient_reaches_it(loaded, family):
    parts, _ = loaded(family)
    functions = FAMILIES[family]
    targets = functions.targets(parts, "transformer")
    weights = {name: parts.denoiser.get_submodule(path).weight for name, path in targets.items()}
    noisy = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(2))
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        text = encode(family, parts, CAPTIONS[:1])
        functions.predict(parts, noisy, torch.tensor([0.5]), text).square().sum().backward()
        idle = {name for name, w in weights.items() if w.grad is None or not w.grad.any()}
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
            weight.grad = None
    assert functions.unreachable(parts, 1) == idle == IDLE.get(family, set())


@pytest.mark.parametrize(
    ("name", "file", "entry", "base"),
    [
        ("flux", "transformer/config.json", {"guidance_embeds": False}, "FLUX.1-dev"),
        ("krea2", "model_index.json", {"is_distilled": True}, "Krea-2-Raw"),
    ],
)
def test_distilled_base_names_the_one_to_train_on(dit_base, tmp_path, name, file, entry, base):
    folder = shutil.copytree(dit_base(name), tmp_path / name)
    assert FAMILIES[name].inspect(folder).distilled == ""
    path = folder / file
    content = json.loads(path.read_text(encoding="utf-8")) | entry
    path.write_text(json.dumps(content), encoding="utf-8")
    assert base in FAMILIES[name].inspect(folder).distilled


def test_file_of_flux_without_guidance_is_schnell(tmp_path):
    path = tmp_path / "flux1.safetensors"
    save_file({"double_blocks.0.x": torch.zeros(1)}, path)
    assert FAMILIES["flux"].inspect(path).distilled == "black-forest-labs/FLUX.1-dev"
    save_file({"guidance_in.in_layer.weight": torch.zeros(1)}, path)
    assert FAMILIES["flux"].inspect(path).distilled == ""


@pytest.mark.parametrize(
    ("functions", "known", "unknown"),
    [
        (FAMILIES["krea2"], "krea2_raw_bf16", "krea2"),
        (registry.family("flux2"), "flux-2-klein-base-4b", "my-model"),
        (registry.family("flux2"), "flux2_dev", "fp8"),
    ],
)
def test_plan_notes_a_file_that_does_not_say_whether_it_is_distilled(
    tmp_path, functions, known, unknown
):
    for name, noted in ((known, False), (unknown, True)):
        path = tmp_path / f"{name}.safetensors"
        path.touch()
        facts = functions.inspect(path)
        assert facts.distilled == ""
        assert bool(facts.note) == noted


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("flux", "flux1-schnell.safetensors"),
        ("krea2", "krea2-turbo"),
        ("qwen", "Qwen-Image-Lightning-8steps"),
        ("sd3", "sd3.5_large_turbo.safetensors"),
        ("chroma", "chroma1-flash.safetensors"),
    ],
)
def test_name_says_that_a_base_is_distilled(tmp_path, name, model):
    assert FAMILIES[name].inspect(tmp_path / model).distilled
    assert not FAMILIES[name].inspect(tmp_path / "my-base").distilled
