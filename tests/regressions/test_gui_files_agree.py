"""The GUI of kohya_ss saves settings as JSON and writes a TOML of them for sd-scripts: both must
train the same.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.options.network_args import read as read_network
from datasetkit.options.train import TrainOptions
from trainer.config import translate

# What the settings of all presets share: the preset's keys, and what the GUI writes for them.
PRESET: dict[str, Any] = {
    "additional_parameters": "", "bucket_no_upscale": True, "bucket_reso_steps": 64,
    "cache_latents": True, "caption_extension": ".txt", "clip_skip": 1, "dataset_config": "",
    "enable_bucket": True, "epoch": 3, "gradient_accumulation_steps": 1, "keep_tokens": 0,
    "lr_scheduler_args": "", "lr_scheduler_power": 1, "lr_scheduler_type": "", "lr_warmup_steps": 0,
    "max_bucket_reso": 2048, "max_data_loader_n_workers": 0, "max_grad_norm": 1,
    "max_resolution": "512,512", "max_timestep": 1000, "max_token_length": 75,
    "max_train_epochs": 0, "max_train_steps": 0, "min_bucket_reso": 256, "min_snr_gamma": 0,
    "network_weights": "", "noise_offset_type": "Original", "optimizer_args": "",
    "output_dir": "model", "output_name": "face", "persistent_data_loader_workers": False,
    "pretrained_model_name_or_path": "tiny", "prior_loss_weight": 1, "reg_data_dir": "",
    "sample_prompts": "", "save_every_n_epochs": 1, "save_model_as": "safetensors", "seed": 0,
    "train_batch_size": 2, "train_data_dir": "img", "v2": False, "xformers": "xformers",
}  # fmt: skip
TOML: dict[str, Any] = {
    "bucket_no_upscale": True, "bucket_reso_steps": 64, "cache_latents": True,
    "caption_extension": ".txt", "clip_skip": 1, "enable_bucket": True, "epoch": 3,
    "gradient_accumulation_steps": 1, "lr_scheduler_args": [], "lr_scheduler_power": 1,
    "max_bucket_reso": 2048, "max_grad_norm": 1, "max_timestep": 1000, "max_token_length": 75,
    "min_bucket_reso": 256, "noise_offset_type": "Original", "optimizer_args": [],
    "output_dir": "model", "output_name": "face", "pretrained_model_name_or_path": "tiny",
    "prior_loss_weight": 1, "resolution": "512,512", "sample_prompts": "model/sample/prompt.txt",
    "save_every_n_epochs": 1, "save_model_as": "safetensors", "train_batch_size": 2,
    "train_data_dir": "img", "wandb_run_name": "face", "xformers": True,
}  # fmt: skip

# 5 images x 2 repeats: ten samples an epoch.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "of 2023, cycles left empty": (
        {
            "LoRA_type": "Standard", "learning_rate": "0.0001", "lr_scheduler_num_cycles": "",
            "lr_scheduler": "cosine_with_restarts", "lr_warmup": "10", "mixed_precision": "fp16",
            "network_alpha": 64.0, "network_dim": 128, "optimizer": "AdamW8bit",
            "save_precision": "fp16", "text_encoder_lr": "5e-5", "unet_lr": "0.0001",
            "train_batch_size": 4, "clip_skip": "2", "epoch": "4", "seed": "1234",
        },
        {
            "learning_rate": 0.0001, "lr_scheduler": "cosine_with_restarts", "epoch": 4,
            "lr_scheduler_num_cycles": 4, "lr_warmup_steps": 0.1, "mixed_precision": "fp16",
            "network_alpha": 64.0, "network_args": [], "network_dim": 128, "clip_skip": 2,
            "network_module": "networks.lora", "optimizer_type": "AdamW8bit", "seed": 1234,
            "save_precision": "fp16", "text_encoder_lr": [5e-5, 5e-5], "unet_lr": 0.0001,
            "train_batch_size": 4, "max_train_steps": 10,
        },
    ),
    "LoHa without 3x3 convolutions": (
        {
            "LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "full", "conv_alpha": 1, "conv_dim": 0,
            "dora_wd": False, "bypass_mode": False, "learning_rate": 0.0003, "lr_scheduler":
            "constant", "lr_scheduler_num_cycles": 1, "lr_warmup": 0, "mixed_precision": "bf16",
            "module_dropout": 0.1, "network_alpha": 4, "network_dim": 8, "optimizer": "Prodigy",
            "optimizer_args": '"decouple=True" "weight_decay=0.01"', "rank_dropout": 0,
            "rank_dropout_scale": False, "save_precision": "bf16", "sdxl": True,
            "text_encoder_lr": 0.0003, "train_norm": False, "unet_lr": 0.0003,
            "use_scalar": False, "use_tucker": False, "gradient_accumulation_steps": 2,
        },
        {
            "learning_rate": 0.0003, "lr_scheduler": "constant", "lr_scheduler_num_cycles": 1,
            "mixed_precision": "bf16", "network_alpha": 4, "network_dim": 8,
            "network_args": ["preset=full", "conv_dim=0", "conv_alpha=1", "use_tucker=False",
                "rank_dropout=0", "bypass_mode=False", "dora_wd=False", "module_dropout=0.1",
                "use_tucker=False", "use_scalar=False", "rank_dropout_scale=False", "algo=loha",
                "train_norm=False"],
            "network_module": "lycoris.kohya", "optimizer_type": "Prodigy",
            "optimizer_args": ["decouple=True", "weight_decay=0.01"], "save_precision": "bf16",
            "text_encoder_lr": [0.0003, 0.0003], "unet_lr": 0.0003, "max_train_steps": 8,
            "gradient_accumulation_steps": 2,
        },
    ),
    "no text encoder, pyramid noise, regularisation": (
        {
            "LoRA_type": "Kohya LoCon", "conv_alpha": 4, "conv_dim": 8, "learning_rate": 0.0001,
            "lr_scheduler": "cosine", "lr_scheduler_num_cycles": 1, "lr_warmup": 5,
            "mixed_precision": "no", "multires_noise_discount": 0.3, "multires_noise_iterations": 6,
            "network_alpha": 8, "network_dim": 16, "noise_offset": 0.05, "optimizer": "AdamW",
            "noise_offset_type": "Multires", "save_precision": "float", "text_encoder_lr": 0,
            "unet_lr": 0.0002, "reg_data_dir": "reg", "min_snr_gamma": 5, "loraplus_lr_ratio": 4,
        },
        {
            "learning_rate": 0.0001, "lr_scheduler": "cosine", "lr_scheduler_num_cycles": 1,
            "lr_warmup_steps": 0.05, "mixed_precision": "no", "multires_noise_discount": 0.3,
            "multires_noise_iterations": 6, "network_alpha": 8, "network_dim": 16,
            "network_args": ["conv_dim=8", "conv_alpha=4", "loraplus_lr_ratio=4"],
            "network_module": "networks.lora", "network_train_unet_only": True,
            "noise_offset_type": "Multires", "optimizer_type": "AdamW", "save_precision": "float",
            "unet_lr": 0.0002, "reg_data_dir": "reg", "max_train_steps": 30, "min_snr_gamma": 5,
        },
    ),
    "LoKr, max_train_epochs": (
        {
            "LoRA_type": "LyCORIS/LoKr", "LyCORIS_preset": "attn-mlp", "conv_alpha": 1,
            "conv_dim": 4, "factor": 8, "decompose_both": True, "dora_wd": True, "use_cp": False,
            "learning_rate": 1.0, "lr_scheduler": "cosine", "lr_scheduler_num_cycles": "",
            "lr_warmup": 0, "mixed_precision": "bf16", "network_alpha": 1, "network_dim": 100000,
            "optimizer": "Prodigy", "save_precision": "fp16", "text_encoder_lr": 1.0,
            "unet_lr": 1.0, "max_train_epochs": "7", "keep_tokens": "2",
        },
        {
            "learning_rate": 1.0, "lr_scheduler": "cosine", "lr_scheduler_num_cycles": 3,
            "mixed_precision": "bf16", "network_alpha": 1, "network_dim": 100000,
            "network_args": ["preset=attn-mlp", "conv_dim=4", "conv_alpha=1", "rank_dropout=0",
                "dora_wd=True", "module_dropout=0", "factor=8", "use_cp=False",
                "decompose_both=True", "algo=lokr", "train_norm=False"],
            "network_module": "lycoris.kohya", "optimizer_type": "Prodigy", "keep_tokens": 2,
            "save_precision": "fp16", "text_encoder_lr": [1.0, 1.0], "unet_lr": 1.0,
            "max_train_epochs": 7, "max_train_steps": 15,
        },
    ),
    "a dataset.toml, for which epoch does not count": (
        {
            "LoRA_type": "Standard", "dataset_config": "dataset.toml", "learning_rate": 0.0001,
            "lr_scheduler": "constant", "lr_warmup": 0, "mixed_precision": "fp16",
            "network_alpha": 1, "network_dim": 8, "optimizer": "AdamW", "save_precision": "fp16",
            "text_encoder_lr": 0.0001, "unet_lr": 0.0001, "train_data_dir": "", "epoch": 9,
        },
        {
            "dataset_config": "dataset.toml", "learning_rate": 0.0001, "lr_scheduler": "constant",
            "mixed_precision": "fp16", "network_alpha": 1, "network_args": [], "network_dim": 8,
            "network_module": "networks.lora", "optimizer_type": "AdamW", "save_precision": "fp16",
            "text_encoder_lr": [0.0001, 0.0001], "unet_lr": 0.0001, "train_data_dir": "",
            "epoch": 9,
        },
    ),
}  # fmt: skip
PERCENT: dict[Any, float] = {"10%": 0.1, "5%": 0.05}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for subset, colors in {"img/2_sks": "red green blue gray tan", "reg/1_x": "white"}.items():
        (tmp_path / subset).mkdir(parents=True)
        for color in colors.split():
            Image.new("RGB", (512, 512), color).save(tmp_path / subset / f"{color}.png")
    (tmp_path / "dataset.toml").write_text(
        '[[datasets]]\nresolution = 512\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = "img"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(values: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())


def facts(file: Path) -> dict[str, Any]:
    """The options of a file as one comparable value each."""
    options = translate(file, None, {}).options
    values = {f.name: getattr(options, f.name) for f in fields(TrainOptions)}
    values["lr_warmup_steps"] = PERCENT.get(options.lr_warmup_steps, options.lr_warmup_steps)
    if options.max_train_steps:
        del values["max_train_epochs"]  # without an effect beside steps
    values["network_args"] = read_network(
        options.network_module,
        options.network_args,
        dim=options.network_dim,
        alpha=options.network_alpha,
    )
    return values


@pytest.mark.parametrize("name", SETTINGS)
def test_a_preset_and_its_toml_give_the_same_options(folder, name):
    preset, toml = SETTINGS[name]
    Path("preset.json").write_text(json.dumps(PRESET | preset))
    Path("config.toml").write_text(written(TOML | toml))
    assert facts(Path("preset.json")) == facts(Path("config.toml"))


def test_steps_of_an_epoch_give_way_to_what_is_typed(folder):
    preset = PRESET | SETTINGS["of 2023, cycles left empty"][0]
    Path("p.json").write_text(json.dumps(preset))
    assert translate(Path("p.json"), None, {"max_train_epochs": 2}).options.max_train_epochs == 2
    assert translate(Path("p.json"), None, {"max_train_steps": 7}).options.max_train_steps == 7
    assert translate(Path("p.json"), None, {"train_batch_size": 2}).options.max_train_steps == 20
    more = {"additional_parameters": "--max_train_epochs 5"}
    Path("p.json").write_text(json.dumps(preset | more))
    assert translate(Path("p.json"), None, {}).options.max_train_epochs == 5
