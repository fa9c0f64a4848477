"""What every family of transformers has to do: train, save, load, resume and refuse alike."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from tests.trainer.test_loop import epoch_gradient, ready, wake
from tests.trainer.test_run import planned, stopped
from trainer import setup
from trainer.families import int8_base, option_checks, registry
from trainer.families.base import Conditioning, Family, concatenate, formats
from trainer.families.detect import DetectedModel, detect
from trainer.files import lora
from trainer.loop import gradients, reader
from trainer.networks import norm
from trainer.plan import model_shapes, run_checks
from trainer.run import train

FAMILIES = [family.NAME for family in registry.families() if family.DENOISER == "transformer"]
CAPTIONS = ["sks", "sks, a fox girl with orange hair, who smiles", ""]
# A value of each option that a family may refuse.
VALUES: dict[str, Any] = {
    "min_snr_gamma": 5.0, "debiased_estimation_loss": True, "noise_offset": 0.1,
    "scale_v_pred_loss_like_noise_pred": True, "v_pred_like_loss": 0.1, "clip_skip": 2,
    "v_parameterization": True, "zero_terminal_snr": True, "adaptive_noise_scale": 0.1,
    "multires_noise_iterations": 6, "max_token_length": 150, "text_encoder_lr": 1e-3,
    "network_train_text_encoder_only": True, "weighted_captions": True,
    "base_folder": "x", "base_is_distilled": True, "guidance_scale": 2.0,
    "timestep_sampling": "sigmoid", "discrete_flow_shift": 2.0, "sigmoid_scale": 2.0,
    "weighting_scheme": "cosmap",
}  # fmt: skip
DEFAULT = TrainOptions()
# What has to be given beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "adaptive_noise_scale": {"noise_offset": 0.1},
    "zero_terminal_snr": {"v_parameterization": True},
    "scale_v_pred_loss_like_noise_pred": {"v_parameterization": True},
    "network_train_text_encoder_only": {"text_encoder_lr": DEFAULT.text_encoder_lr},
}


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, dit_base) -> Path:
    folder: Path = dit_base(request.param)
    return folder


@pytest.fixture(scope="module")
def family(base) -> Family:
    return registry.family(detect(base).family)


@pytest.fixture(scope="module")
def parts(base, tmp_path_factory):
    return setup.load_parts(tiny.flow_options(base, tmp_path_factory.mktemp("out")))


def encode(family, parts, captions) -> Conditioning:
    with torch.no_grad():
        encoded: Conditioning = family.encode_text(parts, captions, clip_skip=1, max_tokens=75)
    return encoded


def noise_of(family, parts, count):
    shape = (count, *family.latent_shape(parts.vae, 64, 96))
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def test_normalised_latents_come_back(family, parts):
    raw = torch.randn(2, 32, 12, 8) if family.NAME == "flux2" else torch.randn(2, 16, 12, 8)
    normalised = family.normalise(parts.vae, raw)
    assert normalised.shape[1:] == family.latent_shape(parts.vae, 64, 96)
    torch.testing.assert_close(family.denormalise(parts.vae, normalised), raw, rtol=1e-4, atol=1e-4)


def test_a_prediction_does_not_depend_on_its_batch(family, parts):
    noisy, times = noise_of(family, parts, 3), torch.tensor([0.1, 0.5, 0.9])
    rows = encode(family, parts, CAPTIONS).rows()
    with torch.no_grad():
        together = family.predict(parts, noisy, times, concatenate(rows))
        assert together.shape == noisy.shape
        for n, row in enumerate(rows):
            alone = family.predict(parts, noisy[n : n + 1], times[n], row)
            torch.testing.assert_close(together[n : n + 1], alone, atol=2e-6, rtol=1e-5)


def test_8_bit_weights_change_a_prediction_little(base, family, tmp_path):
    parts = setup.load_parts(tiny.flow_options(base, tmp_path))
    noisy, times = noise_of(family, parts, 1), torch.tensor([0.5])
    text = encode(family, parts, CAPTIONS[:1])
    with torch.no_grad():
        before = family.predict(parts, noisy, times, text)
        assert int8_base.quantize(parts.denoiser) > 0
        after = family.predict(parts, noisy, times, text)
    assert 0 < float((after - before).norm()) < 0.05 * float(before.norm())


@pytest.mark.long
def test_8_bit_weights_are_read_layer_by_layer_and_streamed_equal(base, family, tmp_path):
    """Equal to a model that is quantized as a whole, and so are streamed blocks."""
    options = tiny.flow_options(base, tmp_path)
    whole = setup.load_parts(options)
    int8_base.quantize(whole.denoiser)
    text, times = encode(family, whole, CAPTIONS[:1]), torch.tensor([0.5])
    noisy = noise_of(family, whole, 1)
    small = setup.load_parts(
        replace(options, base_precision="int8"), only=(family.DENOISER, "vae", *family.EXTRA)
    )
    assert not small.encoders and small.vae is not None
    first, second = whole.denoiser.state_dict(), small.denoiser.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(p.requires_grad for p in small.denoiser.parameters())
    with torch.no_grad():
        expected = family.predict(whole, noisy, times, text)
        assert torch.equal(family.predict(small, noisy, times, text), expected)
        layers = int8_base.last_blocks(small.denoiser, family.block, 1)
        assert int8_base.stream(layers) > 0
        assert torch.equal(family.predict(small, noisy, times, text), expected)


@pytest.mark.long
def test_the_encoders_are_loaded_without_the_transformer(base, family, tmp_path):
    parts = setup.load_parts(tiny.flow_options(base, tmp_path), only=family.ENCODERS)
    assert parts.denoiser is None and parts.vae is None
    assert set(parts.encoders) == set(family.ENCODERS) == set(family_encoders(base, tmp_path))
    assert encode(family, parts, CAPTIONS).states.shape[0] == 3


def family_encoders(base, tmp_path):
    return setup.load_parts(tiny.flow_options(base, tmp_path)).encoders


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_damaged_transformer_is_refused_in_8_bits(dit_base, tmp_path, damage):
    folder = tiny.copy_folder(dit_base("z-image"), tmp_path / "base")
    (path,) = (folder / "transformer").glob("*.safetensors")
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("to_q.weight"))
    if damage == "missing":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:, :-1].clone()
    save_file(tensors, path)
    options = replace(tiny.flow_options(folder, tmp_path), base_precision="int8")
    with pytest.raises(ModelFileError, match=name):
        setup.load_parts(options)


def test_the_plan_knows_the_layers_that_are_trained(base, family, tmp_path):
    shapes = model_shapes.read(str(base))
    assert shapes is not None and shapes.family == family.NAME
    run = ready(tiny_data(tmp_path), tiny.flow_options(base, tmp_path))
    planned_layers = {layer.name: (layer.out, layer.ins) for layer in shapes.layers["transformer"]}
    assert planned_layers == {
        module.name: (len(module.up), module.down.shape[1]) for module in run.lora.modules
    }
    assert shapes.denoiser == sum(
        p.numel() for n, p in run.parts.denoiser.named_parameters() if "lora" not in n
    )


def tiny_data(folder: Path) -> Path:
    if not (folder / "few").exists():
        tiny.save_images(folder / "few" / "train" / "1_sks", [(128, 128)] * 3 + [(192, 128)])
    return folder / "few"


@pytest.fixture(scope="module")
def gradient(base, tmp_path_factory):
    """Return a function: the gradient of an epoch with other options."""
    folder = tmp_path_factory.mktemp("gradient")

    def of(**others):
        run = ready(tiny_data(folder), tiny.flow_options(base, folder, **others))
        wake(run)
        return epoch_gradient(run)

    return of


@pytest.mark.long
def test_the_gradient_of_an_epoch_does_not_depend_on_the_batch(gradient):
    alone = gradient(train_batch_size=1)
    assert float(alone.norm()) > 0
    for size in (2, 4):
        assert float((gradient(train_batch_size=size) - alone).norm() / alone.norm()) < 1e-5


@pytest.mark.long
def test_checkpointing_does_not_change_the_gradient(gradient):
    plain = gradient(train_batch_size=2)
    recomputed = gradient(train_batch_size=2, gradient_checkpointing=True)
    assert float((recomputed - plain).norm() / plain.norm()) < 1e-6


@pytest.mark.long
def test_the_modules_that_no_gradient_reaches_are_named(base, family, tmp_path):
    run = ready(tiny_data(tmp_path), tiny.flow_options(base, tmp_path))
    wake(run)
    with_gradient = set()
    for work in reader(run).steps(workers=0):
        gradients(run, work)
        with_gradient |= {m.name for m in run.lora.modules if bool(m.up.grad.any())}
        break
    unreachable = {m.name for m in run.lora.modules} - with_gradient
    assert unreachable == set(family.unreachable(run.parts, 1)) & {m.name for m in run.lora.modules}


@pytest.fixture(scope="module")
def trained(base, data, tmp_path_factory):
    """A run of some steps that saves two formats and states, validates and generates."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "prompts.txt").write_text("sks --n bad --w 64 --h 64 --s 2\n", encoding="utf-8")
    options = tiny.flow_options(
        base, folder / "out", lora_format="both", max_train_steps=6, save_every_n_epochs=0,
        save_every_n_steps=3, network_alpha=2.0, flip_aug=True, validation_split=0.3,
        sample_prompts=str(folder / "prompts.txt"), caption_dropout_rate=0.2,
        shuffle_caption=True, masked_loss=True, diff_output_preservation=True,
        network_args=("loraplus_lr_ratio=4",), lr_scheduler="constant",
    )  # fmt: skip
    return options, train(options, planned(data, options))


