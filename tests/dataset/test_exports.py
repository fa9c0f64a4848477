"""Exports read back as what they say, in the structure that sd-scripts and Hugging Face know."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions.caption import parse
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.records import Caption
from datasetkit.dataset import exports
from datasetkit.dataset.exports import DatasetExport, DatasetSettings, ExportSubset, ImageText
from datasetkit.options import declare, train
from datasetkit.options.train import TrainOptions
from tests.dataset.sd_scripts import SECTIONS

# The configuration of a published face tutorial, which sd-scripts runs as it is.
DATASET_TOML = """
[general]
resolution = 512
shuffle_caption = true
keep_tokens = 1
flip_aug = false
caption_extension = ".txt"
enable_bucket = true
bucket_reso_steps = 64
bucket_no_upscale = false
min_bucket_reso = 256
max_bucket_reso = 1024

[[datasets]]

  [[datasets.subsets]]
  num_repeats = 20
  image_dir = "dataset"

  [[datasets.subsets]]
  is_reg = true
  class_tokens = "1girl"
  num_repeats = 1
  image_dir = "regularization"
"""

CONFIG_TOML = """
[additional_network_arguments]
unet_lr = 0.0005
text_encoder_lr = 0.0001
network_dim = 64
network_alpha = 32
network_module = "networks.lora"

[optimizer_arguments]
learning_rate = 0.0005
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 82
optimizer_type = "AdamW8bit"

[training_arguments]
max_train_epochs = 10
save_every_n_epochs = 1
save_last_n_epochs = 6
clip_skip = 2
min_snr_gamma = 5.0
weighted_captions = false
seed = 42
max_token_length = 75
xformers = true
lowram = true
max_data_loader_n_workers = 8
persistent_data_loader_workers = true
save_precision = "fp16"
mixed_precision = "fp16"
output_dir = "output"
logging_dir = "logs"
output_name = "MikamiYua"
log_prefix = "MikamiYua"
save_state = false

[model_arguments]
pretrained_model_name_or_path = "majicmixRealistic_v6.safetensors"
v2 = false

[saving_arguments]
save_model_as = "safetensors"

[dreambooth_arguments]
prior_loss_weight = 1.0

