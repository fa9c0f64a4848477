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


# ---- JSON presets of the kohya_ss GUI

# The keys of its pages for Flux and SD3, and some that it writes for every model.
PRESET = {
    "pretrained_model_name_or_path": "flux", "LoRA_type": "Flux1", "LyCORIS_preset": "full",
    "flux1_checkbox": True, "sd3_checkbox": False, "sdxl": False, "train_data_dir": "img",
    "learning_rate": 1e-4, "text_encoder_lr": 0, "unet_lr": 3e-4, "t5xxl_lr": 0,
    "network_dim": 8, "network_alpha": 4, "conv_dim": 64, "conv_alpha": 64, "block_dims": "",
    "optimizer": "AdamW", "optimizer_args": "", "max_resolution": "512,512", "epoch": 3,
    "max_train_epochs": 3, "max_token_length": 150, "clip_skip": 2, "fp8_base": True,
    "min_snr_gamma": 5, "noise_offset": 0.05, "noise_offset_type": "Original",
    "ae": "ae.sft", "clip_l": "clip_l.safetensors", "t5xxl": "t5xxl.safetensors",
    "discrete_flow_shift": 3.1, "model_prediction_type": "raw", "timestep_sampling": "shift",
    "guidance_scale": 1, "split_mode": False, "train_blocks": "all", "split_qkv": True,
    "train_double_block_indices": "all", "train_single_block_indices": "all",
    "img_attn_dim": "", "in_dims": "", "train_t5xxl": False, "apply_t5_attn_mask": True,
    "t5xxl_max_token_length": 300, "mem_eff_save": False, "blocks_to_swap": 2,
    "flux1_cache_text_encoder_outputs": True, "flux1_cache_text_encoder_outputs_to_disk": True,
    "sd3_clip_l": "", "sd3_t5xxl": "", "clip_g": "", "weighting_scheme": "mode",
    "logit_mean": 0.5, "logit_std": 2, "mode_scale": 1.1, "t5xxl_dtype": "bf16",
    "sd3_cache_text_encoder_outputs": False, "sd3_clip_l_dropout_rate": 0.1,
}  # fmt: skip


def read_preset(**others):
    Path("p.json").write_text(json.dumps(PRESET | others), "utf-8")
    return translate(Path("p.json"), None, {})


def test_a_preset_for_flux_means_what_the_gui_trains():
    result = read_preset()
    options = result.options
    assert (options.network_module, options.network_args) == ("networks.lora", ())
    assert (options.network_dim, options.network_alpha, options.unet_lr) == (8, 4, 3e-4)
    assert (options.timestep_sampling, options.discrete_flow_shift) == ("shift", 3.1)
    assert (options.guidance_scale, options.model_prediction_type) == (1, "raw")
    assert options.network_train_unet_only and options.max_train_epochs == 3
    assert options.cache_text_encoder_outputs and options.cache_text_encoder_outputs_to_disk
    assert (options.fp8_base, options.blocks_to_swap) == (True, 2)
    # sd-scripts does not look at these for Flux, and the page of SD3 is not passed on.
    assert (options.min_snr_gamma, options.noise_offset, options.clip_skip) == (None, 0, 1)
    assert options.max_token_length == 75
    assert (options.weighting_scheme, options.logit_std) == ("none", 1)
    assert {"clip_l", "t5xxl", "ae", "min_snr_gamma", "t5xxl_max_token_length"} <= set(
        result.ignored
    )
    assert "mode_scale" not in result.ignored and "clip_l_dropout_rate" not in result.ignored


def test_a_preset_for_sd3_means_what_the_gui_trains():
    result = read_preset(
        pretrained_model_name_or_path="sd3", LoRA_type="Standard", flux1_checkbox=False,
        sd3_checkbox=True, sd3_cache_text_encoder_outputs=True, sd3_t5xxl="t5.safetensors",
        max_token_length=75,
    )  # fmt: skip
    options = result.options
    assert (options.network_module, options.weighting_scheme) == ("networks.lora", "mode")
    assert (options.logit_mean, options.logit_std, options.mode_scale) == (0.5, 2, 1.1)
    assert options.timestep_sampling is None and options.discrete_flow_shift is None
    assert options.guidance_scale is None and options.cache_text_encoder_outputs
    assert {"t5xxl", "clip_l_dropout_rate"} <= set(result.ignored)
    assert "ae" not in result.ignored and "t5xxl_max_token_length" not in result.ignored


def test_the_box_counts_where_the_base_is_not_on_this_machine():
    result = read_preset(pretrained_model_name_or_path="black-forest-labs/FLUX.1-dev")
    assert result.options.timestep_sampling == "shift"


def test_a_box_that_contradicts_the_base_is_refused():
    with pytest.raises(ConfigError, match="flux1_checkbox is on"):
        read_preset(pretrained_model_name_or_path="tiny")


def test_without_a_box_the_pages_of_flow_models_do_not_count():
    options = read_preset(
        pretrained_model_name_or_path="tiny", LoRA_type="Standard", flux1_checkbox=False,
        fp8_base=False,
    ).options  # fmt: skip
    assert options.blocks_to_swap == 0 and options.timestep_sampling is None
    assert options.min_snr_gamma == 5 and options.clip_skip == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("img_attn_dim", "4"), ("in_dims", "[4, 2]"), ("split_mode", True), ("train_t5xxl", True),
        ("train_double_block_indices", "0-3"), ("train_single_block_indices", "none"),
        ("train_lora_ggpo", True),
    ],
)  # fmt: skip
def test_what_a_page_asks_for_and_is_not_trained_is_refused_by_its_key(key, value):
    with pytest.raises(ConfigError, match=key):
        read_preset(**{key: value})


def test_a_file_says_which_keys_sd_scripts_does_not_read_for_flow_models():
    result = read(FLUX + "min_snr_gamma = 5\nclip_skip = 2\nmax_token_length = 225\n")
    assert result.options.min_snr_gamma is None and result.options.clip_skip == 1
    assert {"min_snr_gamma", "clip_skip", "max_token_length"} <= set(result.ignored)
    assert "sd-scripts does not look" in result.ignored["min_snr_gamma"]
