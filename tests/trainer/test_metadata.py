"""The metadata of a LoRA file: sd-scripts' keys and hashes, and nothing about machine or user."""

import hashlib
import json
import random
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from datasetkit.core.errors import ConfigError
from trainer.files.hashes import checkpoint_hashes, sshs_hashes
from trainer.files.metadata import (
    TAG_FREQUENCY_BYTES,
    BaseFacts,
    RunFacts,
    SaveFacts,
    SubsetFacts,
    base_name,
    dataset_dirs,
    final_metadata,
    fitted,
    minimal,
    modelspec,
    now,
    run_metadata,
    tag_frequency,
)

# The keys that sd-scripts writes in full mode and with folders, but for its own commit.
ALWAYS = """
session_id training_started_at output_name learning_rate text_encoder_lr unet_lr num_train_images
num_validation_images num_reg_images num_batches_per_epoch num_epochs gradient_checkpointing
gradient_accumulation_steps max_train_steps lr_warmup_steps lr_scheduler network_module network_dim
network_alpha network_dropout mixed_precision full_fp16 v2 base_model_version clip_skip
max_token_length cache_latents seed lowram noise_offset multires_noise_iterations
multires_noise_discount adaptive_noise_scale zero_terminal_snr training_comment optimizer
max_grad_norm caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate
face_crop_aug_range prior_loss_weight min_snr_gamma scale_weight_norms ip_noise_gamma
debiased_estimation noise_offset_random_strength ip_noise_gamma_random_strength loss_type
huber_schedule huber_scale huber_c fp8_base fp8_base_unet validation_seed validation_split
max_validation_steps validate_every_n_epochs validate_every_n_steps resize_interpolation
batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption
enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens dataset_dirs
reg_dataset_dirs tag_frequency bucket_info
sd_model_name
""".split()

SUBSETS = (
    SubsetFacts(
        "/home/alice/photos/train/10_sks girl",
        10,
        2,
        captions=("sks girl, Solo, smile", "sks girl,solo"),
    ),
    SubsetFacts(
        "C:\\Users\\alice\\reg\\1_girl", 1, 3, is_reg=True, captions=("girl", "girl", "girl")
    ),
)
FACTS = RunFacts(
    options={
        "network_dim": 64,
        "network_alpha": 32,
        "seed": 42,
        "clip_skip": 2,
        "shuffle_caption": True,
        "output_dir": "/home/alice/out",
    },
    output_name="/home/alice/out/MikamiYua",
    optimizer="torch.optim.adamw.AdamW(weight_decay=0.1)",
    resolution=(512, 512),
    started_at=1_700_000_000.0,
    num_train_images=20,
    num_reg_images=20,
    num_batches_per_epoch=10,
    num_epochs=10,
    max_train_steps=100,
    lr_warmup_steps=5,
    batch_size=4,
    processes=2,
    subsets=SUBSETS,
    buckets={(512, 512): 30, (384, 640): 10},
    mean_ar_error=0.25,
    network_args={"weights": "/home/alice/old.safetensors", "pattern": r"up\..*/x", "rank": 4},
    base_model=BaseFacts("/home/alice/models/base.safetensors", "abcd1234", "f" * 64),
)
SAVE = SaveFacts(finished_at=1_700_003_600.0, steps=100, epoch=10)


def tensors(n=400_000):
    """A LoRA of more than 1 MiB, so that the legacy hash has something to look at."""
    return {
        "lora_unet_x.lora_down.weight": torch.arange(n, dtype=torch.float32),
        "lora_unet_x.alpha": torch.tensor(4.0),
    }


def test_full_metadata_has_all_keys_of_sd_scripts_as_texts():
    message = run_metadata(FACTS)
    assert not {f"ss_{name}" for name in ALWAYS} - message.keys()
    assert all(isinstance(text, str) for text in message.values())