@pytest.mark.long
def test_a_run_saves_the_familys_files_and_they_load_in_diffusers(family, trained):
    """The run itself compares each file with the trained LoRA, by diffusers' own loader."""
    options, result = trained
    for form in formats(family, "both"):
        ending = ".safetensors" if form == family.FORMATS[0] else f".{form}.safetensors"
        path = result.files[-1].parent / f"sks{ending}"
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            header = file.metadata()
        assert header["ss_base_model_version"]
        assert header["ss_timestep_sampling"] == family.FLOW.sampling
        alphas = {"kohya": ("2.0", None)}.get(form, ("4.0", "2.0"))
        assert (header["ss_network_alpha"], header.get("dsk_alpha")) == alphas
        if form != "kohya":
            assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    folder = result.files[-1].parent
    assert list((folder / "sample").iterdir())
    rows = [json.loads(line) for line in (folder / "sks-metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in row for row in rows) == options.max_train_steps


@pytest.mark.long
def test_a_saved_file_has_the_trained_change(family, base, trained, data):
    options, result = trained
    tensors = family.restore(load_file(result.files[-1].parent / "sks.safetensors"))
    run = setup.assemble(options, planned(data, options), setup.load_parts(options))
    lora.load_kohya(run.lora, tensors, source="sks")
    again = run.family.export(run.lora, torch.float32, family.FORMATS[0])[0]
    written = load_file(result.files[-1].parent / "sks.safetensors")
    assert again.keys() == written.keys()
    for key, value in written.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_a_resumed_run_is_bit_identical(data, trained, tmp_path):
    options, result = trained
    again = replace(options, output_dir=str(tmp_path), sample_prompts="")
    stopped(data, again, 5)
    resumed = train(again, planned(data, again), resume=True)
    assert resumed.start == 3
    whole, other = load_file(result.files[-1]), load_file(resumed.files[-1])
    assert whole.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in whole.items())


# ---- what a family refuses


@pytest.mark.parametrize("name", registry.FAMILIES)
def test_refused_options_exist_and_say_why(name):
    family = registry.family(name)
    assert set(family.REFUSES) <= {f.name for f in fields(TrainOptions)} & set(VALUES)
    assert all(reason and not reason.endswith(".") for reason in family.REFUSES.values())


@pytest.mark.parametrize(
    ("name", "option"),
    [(f.NAME, option) for f in registry.families() for option in f.REFUSES],
)
def test_an_option_without_a_meaning_is_refused(name, option, dit_base, model, tmp_path):
    family = registry.family(name)
    given = {**BESIDE.get(option, {}), option: VALUES[option]}
    options = tiny.options(model, tmp_path, **{"text_encoder_lr": 0.0, **given})
    with pytest.raises(ConfigError, match="has no meaning for") as refused:
        option_checks.check(options, DetectedModel(name, "flow"))
    assert "remove" in refused.value.hint and family.TITLE in refused.value.message


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"network_module": "networks.loha"}, "LoHa is not trained"),
        ({"network_module": "networks.lokr"}, "LoKr is not trained"),
        ({"network_args": ("dora_wd=True",)}, "DoRA is not trained"),
        ({"network_args": ("conv_dim=4",)}, "no convolutional blocks"),
        ({"network_args": ("train_norm=True",)}, "train_norm is not supported on transformers"),
        ({"bucket_reso_steps": 24}, "multiples of 16"),
        ({"enable_bucket": False, "resolution": (120, 128)}, "multiples of 16"),
    ],
)
def test_what_a_transformer_cannot_train_is_refused(family, base, tmp_path, others, words):
    with pytest.raises(ConfigError, match=words):
        option_checks.check(tiny.flow_options(base, tmp_path, **others), detect(base))


