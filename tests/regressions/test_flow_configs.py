"""Other trainers' files for flow models: their options are taken over where the base is such a
model, and have no effect where it is not.
"""

import json
from pathlib import Path

import pytest

from datasetkit.core.errors import ConfigError
from tests.trainer import tiny
from trainer.config.translate import translate

# As sd-scripts' flux_train_network is configured.
FLUX = """
pretrained_model_name_or_path = "flux"
clip_l = "clip_l.safetensors"
t5xxl = "t5xxl.safetensors"
ae = "ae.safetensors"
network_module = "networks.lora_flux"
network_train_unet_only = true
text_encoder_lr = 0.0001
timestep_sampling = "shift"
discrete_flow_shift = "3.1582"
sigmoid_scale = 1
weighting_scheme = "uniform"
model_prediction_type = "raw"
guidance_scale = 1.0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save_images(Path("img") / "2_sks", [(64, 64)])
    for name, kind in (("flux", "FluxTransformer2DModel"), ("sd3", "SD3Transformer2DModel")):
        path = Path(name) / "transformer" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"_class_name": kind, "guidance_embeds": True}), "utf-8")


def read(text):
    Path("config.toml").write_text(text, "utf-8")
    return translate(Path("config.toml"), None, {}, data_dir=Path("img"))


def test_the_options_of_a_flow_model_are_taken_over():
    result = read(FLUX)
    options = result.options
    assert (options.timestep_sampling, options.discrete_flow_shift) == ("shift", 3.1582)
    assert (options.sigmoid_scale, options.weighting_scheme) == (1, "none")
    assert (options.guidance_scale, options.model_prediction_type) == (1.0, "raw")
    assert options.network_module == "networks.lora" and options.network_train_unet_only
    assert set(result.ignored) == {"clip_l", "t5xxl", "ae"}
    assert all("base_folder" in reason for reason in result.ignored.values())


def test_what_a_file_leaves_open_is_the_familys():
    options = read('pretrained_model_name_or_path = "sd3"\n').options
    assert options.timestep_sampling is None and options.discrete_flow_shift is None
    assert options.guidance_scale is None


def test_they_have_no_effect_for_another_or_an_unknown_base():
    for base in ("tiny", "missing.safetensors"):
        text = f'pretrained_model_name_or_path = "{base}"\nguidance_scale = 1.5\n'
        result = read(text + 'timestep_sampling = "flux_shift"\n')
        assert result.options.timestep_sampling is None and result.options.guidance_scale is None
        assert set(result.ignored) == {"guidance_scale", "timestep_sampling"}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ('model_prediction_type = "sigma_scaled"', "model_prediction_type"),
        ('timestep_sampling = "qinglong_flux"', "timestep_sampling"),
        ("discrete_flow_shift = -1", "discrete_flow_shift"),
    ],
)
def test_a_value_with_another_meaning_is_refused_by_its_key(line, word):
    with pytest.raises(ConfigError, match=word):
        read(f'pretrained_model_name_or_path = "flux"\n{line}\n')