def test_facts_and_options_have_their_keys():
    message = final_metadata(tensors(8), FACTS, SAVE)
    expected = {
        "ss_network_dim": "64",
        "ss_network_alpha": "32",
        "ss_clip_skip": "2",
        "ss_min_snr_gamma": "None",
        "ss_shuffle_caption": "True",
        "ss_resolution": "(512, 512)",
        "ss_batch_size_per_device": "4",
        "ss_total_batch_size": "8",
        "ss_num_train_images": "20",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": "base.safetensors",
        "ss_sd_model_hash": "abcd1234",
        "ss_new_sd_model_hash": "f" * 64,
        "ss_steps": "100",
        "ss_epoch": "10",
        "ss_training_started_at": "1700000000.0",
        "ss_training_finished_at": "1700003600.0",
    }
    assert {key: message[key] for key in expected} == expected
    assert "ss_vae_name" not in message


def test_separate_vae_is_recorded():
    message = run_metadata(replace(FACTS, vae=BaseFacts("D:\\vae\\soft.pt", "1", "2")))
    assert (message["ss_vae_name"], message["ss_vae_hash"], message["ss_new_vae_hash"]) == (
        "soft.pt",
        "1",
        "2",
    )


def test_no_directory_and_no_user_is_written():
    message = final_metadata(
        tensors(8), replace(FACTS, vae=BaseFacts("~/alice/vae.safetensors")), SAVE
    )
    for key, text in message.items():
        assert "alice" not in text, key
        assert "home" not in text, key
        assert "Users" not in text, key
    args = json.loads(message["ss_network_args"])
    assert args == {"weights": "old.safetensors", "pattern": r"up\..*/x", "rank": 4}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b.safetensors", "b.safetensors"),
        ("C:\\a\\b", "b"),
        ("owner/model", "model"),
        ("b", "b"),
        ("/a/b/", "b"),
        ("", ""),
    ],
)
def test_base_name_is_the_last_part_on_any_system(path, name):
    assert base_name(path) == name


def test_tags_are_counted_without_case_and_repeats():
    assert tag_frequency(SUBSETS) == {
        "10_sks girl": {"sks girl": 2, "solo": 2, "smile": 1},
        "1_girl": {"girl": 3},
    }
    assert json.loads(run_metadata(FACTS)["ss_tag_frequency"]) == tag_frequency(SUBSETS)


def test_folders_are_listed_by_kind():
    message = run_metadata(FACTS)
    assert json.loads(message["ss_dataset_dirs"]) == {
        "10_sks girl": {"n_repeats": 10, "img_count": 2}
    }
    assert json.loads(message["ss_reg_dataset_dirs"]) == {
        "1_girl": {"n_repeats": 1, "img_count": 3}
    }


def test_folders_with_the_same_name_are_numbered():
    twins = [
        SubsetFacts("a/img", 1, 1, captions=("x",)),
        SubsetFacts("b/img", 2, 1, captions=("y",)),
        SubsetFacts("img (2)", 4, 1),
        SubsetFacts("reg/img", 3, 1, is_reg=True),
    ]
    dirs, reg = dataset_dirs(twins, is_reg=False), dataset_dirs(twins, is_reg=True)
    assert [d["n_repeats"] for d in dirs.values()] == [1, 2, 4]
    assert [d["n_repeats"] for d in reg.values()] == [3]
    assert tag_frequency(twins).keys() == dirs.keys() | reg.keys()
    assert tag_frequency(twins)["img (2)"] == {"y": 1}


def test_buckets_are_numbered_in_the_order_of_their_sizes():
    assert json.loads(run_metadata(FACTS)["ss_bucket_info"]) == {
        "buckets": {
            "0": {"resolution": [384, 640], "count": 10},
            "1": {"resolution": [512, 512], "count": 30},
        },
        "mean_img_ar_error": 0.25,
    }


def test_rarest_tags_are_left_out_and_counted_when_there_are_too_many():
    rare = tuple(f'"quoted" 写真 {i}' for i in range(30_000))
    message = run_metadata(
        replace(FACTS, subsets=(SubsetFacts("1_x", 1, 1, captions=("often, often", *rare)),))
    )
    kept = json.loads(message["ss_tag_frequency"])["1_x"]
    assert kept["often"] == 2
    assert len(kept) + int(message["ss_tag_frequency_left_out"]) == 30_001
    header = int.from_bytes(safetensors.torch.save(tensors(8), message)[:8], "little")
    assert TAG_FREQUENCY_BYTES * 0.9 < header < 1 << 20