def test_transformers_have_no_norm_that_lycoris_trains(base):
    """Otherwise the reason for which train_norm is refused is wrong."""
    parts = setup.load_parts(tiny.flow_options(base, base))
    layers = parts.denoiser.named_modules()
    norms = [
        path for path, layer in layers if isinstance(layer, norm.KINDS) and layer.weight is not None
    ]
    assert not [path for path in norms if "blocks" in path or path.startswith("layers.")], norms


def test_steps_of_16_pixels_are_allowed(base, tmp_path):
    options = tiny.flow_options(base, tmp_path, bucket_reso_steps=16)
    option_checks.check(options, detect(base))
    assert run_checks.base_shapes(options) is not None


def test_block_lists_are_refused(base, tmp_path, data):
    options = tiny.flow_options(base, tmp_path, network_args=("mid_lr_weight=0.5",))
    with pytest.raises(ConfigError, match="lists are of a UNet's blocks"):
        run_checks.check_plan(options, planned(data, options), run_checks.base_shapes(options))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sampler_that_is_not_used_is_said(name):
    assert not any("Euler" in line for line in option_checks.remarks(TrainOptions(), name))
    lines = option_checks.remarks(TrainOptions(sample_sampler="euler_a"), name)
    assert any("by Euler steps" in line for line in lines)
    assert not any(
        "Euler" in line for line in option_checks.remarks(TrainOptions(sample_sampler="ddim"), name)
    )