[dataset_arguments]
cache_latents = true
"""

FACE = DatasetExport(
    DatasetSettings(),
    (
        ExportSubset("dataset", 20),
        ExportSubset("regularization", 1, is_reg=True, class_tokens="1girl"),
    ),
)


def test_dataset_toml_equals_the_reference():
    assert tomllib.loads(exports.kohya_dataset_toml(FACE)) == tomllib.loads(DATASET_TOML)


def test_dataset_toml_is_written_out_in_tables():
    text = exports.kohya_dataset_toml(FACE)
    assert text.count("\n[[datasets]]\n") == 1
    assert text.count("\n  [[datasets.subsets]]\n") == 2
    assert "{" not in text and text.endswith('"regularization"\n')


def test_config_toml_sorts_flat_options_into_the_sections_of_the_reference():
    reference = tomllib.loads(CONFIG_TOML)
    flat = {name: value for table in reference.values() for name, value in table.items()}
    shuffled = dict(sorted(flat.items()))
    text = exports.kohya_config_toml(shuffled, SECTIONS)
    read = tomllib.loads(text)
    assert read == reference
    assert list(read) == list(reference)
    assert {k: list(v) for k, v in read.items()} == {k: list(v) for k, v in reference.items()}


def test_options_that_are_not_set_are_not_written():
    assert exports.sections({"min_snr_gamma": None, "seed": 1}, SECTIONS) == {
        "training_arguments": {"seed": 1}
    }


def test_every_option_is_in_one_section():
    names = [name for table in SECTIONS.values() for name in table]
    assert len(names) == len(set(names)) > 100


def test_every_option_is_declared_with_the_section_that_sd_scripts_has_for_it():
    reference = {name: section for section, names in SECTIONS.items() for name in names}
    declared = {d.name: d.about.section for d in declare.declared(TrainOptions)}
    assert {name: section for name, section in declared.items() if section} == {
        name: reference[name] for name in declared if name in reference
    }
    assert list(SECTIONS) == list(train.SECTIONS)


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="netwrok_dim") as caught:
        exports.kohya_config_toml({"netwrok_dim": 4}, SECTIONS)
    assert "network_dim" in caught.value.hint


@pytest.mark.parametrize(
    ("resolution", "written"), [(512, "512"), ((512, 768), "512,768"), ("640", "640")]
)
def test_resolution_is_text_in_the_training_config(resolution, written):
    assert exports.sections({"resolution": resolution}, SECTIONS) == {
        "dataset_arguments": {"resolution": written}
    }


def test_lists_and_paths_are_written_and_other_things_refused():
    text = exports.kohya_config_toml(
        {"optimizer_args": ("betas=0.9,0.99",), "output_dir": Path("out")}, SECTIONS
    )
    assert tomllib.loads(text) == {
        "optimizer_arguments": {"optimizer_args": ["betas=0.9,0.99"]},
        "training_arguments": {"output_dir": "out"},
    }
    with pytest.raises(ConfigError, match="seed"):
        exports.kohya_config_toml({"seed": object()}, SECTIONS)


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(
    st.one_of(st.integers(64, 4096), st.tuples(st.integers(64, 4096), st.integers(64, 4096))),
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.integers(1, 10**6),
            st.booleans(),
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
            st.one_of(st.none(), st.integers(0, 9)),
        ),
        max_size=4,
    ),
)
def test_any_dataset_survives_writing_and_reading(resolution, subsets):
    export = DatasetExport(
        DatasetSettings(resolution=resolution, batch_size=2),
        tuple(ExportSubset(*s) for s in subsets),
    )
    read = tomllib.loads(exports.kohya_dataset_toml(export))
    assert read["general"]["caption_extension"] == ".txt"
    assert read["general"]["batch_size"] == 2
    assert read["general"]["resolution"] == (
        resolution if isinstance(resolution, int) else list(resolution)
    )
    found = read["datasets"][0].get("subsets", [])
    back = [
        (
            s["image_dir"],
            s["num_repeats"],
            s.get("is_reg", False),
            s.get("class_tokens"),
            s.get("keep_tokens"),
        )
        for s in found
    ]
    assert back == subsets


def test_a_folder_without_repeats_is_refused():
    with pytest.raises(ConfigError, match="num_repeats"):
        ExportSubset("dataset", 0)


def test_imagefolder_metadata_names_files_relative_to_the_folder(tmp_path):
    items = [
        ImageText(tmp_path / "a.png", parse("sks, 1girl")),
        ImageText(tmp_path / "sub" / "日本.jpg", Caption(('say "hi"', "\\o/"))),
    ]
    text = exports.imagefolder_metadata(items, tmp_path)
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert rows == [
        {"file_name": "a.png", "text": "sks, 1girl"},
        {"file_name": "sub/日本.jpg", "text": 'say "hi", \\o/'},
    ]
    assert exports.imagefolder_metadata([], tmp_path) == ""


def test_an_image_outside_of_the_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"b\.png"):
        exports.imagefolder_metadata([ImageText(tmp_path / "b.png", parse("x"))], tmp_path / "a")


def test_meta_json_is_keyed_as_sd_scripts_looks_images_up(tmp_path):
    items = [
        ImageText(tmp_path / "10_sks" / "a.v2.png", parse("sks, 1girl"), "a girl"),
        ImageText(tmp_path / "b.png", parse("sks")),
    ]
    assert json.loads(exports.meta_json(items, tmp_path)) == {
        "10_sks/a.v2": {"tags": "sks, 1girl", "caption": "a girl"},
        "b": {"tags": "sks"},
    }
    assert list(json.loads(exports.meta_json(items, tmp_path, full_path=True))) == [
        str(i.image) for i in items
    ]


def test_two_images_with_one_stem_are_refused_in_meta_json(tmp_path):
    items = [ImageText(tmp_path / name, parse("x")) for name in ("a.jpg", "a.png")]
    with pytest.raises(InputError, match="stem") as caught:
        exports.meta_json(items, tmp_path)
    assert "dsk rename" in caught.value.hint
    assert len(json.loads(exports.meta_json(items, tmp_path, full_path=True))) == 2