def test_few_tags_are_all_kept():
    assert fitted({"a": {"x": 2, "y": 1}}) == ('{"a": {"x": 2, "y": 1}}', 0)
    assert "ss_tag_frequency_left_out" not in run_metadata(FACTS)


def test_model_hash_covers_everything_after_the_final_header():
    message = final_metadata(tensors(), FACTS, SAVE)
    file = safetensors.torch.save(tensors(), message)
    behind = file[8 + int.from_bytes(file[:8], "little") :]
    assert message["sshs_model_hash"] == hashlib.sha256(behind).hexdigest()
    # float32 0, 1, 2, ... behind the alpha: the same on every machine.
    assert (
        message["sshs_model_hash"]
        == "da9b718543f9be7f149fcfe644d698596010386f1252b4e31731b7c55d5ffd88"
    )


def test_legacy_hash_is_that_of_the_file_with_ss_keys_only():
    message = final_metadata(tensors(), FACTS, SAVE)
    alone = {key: text for key, text in message.items() if key.startswith("ss_")}
    theirs, final = (safetensors.torch.save(tensors(), metadata) for metadata in (alone, message))
    assert message["sshs_legacy_hash"] == hashlib.sha256(theirs[0x100000:0x110000]).hexdigest()[:8]
    assert message["sshs_legacy_hash"] != hashlib.sha256(final[0x100000:0x110000]).hexdigest()[:8]


def test_hashes_of_a_tiny_file_are_defined():
    assert sshs_hashes(tensors(8), {})[1] == hashlib.sha256(b"").hexdigest()[:8]


def test_other_keys_do_not_change_the_hashes():
    assert sshs_hashes(tensors(), {"ss_a": "1"}) == sshs_hashes(
        tensors(), {"ss_a": "1", "modelspec.title": "x"}
    )


def test_checkpoint_hashes_cover_a_window_and_the_whole_file(tmp_path):
    data = random.Random(0).randbytes(0x110000 + 999)
    (tmp_path / "base.safetensors").write_bytes(data)
    short, full = checkpoint_hashes(tmp_path / "base.safetensors")
    assert short == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    assert full == hashlib.sha256(data).hexdigest()


def test_modelspec_describes_the_lora():
    assert modelspec(FACTS, SAVE) | {"modelspec.implementation_version": ""} == {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.implementation_version": "",
        "modelspec.title": "MikamiYua",
        "modelspec.resolution": "512x512",
        "modelspec.date": "2023-11-14T23:13:20",
        "modelspec.prediction_type": "epsilon",
        "modelspec.timestep_range": "0,1000",
        "modelspec.encoder_layer": "2",
    }


def test_minimal_metadata_has_what_a_loader_needs():
    kept = minimal(final_metadata(tensors(8), FACTS, SAVE))
    assert {key for key in kept if not key.startswith("modelspec.")} == {
        "ss_v2",
        "ss_base_model_version",
        "ss_network_module",
        "ss_network_dim",
        "ss_network_alpha",
        "ss_network_args",
    }
    assert "modelspec.architecture" in kept


def test_date_is_fixed_by_source_date_epoch():
    assert now({"SOURCE_DATE_EPOCH": "1700000000"}) == 1_700_000_000.0
    assert abs(now({}) - time.time()) < 60


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", "²"])
def test_unreadable_source_date_epoch_is_an_error(text):
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH"):
        now({"SOURCE_DATE_EPOCH": text})


def test_metadata_is_reproducible_with_fixed_seed_and_date():
    assert final_metadata(tensors(8), FACTS, SAVE) == final_metadata(tensors(8), FACTS, SAVE)
    later = run_metadata(replace(FACTS, started_at=FACTS.started_at + 1))
    other = run_metadata(replace(FACTS, options={**FACTS.options, "seed": 43}))
    assert len({message["ss_session_id"] for message in (run_metadata(FACTS), later, other)}) == 3
