"""A model's family is detected from its files; unsupported models and contradicting options are
errors.
"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny, tiny_families
from trainer.families import option_checks
from trainer.families.detect import DetectedModel, detect
from trainer.setup import load_parts


def file_of(tmp_path, *names, remarks=None, **shapes):
    path = tmp_path / "model.safetensors"
    tensors = {name: torch.zeros(1) for name in names} | {
        n: torch.zeros(s) for n, s in shapes.items()
    }
    save_file(tensors, path, metadata=remarks)
    return path


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_family_of_a_folder_and_of_a_file_is_found(tmp_path, family):
    folder = tiny_families.save_pipeline(tmp_path / "model", family, "v_prediction")
    assert detect(folder) == DetectedModel(family, "v_prediction")
    assert detect(tiny_families.save_checkpoint(tmp_path, family)) == DetectedModel(family)


def test_first_family_and_the_tiny_base_are_found(model, tmp_path):
    from trainer.tinybase import shipped

    assert detect(model) == DetectedModel("sd1")
    assert detect(tiny.save_checkpoint(tmp_path)) == DetectedModel("sd1")
    assert detect(shipped.FOLDER).family == "sd1"


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("double_blocks.0.x", "a model of Flux", "1, 2 and XL"),
        (
            "conditioner.embedders.0.model.transformer.x",
            "the refiner of Stable Diffusion XL",
            "base model",
        ),
        ("lora_unet_mid_block_attentions_0_proj_in.alpha", "is a LoRA", "network_weights"),
        ("unet.mid_block.x.lora_A.weight", "is a LoRA", "name its base model"),
        ("control_model.x", "a ControlNet", "name its base model"),
        ("encoder.conv_in.weight", "is a VAE", "`vae` of"),
        ("x", "not a Stable Diffusion checkpoint", "full checkpoint"),
    ],
)
def test_error_names_what_another_file_is(tmp_path, name, words, hint):
    with pytest.raises(ModelFileError, match=words) as caught:
        detect(file_of(tmp_path, name))
    assert hint in caught.value.hint


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("flux", ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]),
        (
            "flux2",
            [
                "double_blocks.0.img_attn.qkv.weight",
                "single_blocks.0.linear1.weight",
                "double_stream_modulation_img.lin.weight",
            ],
        ),
        (
            "chroma",
            [
                "double_blocks.0.img_attn.qkv.weight",
                "single_blocks.0.linear1.weight",
                "distilled_guidance_layer.in_proj.weight",
            ],
        ),
        ("qwen", ["transformer_blocks.0.img_mlp.net.2.weight"]),
        ("krea2", ["txtfusion.x", "blocks.0.attn.wq.weight"]),
        ("anima", ["llm_adapter.x", "blocks.0.self_attn.q_proj.weight"]),
        ("sd3", ["joint_blocks.0.x_block.attn.qkv.weight"]),
    ],
)
def test_transformer_in_one_file_is_of_its_family(tmp_path, family, names, prefix):
    assert detect(file_of(tmp_path, *(prefix + name for name in names))).family == family


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]", b"\x08\0\0\0\0\0\0\0" + b'{"a": 1}']
)
def test_damaged_file_is_an_error(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelFileError, match="cannot read"):
        detect(tmp_path / "model.safetensors")


def changed(folder, part, **values):
    path = folder / part / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8"
    )


def test_folder_that_is_not_a_base_model_is_an_error(model, tmp_path):
    refiner = tiny_families.save_pipeline(tmp_path / "refiner", "sdxl")
    (refiner / "text_encoder").rename(refiner / "no_text_encoder")
    with pytest.raises(ModelFileError, match="refiner"):
        detect(refiner)
    half = tiny_families.save_pipeline(tmp_path / "half", "sdxl")
    (half / "text_encoder_2").rename(half / "no_text_encoder")
    with pytest.raises(ModelFileError, match="text_encoder_2/ is missing"):
        detect(half)
    with pytest.raises(ModelFileError, match=r"unet/config\.json is missing"):
        detect(tmp_path)
    (tmp_path / "transformer").mkdir()
    with pytest.raises(ModelFileError, match="Flux"):
        detect(tmp_path)
    inpainting = tiny.copy_folder(model, tmp_path / "inpainting")
    changed(inpainting, "unet", in_channels=9)
    with pytest.raises(ModelFileError, match="has 9 input channels, but a latent has 4"):
        detect(inpainting)


def test_inpainting_model_is_an_error(tmp_path):
    first = {"model.diffusion_model.input_blocks.0.0.weight": (4, 9, 3, 3)}
    with pytest.raises(ModelFileError, match="9 input channels"):
        detect(file_of(tmp_path, "cond_stage_model.transformer.text_model.x", **first))


@pytest.mark.parametrize(
    ("remarks", "names", "message"),
    [
        (None, (), None),
        ({"modelspec.prediction_type": "v"}, (), "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, (), "epsilon"),
        (None, ("v_pred",), "v_prediction"),
    ],
)
def test_file_may_state_its_prediction_type(tmp_path, remarks, names, message):
    path = file_of(tmp_path, "conditioner.embedders.1.model.x", *names, remarks=remarks)
    assert detect(path) == DetectedModel("sdxl", message)


@pytest.mark.parametrize(
    ("given", "found", "prediction"),
    [
        ({}, DetectedModel("sd1"), "epsilon"),
        ({}, DetectedModel("sdxl"), "epsilon"),
        ({}, DetectedModel("sd2", "v_prediction"), "v_prediction"),
        ({"v_parameterization": True}, DetectedModel("sd2"), "v_prediction"),
        ({"v_parameterization": False}, DetectedModel("sd2"), "epsilon"),
        (
            {"v_parameterization": True, "v2": True},
            DetectedModel("sd2", "v_prediction"),
            "v_prediction",
        ),
        ({"v2": False}, DetectedModel("sdxl"), "epsilon"),
        ({"text_encoder_lr": (1e-5, 0.0)}, DetectedModel("sdxl"), "epsilon"),
    ],
)
def test_options_and_the_model_determine_the_prediction_type(given, found, prediction):
    assert option_checks.prediction_type(TrainOptions(**given), found) == prediction


@pytest.mark.parametrize(
    ("given", "found", "words"),
    [
        (
            {"v2": True},
            DetectedModel("sd1"),
            "v2 = true, but the model is Stable Diffusion 1",
        ),
        (
            {"v2": False},
            DetectedModel("sd2", "epsilon"),
            "v2 = false, but the model is Stable Diffusion 2",
        ),
        (
            {"v_parameterization": False},
            DetectedModel("sd2", "v_prediction"),
            "has v_prediction, but v_parameterization = false",
        ),
        (
            {"v_parameterization": True},
            DetectedModel("sdxl", "epsilon"),
            "has epsilon, but v_parameterization = true",
        ),
        ({}, DetectedModel("sd2"), "does not state whether it predicts noise or velocity"),
        (
            {"text_encoder_lr": (1e-5, 1e-5)},
            DetectedModel("sd2", "epsilon"),
            "has one text encoder",
        ),
    ],
)
def test_options_that_contradict_the_model_are_errors_with_a_next_step(given, found, words):
    with pytest.raises(ConfigError, match=words) as caught:
        option_checks.prediction_type(TrainOptions(**given), found)
    assert caught.value.hint


def test_wrong_option_is_an_error_before_weights_are_loaded(model, tmp_path):
    folder = tiny.copy_folder(model, tmp_path / "model")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match="v2 = true"):
        load_parts(tiny.options(folder, tmp_path, v2=True))


def test_options_with_little_effect_in_a_family_are_warned_of():
    assert option_checks.remarks(TrainOptions(resolution=1024), "sdxl") == ()
    (skip,) = option_checks.remarks(TrainOptions(resolution=1024, clip_skip=2), "sdxl")
    assert "has no effect" in skip
    (half,) = option_checks.remarks(TrainOptions(resolution=1024, mixed_precision="fp16"), "sdxl")
    assert "float32" in half
    (small,) = option_checks.remarks(TrainOptions(resolution=512), "sdxl")
    assert "1024" in small
    assert option_checks.remarks(TrainOptions(clip_skip=2, mixed_precision="fp16"), "sd1") == ()


def test_a_vae_of_another_family_is_refused(model, tmp_path):
    other = tiny_families.save_pipeline(tmp_path / "xl", "sdxl")
    with pytest.raises(
        ModelFileError, match=r"scales latents by 0\.13025, but Stable Diffusion 1 by 0\.18215"
    ):
        load_parts(tiny.options(model, tmp_path, vae=str(other)))


def test_detecting_needs_no_torch():
    code = "import sys, trainer.families.detect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
