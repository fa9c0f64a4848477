"""Files of sd-scripts, the GUI of kohya_ss, LoRA_Easy_Training_Scripts and lora-scripts are read as
their programs write them, and all that is wrong with one becomes one error.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.core.errors import ConfigError, DskError
from datasetkit.options.declare import declared
from datasetkit.options.train import TrainOptions
from trainer.config import keys, translate
from trainer.config.findings import Findings
from trainer.config.formats import Format, OptionsFile, read_file
from trainer.config.keys import TABLE, KeyMeaning
from trainer.config.values import FOLDERS, LEVELS, RUN, translated

CONFIGS = Path(__file__).parent / "configs"
FORMATS = {
    "colab_config.toml": Format.SD_CONFIG,
    "colab_dataset.toml": Format.SD_DATASET,
    "easy_scripts.toml": Format.EASY_SCRIPTS,
    "every_key.toml": Format.SD_CONFIG,
    "gui_lycoris_locon.json": Format.GUI_PRESET,
    "gui_other_models_off.json": Format.GUI_PRESET,
    "gui_sdxl.json": Format.GUI_PRESET,
    "gui_standard.json": Format.GUI_PRESET,
    "kohya_gui_defaults.toml": Format.GUI_CONFIG,
    "kohya_gui_newer.toml": Format.GUI_CONFIG,
    "lora_scripts_default.toml": Format.LORA_SCRIPTS,
    "lora_scripts_saved.toml": Format.LORA_SCRIPTS,
    "multires_dataset.toml": Format.SD_DATASET,
    "sd_scripts_config.toml": Format.SD_CONFIG,
    "sd_scripts_dataset.toml": Format.SD_DATASET,
}
PLANNED = [name for name in FORMATS if name != "colab_dataset.toml"]
NAMES = tomllib.loads(Path(__file__).with_name("foreign_keys.toml").read_text(encoding="utf-8"))
OPTIONS = {d.name: d for d in declared(TrainOptions)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images of two folders, an empty prompt file and all configs."""
    root = tmp_path_factory.mktemp("made")
    for folder, colors in {"img/2_sks": "red green blue gray", "reg/1_girl": "white black"}.items():
        (root / folder).mkdir(parents=True)
        for color in colors.split():
            Image.new("RGB", (512, 512), color).save(root / folder / f"{color}.png")
            (root / folder / f"{color}.txt").write_text(f"sks, {color}")
    (root / "model/sample").mkdir(parents=True)
    (root / "model/sample/prompt.txt").write_text("")
    shutil.copytree(CONFIGS, root, dirs_exist_ok=True)
    return root


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """The current folder: a copy of what was made."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text, name="config.toml"):
    path = Path(name)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def options_of(text, name="config.toml", **overrides):
    return translate(write(text, name), None, overrides, data_dir=Path("img")).options


def refusal(text, name="config.toml"):
    """The error of a file: its message, the lines of its keys, and the hint, as one text."""
    with pytest.raises(ConfigError) as caught:
        options_of(text, name)
    return "\n".join((caught.value.message, *caught.value.details, caught.value.hint))


# ---- the files of public setups


def test_every_file_of_the_folder_is_tried():
    assert {path.name for path in CONFIGS.iterdir()} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_by_its_content(folder, name):
    path = Path(name).rename(f"renamed{Path(name).suffix}")
    assert read_file(path).format is FORMATS[name]


@pytest.mark.parametrize("name", PLANNED)
def test_a_file_of_a_public_setup_is_planned(folder, dsk, name):
    """bitsandbytes need not be installed: AdamW8bit becomes AdamW. A dataset.toml has no base."""
    command = ["train", name, "--set", "pretrained_model_name_or_path=tiny"]
    if name == "colab_config.toml":
        command = ["train", "--config-file", name, "--dataset-config", "colab_dataset.toml"]
    if "AdamW8bit" in Path(name).read_text():
        command += ["--set", "optimizer_type=AdamW"]
    ended = dsk(*command, "--dry-run")
    assert ended.code == 0, ended.err
    assert ended.err.count("warning:") <= 1
    assert f"{name} as {FORMATS[name].value}" in ended.out
    assert ended.out.count("without an effect here") <= 1


def test_a_dataset_for_each_resolution_is_a_block(folder):
    read = translate(Path("multires_dataset.toml"), None, {})
    assert [subset.block.rules.resolution[0] for subset in read.subsets] == [1024, 768, 512]


def test_validation_that_differs_between_datasets_is_refused(folder):
    tables = [f"[[datasets]]\nvalidation_split = {share}\n{SUBSET}" for share in (0.1, 0.2)]
    write("\n".join(tables), "dataset.toml")
    with pytest.raises(ConfigError, match="validation_split differs"):
        translate(None, Path("dataset.toml"), {})


# ---- what a file means


def test_a_preset_of_the_gui_means_what_the_gui_trains(folder):
    options = translate(Path("gui_standard.json"), None, {}).options
    assert (options.optimizer_type, options.resolution) == ("AdamW8bit", (512, 512))
    assert (options.network_dim, options.network_alpha, options.seed) == (64, 64, 1234)
    assert (options.max_train_epochs, options.lr_warmup_steps) == (4, "10%")
    assert options.optimizer_args == ("weight_decay=0.1", "betas=0.9,0.99")
    # Of the two kinds of noise only the chosen one.
    assert (options.noise_offset, options.multires_noise_iterations) == (0.05, 0)
    assert options.keep_tokens == 1 and options.v_parameterization is None

    options = translate(Path("gui_lycoris_locon.json"), None, {}).options
    assert options.network_module == "lycoris.kohya"
    assert set(options.network_args) == {
        "preset=full", "algo=locon", "conv_dim=32", "conv_alpha=16",
    }  # fmt: skip
    assert (options.noise_offset, options.multires_noise_iterations) == (0, 8)
    assert options.max_train_steps == 320

    options = translate(Path("gui_sdxl.json"), None, {}).options
    assert options.network_train_unet_only and options.network_args == (
        "conv_dim=4", "conv_alpha=4",
    )  # fmt: skip
    assert options.max_grad_norm == 0  # of additional_parameters

    options = translate(Path("gui_other_models_off.json"), None, {}).options
    assert (options.clip_skip, options.seed, options.max_train_epochs) == (1, 42, 2)


def test_a_preset_s_zeros_are_not_passed_on(folder):
    """The GUI leaves what is 0, empty or off out of the file for sd-scripts."""
    numbers = {
        name: 0
        for name in NAMES["gui_json"].split()
        if (d := OPTIONS.get(name)) is not None and d.is_number
    }
    preset = numbers | {"LoRA_type": "Standard", "text_encoder_lr": 1e-4, "unet_lr": 1e-4}
    zeros = translate(write(preset, "p.json"), None, {}, data_dir=Path("img")).options
    plain = {"LoRA_type": "Standard", "text_encoder_lr": 1e-4, "unet_lr": 1e-4}
    assert translate(write(plain, "p.json"), None, {}, data_dir=Path("img")).options == zeros
    assert len(numbers) > 30 and zeros.max_grad_norm == 1


def test_tables_of_the_easy_scripts_are_options_and_folders(folder):
    read = translate(Path("easy_scripts.toml"), None, {})
    options = read.options
    assert options.network_args == ("conv_dim=8", "conv_alpha=1.0")
    assert options.optimizer_args == ("weight_decay=0.1", "betas=0.9,0.99")
    assert (options.lr_warmup_steps, options.train_batch_size) == (0.05, 2)
    assert (options.output_name, options.enable_bucket) == ("face-v1", True)
    assert [(s.folder.name, s.repeats, s.captions.keep_tokens) for s in read.subsets] == [
        ("2_sks", 10, 1)
    ]


def test_lora_scripts_arguments_are_those_of_the_network(folder):
    options = translate(Path("lora_scripts_saved.toml"), None, {}).options
    assert options.network_args == (
        "algo=lokr", "conv_dim=4", "conv_alpha=1", "factor=-1",
    )  # fmt: skip
    assert (options.unet_lr, options.max_token_length) == (1e-4, 225)
    options = translate(Path("lora_scripts_default.toml"), None, {}).options
    assert options.lr_scheduler_num_cycles == 1


def test_a_rank_that_means_whole_factors_is_the_largest(folder):
    assert translate(Path("every_key.toml"), None, {}).options.network_dim == 4096
    assert "network_dim" in refusal("network_dim = 100000")


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ('reg_data_dir = ""', "resolution", 512),
        ('train_data_dir = ""', "resolution", 512),
        ('dataset_config = ""', "resolution", 512),
        ("max_train_steps = 0", "max_train_steps", 1600),
        ("max_train_epochs = 0", "max_train_steps", 1600),
        ("clip_skip = 0", "clip_skip", 1),
        ("max_timestep = 0", "max_timestep", 1000),
        ("max_token_length = 0", "max_token_length", 75),
        ("save_last_n_epochs = 0", "save_last_n_epochs", None),
        ("save_last_n_steps = 0", "save_last_n_steps", None),
        ("lr_scheduler_timescale = 0", "lr_scheduler_timescale", None),
        ("huber_c = 0", "huber_c", 0.1),
        ("lr_scheduler_num_cycles = 0", "lr_scheduler_num_cycles", 1),
        ("max_validation_steps = 0", "max_validation_steps", None),
        ("min_bucket_reso = 0", "min_bucket_reso", 256),
        ("bucket_reso_steps = 0\nmax_bucket_reso = 0", "bucket_reso_steps", 64),
        ("max_grad_norm = 0", "max_grad_norm", 0),
        ("seed = 0", "seed", 0),
        ("text_encoder_lr = [1e-4, 1e-4]", "text_encoder_lr", 1e-4),
        ("text_encoder_lr = [1e-4]", "text_encoder_lr", 1e-4),
        ("text_encoder_lr = [1e-4, 2e-4]", "text_encoder_lr", (1e-4, 2e-4)),
        ("use_8bit_adam = true", "optimizer_type", "AdamW8bit"),
        ("use_lion_optimizer = true", "optimizer_type", "Lion"),
        ("use_8bit_adam = false", "optimizer_type", "AdamW"),
        ('unet_lr = "1e-4"', "unet_lr", 1e-4),
        ("persistent_data_loader_workers = 0\nshuffle_caption = 1", "shuffle_caption", True),
        ('vae = ""', "vae", ""),
        ("resume = false", "seed", 42),
        ('lr_scheduler_type = ""', "lr_scheduler_type", ""),
    ],
)
def test_what_is_not_set_there_is_not_set_here(folder, line, option, value):
    assert getattr(options_of(line), option) == value


def test_zero_steps_or_epochs_leave_the_other(folder):
    options = options_of("max_train_steps = 0\nmax_train_epochs = 3")
    assert (options.max_train_epochs, options.max_train_steps) == (3, None)
    assert options_of("max_train_steps = 70\nmax_train_epochs = 0").max_train_steps == 70


def test_an_epoch_of_a_gui_s_toml_counts_nothing(folder):
    assert options_of("epoch = 9\nmax_train_steps = 70").max_train_steps == 70


# ---- preview images


def test_prompts_are_read_only_where_previews_are_asked_for(folder, dsk):
    write("")
    lines = 'resolution = 512\npretrained_model_name_or_path = "tiny"\n'
    empty = f'{lines}sample_prompts = "model/sample/prompt.txt"\n'
    missing = f'{lines}sample_prompts = "nowhere.txt"\n'
    for text in (empty, missing):
        assert options_of(text).sample_prompts == ""
        asked = options_of(text, sample_every_n_epochs=1)
        assert asked.sample_prompts and asked.sample_every_n_epochs == 1
    write(f"{empty}sample_every_n_epochs = 1\n")
    ended = dsk("train", "img", "--config-file", "config.toml", "--dry-run")
    assert ended.code == 2 and "has no prompt" in ended.err


def test_previews_without_prompts_are_left_out_with_a_warning(folder):
    write("sample_every_n_steps = 100")
    read = translate(Path("config.toml"), None, {}, data_dir=Path("img"))
    assert read.options.sample_every_n_steps is None
    assert "no preview images" in read.notices[0]
    Path("p.txt").write_text("sks")
    read = translate(Path("config.toml"), None, {"sample_prompts": "p.txt"}, data_dir=Path("img"))
    assert read.options.sample_every_n_steps == 100 and not read.notices


# ---- what is wrong with a file


def test_all_problems_of_a_file_are_one_error(folder, dsk):
    write("""
netwerk_dim = 8
clip_skip = 40
deepspeed = true
save_model_as = "ckpt"
train_batch_size = "many"
network_args = ["conv_dims=4", "use_tucker=True"]
some_switch = false
""")
    ended = dsk("train", "img", "--config-file", "config.toml", "--dry-run")
    assert ended.code == 2
    lines = ended.err.splitlines()
    assert lines[0] == "error: config.toml: 7 keys must be changed"
    assert lines[-1].startswith("hint: docs/from-sd-scripts.md")
    keys_named = [re.match(r"  (?:unknown key '(\w+)'|(\w+))", line) for line in lines[1:-1]]
    names = [match[1] or match[2] for match in keys_named if match]
    assert names == [
        "clip_skip", "deepspeed", "netwerk_dim", "network_args", "network_args", "save_model_as",
        "train_batch_size",
    ]  # fmt: skip
    assert "did you mean 'network_dim'?" in ended.err and ended.err.count("error:") == 1


def test_problems_of_two_files_are_one_error(folder):
    write('deepspeed = true\ndataset_config = "d.toml"')
    write('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "img"\nflip_agu = true\n', "d.toml")
    with pytest.raises(ConfigError) as caught:
        translate(Path("config.toml"), None, {})
    assert "config.toml and d.toml: 2 keys" in caught.value.message
    assert [line.split(":")[0] for line in caught.value.details] == ["config.toml", "d.toml"]


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ("netwerk_dim = 8", "did you mean 'network_dim'?"),
        ('some_offset_typo = "x"', "remove it"),
        ('noise_ofset = "Original"', "remove it"),  # noise_offset is a number
        ("noise_ofset = 0.1", "did you mean 'noise_offset'?"),
        ("batch_size = 4", "did you mean 'train_batch_size'?"),
        ('optimizer = "AdamW"', "did you mean 'optimizer_type'?"),
        ("conv_dim = 8", 'network_args = ["conv_dim=..."]'),
        ('algo = "loha"', '"lycoris.kohya" and network_args = ["algo=..."]'),
        ("dora_wd = true", 'network_args = ["dora_wd=..."]'),
    ],
)
def test_a_hint_names_a_near_key_of_the_same_type(folder, line, suggested):
    assert suggested in refusal(line)


def test_the_kind_of_noise_is_read_and_no_misspelling(folder):
    options = options_of('noise_offset_type = "Multires"\nnoise_offset = 0.1')
    assert options.noise_offset == 0


@pytest.mark.parametrize("value", ["false", "0", '""', "[]", '"None"', "0.0"])
def test_an_unknown_key_that_is_off_is_a_warning(folder, value):
    write(f"brand_new_option = {value}")
    read = translate(Path("config.toml"), None, {}, data_dir=Path("img"))
    assert read.notices == ("unknown keys that are off have no effect: brand_new_option",)
    assert "unknown key 'brand_new_option'" in refusal("brand_new_option = 1")


def test_every_key_of_the_table_is_silent_where_it_is_off():
    for key in TABLE:
        for value in (False, 0, "", [], None, *key.off):
            findings = Findings()
            assert translated({key.name: value}, "f", findings, {key.name: key}, RUN) == {}
            assert not findings.problems and not findings.ignored and not findings.unknown, key


@pytest.mark.parametrize("table", [keys.FLAT, keys.PRESET, keys.EASY_SCRIPTS, keys.LORA_SCRIPTS])
def test_no_key_of_the_table_is_an_option(table):
    options = {d.name for d in declared(TrainOptions)}
    assert {name for name in table if name in options} <= {"prior_loss_weight"} | keys.FLOW


def test_not_needed_and_not_supported_exclude_each_other():
    for table in (keys.FLAT, keys.PRESET, keys.EASY_SCRIPTS, keys.LORA_SCRIPTS):
        for key in table.values():
            assert key.text or key.meaning is KeyMeaning.ONE_VALUE
    targets = {k.text for k in TABLE if k.meaning is KeyMeaning.OPTION and k.text.isidentifier()}
    assert targets <= {d.name for d in declared(TrainOptions)}


# ---- dataset.toml

SUBSET = '[[datasets.subsets]]\nimage_dir = "img/2_sks"\n'
OF_THE_RUN = [
    d.name
    for d in declared(TrainOptions)
    if d.about.level == "run" and not d.name.startswith("va") and d.name not in keys.FLOW
]


@pytest.mark.parametrize("place", ["[general]", "[[datasets]]", "[[datasets.subsets]]"])
def test_options_of_the_run_are_refused_in_a_dataset_toml(folder, place):
    lines = "\n".join(f"{name} = 1" for name in OF_THE_RUN)
    texts = {
        "[general]": f"[general]\n{lines}\n[[datasets]]\n{SUBSET}",
        "[[datasets]]": f"[[datasets]]\n{lines}\n{SUBSET}",
        "[[datasets.subsets]]": f"[[datasets]]\n{SUBSET}{lines}\n",
    }
    write(texts[place], "dataset.toml")
    with pytest.raises(ConfigError) as caught:
        translate(None, Path("dataset.toml"), {})
    assert len(caught.value.details) == len(OF_THE_RUN)
    assert all(place in line and "config.toml" in line for line in caught.value.details)


def test_keys_of_a_dataset_are_refused_in_its_subsets(folder):
    write(f"[[datasets]]\n{SUBSET}resolution = 512\n", "dataset.toml")
    with pytest.raises(ConfigError, match="resolution does not belong into") as caught:
        translate(None, Path("dataset.toml"), {})
    assert "[[datasets]]" in caught.value.hint


def test_validation_of_a_dataset_toml_is_that_of_the_run(folder):
    read = translate(Path("sd_scripts_config.toml"), None, {})
    assert (read.options.validation_split, read.options.validation_seed) == (0.25, 7)
    write(f"[general]\nvalidation_split = 0.5\n[[datasets]]\n{SUBSET}", "dataset.toml")
    options = translate(write("validation_split = 0.1"), Path("dataset.toml"), {}).options
    assert options.validation_split == 0.5  # a dataset.toml stands above the config.toml


@pytest.mark.parametrize(
    "text",
    ["datasets = 1", "[datasets]\na = 1", "datasets = [1]", "general = 1\n[[datasets]]",
     "[[datasets]]\nsubsets = 1", "[[datasets]]\nsubsets = [1]", "[other]\n[[datasets]]"],
)  # fmt: skip
def test_wrong_tables_of_a_dataset_toml_are_one_line(folder, dsk, text):
    write(text, "dataset.toml")
    ended = dsk("train", "dataset.toml", "--dry-run")
    assert ended.code == 2 and len(ended.err.splitlines()) == 2 and "[[datasets" in ended.err


# ---- the files themselves


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b'{"a": 1, "a": 2}', "p.json", "a is given twice"),
        (b'{"a": 1,}', "p.json", "is not valid JSON"),
        (b"[1, 2]", "p.json", "is JSON, and no preset"),
        (b'{"base_model_name": "x", "optimizer": {}}', "p.json", "no preset of the kohya_ss GUI"),
        (b'{"max_resolution": "512", "num_vectors_per_token": 8}', "p.json", "textual inversion"),
        (b'{"max_resolution": "1", "learning_rate_te": 8}', "p.json", "full finetuning"),
        (b'{"max_resolution": "1", "optimizer": "", "lr_warmup": 0}', "p.json", "Dreambooth"),
        (b'{"LoRA_type": "Standard"}', "p.toml", "no dataset is given"),
        ("öl = 1".encode("latin-1"), "c.toml", "is not UTF-8 text"),
        ("a = 1".encode("utf-16"), "c.toml", "is not UTF-8 text"),
        (b"a = " + b"[" * 100_000, "c.toml", "brackets inside brackets"),
        (b'{"a": ' + b"[" * 100_000, "p.json", "brackets inside brackets"),
        (b"a = 1" + b"0" * 5000, "c.toml", "too large"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "p.json", "too large"),
        (b"#" * (5 << 20), "c.toml", "more than 4 MiB"),
        ("a = 1".encode("utf-16-le"), "c.toml", "is not UTF-8 text"),
        (b"", "p.json", "p.json is empty"),
        (b"", "c.toml", "c.toml has no options"),
        (b"# nothing\n", "c.toml", "c.toml has no options"),
        (b'{"LoRA_type": "Standard", // mine\n "seed": 1}', "p.json", "JSON has no comments"),
        (b"{'LoRA_type': 1}", "p.json", "write double quotes"),
        (b"job: extension\nconfig:\n  name: x\n", "c.yaml", "ai-toolkit"),
        (b'{"job": "extension", "config": {"process": []}}', "p.json", "of ai-toolkit"),
        (b'{"training_method": "LORA", "model_type": "SD_15"}', "p.json", "of OneTrainer"),
        (
            b'{"training_method": "LORA", "model_type": "FLUX_DEV_1", "base_model_name": "x",'
            b' "prior": {"train": true}, "timestep_distribution": "LOGIT_NORMAL",'
            b' "noising_weight": 0.0, "noising_bias": 0.0, "timestep_shift": 1.0,'
            b' "dynamic_timestep_shifting": false}',
            "p.json",
            "of OneTrainer",
        ),
        (
            b'{"job": "extension", "config": {"name": "x", "process": [{"type": "sd_trainer",'
            b' "train": {"noise_scheduler": "flowmatch", "timestep_type": "sigmoid",'
            b' "bypass_guidance_embedding": false, "content_or_style": "balanced"}}]}}',
            "p.json",
            "of ai-toolkit",
        ),
        (b'{"--model_type": "lora", "--lora_rank": 4}', "p.json", "of SimpleTuner"),
        (b'{"img_folder": "x", "net_dim": 4, "alpha": 1}', "p.json", "Scripts of 2023"),
        (b"epochs = 9\nmicro_batch_size_per_gpu = 1\n[model]", "c.toml", "of diffusion-pipe"),
        (b'{"nodes": [{"id": 1}], "links": [], "version": 0.4}', "p.json", "ComfyUI"),
        (b'{"3": {"class_type": "KSampler", "inputs": {}}}', "p.json", "ComfyUI"),
        (b'{"samples_save": true, "sd_model_checkpoint": "x"}', "p.json", "web interface"),
        (b'{"name": "x", "dependencies": {"a": "1"}}', "package.json", "no preset of the kohya"),
        (b'[project]\nname = "x"\n[tool.ruff]\n', "pyproject.toml", "is a pyproject.toml"),
        (b"\x89PNG", "image.png", "is not a file of options"),
        (b"a = 2024-01-01", "c.toml", "unknown key 'a'"),
        (b"seed = 2024-01-01", "c.toml", "seed"),
        (b"learning_rate = nan", "c.toml", "learning_rate"),
        (b"train_data_dir = [1]", "c.toml", "train_data_dir"),
        (b'"\\u001b[31m" = 1', "c.toml", "unknown key"),
    ],
)
def test_a_file_that_is_no_config_is_one_clear_error(folder, dsk, data, name, words):
    Path(name).write_bytes(data)
    ended = dsk("train", name, "--dry-run")
    assert ended.code == 2
    assert words in ended.err and "\x1b" not in ended.err and "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 2  # an error and a hint


def test_a_file_of_another_trainer_is_named_beside_config_file_too(folder, dsk):
    write("job: extension", "c.yaml")
    ended = dsk("train", "img", "--config-file", "c.yaml", "--dry-run")
    assert ended.code == 2 and "it is not read yet" in ended.err


def test_a_byte_order_mark_is_no_part_of_a_key(folder):
    for name, text in (("c.toml", "seed = 7"), ("p.json", '{"LoRA_type": "Standard", "seed": 7}')):
        Path(name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert translate(Path(name), None, {}, data_dir=Path("img")).options.seed == 7


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'optimizer_type = "evil.Call"'),
        ("p.json", '{"LoRA_type": "Standard", "optimizer": "evil.Call"}'),
        ("q.json", '{"LoRA_type": "Standard", "lr_scheduler_type": "evil.Call"}'),
        (
            "r.json",
            '{"LoRA_type": "Standard", "additional_parameters": "--optimizer_type evil.Call"}',
        ),
        ("l.toml", 'model_train_type = "sd-lora"\noptimizer_type = "evil.Call"'),
        ("e.toml", '[optimizer_args.args]\noptimizer_type = "evil.Call"'),
    ],
)
def test_no_format_may_import_what_dsk_does_not_know(folder, name, text):
    path = write(text, name)
    with pytest.raises(ConfigError, match="would import code"):
        translate(path, None, {}, data_dir=Path("img"))
    allowed = translate(path, None, {}, data_dir=Path("img"), allow_import=True).options
    assert "evil.Call" in (allowed.optimizer_type, allowed.lr_scheduler_type)


def test_imports_are_refused_in_the_one_message(folder):
    error = refusal(
        'optimizer_type = "evil.Call"\nlr_scheduler_type = "evil.Other"\ndeepspeed = true'
    )
    assert "3 keys must be changed" in error
    assert error.count("would import code") == 2 and "--allow-import" in error


def test_prompts_in_a_file_of_lora_scripts_are_not_the_name_of_a_file(folder):
    """With a full stop in them, too, as in (best quality:1.2)."""
    lines = 'model_train_type = "sd-lora"\nenable_preview = true\nsample_every_n_epochs = 2\n'
    prompts = 'sample_prompts = "(best quality:1.2), 1girl --n bad hands --w 512 --d 1337"'
    options = options_of(lines + prompts)
    assert options.sample_prompts == "" and options.sample_every_n_epochs is None
    assert options_of(f'{lines}prompt_file = "p.txt"').sample_prompts == "p.txt"


def test_a_caption_extension_that_stands_for_none_is_refused_with_its_meaning(folder):
    preset = {"LoRA_type": "Standard", "caption_extension": ".none-use-foldername"}
    assert "has the name of its folder as caption" in refusal(preset, "p.json")


@pytest.mark.parametrize("module", ["networks.dylora", "networks.lora_fa", "networks.oft"])
def test_another_network_is_not_taken_for_a_misspelt_one(folder, module):
    error = refusal(f'network_module = "{module}"')
    assert "did you mean" not in error and "choose networks.lora" in error


def test_rates_of_two_text_encoders_may_be_texts(folder):
    more = "--text_encoder_lr 1e-4 5e-5"
    preset = {"LoRA_type": "Standard", "additional_parameters": more}
    assert options_of(preset, "p.json").text_encoder_lr == (1e-4, 5e-5)
    assert options_of('text_encoder_lr = ["1e-4", "1e-4"]').text_encoder_lr == 1e-4


def test_a_folder_beside_the_file_and_in_the_current_one_is_a_warning(folder):
    """sd-scripts takes that of the current folder."""
    shutil.copytree("img", "sub/img")
    path = write('train_data_dir = "img"', "sub/config.toml")
    read = translate(path, None, {})
    assert read.subsets[0].folder.parent == Path("sub/img")
    assert len(read.notices) == 1 and "sd-scripts would use img" in read.notices[0]
    assert not translate(write('train_data_dir = "img"'), None, {}).notices
    path = write(f"[[datasets]]\n{SUBSET}", "sub/dataset.toml")
    assert "sub/img/2_sks is used" in translate(None, path, {}).notices[0]


def test_secrets_of_a_file_are_not_shown(folder, dsk):
    write(
        'huggingface_token = "hf_secret"\nwandb_api_key = "hf_secret"\nresolution = 512\n'
        'pretrained_model_name_or_path = "tiny"\n'
    )
    ended = dsk("train", "img", "--config-file", "config.toml", "--dry-run")
    assert ended.code == 0 and "hf_secret" not in ended.out + ended.err
    assert "huggingface_token" in ended.out


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"LoRA_type": "LyCORIS/iA3"}, "LoRA_type"),
        ({"LoRA_type": 5}, "LoRA_type"),
        ({"LoRA_type": "Flux1", "clip_l": "x"}, "flux1_checkbox"),
        ({"LoRA_type": "Flux1", "sd3_checkbox": True}, "flux1_checkbox"),
        ({"LoRA_type": "Flux1 OFT", "flux1_checkbox": True}, "LoRA_type"),
        ({"LoRA_type": "Standard", "anima_checkbox": True}, "anima_checkbox"),
        ({"LoRA_type": "Standard", "lumina_checkbox": True}, "Flux are read"),
        ({"LoRA_type": "LyCORIS/LoKr", "use_cp": True}, "use_cp"),
        ({"LoRA_type": "Standard", "additional_parameters": '--a "b'}, "additional_parameters"),
        ({"LoRA_type": "Standard", "additional_parameters": "a b"}, "additional_parameters"),
        ({"LoRA_type": "Standard", "additional_parameters": "--deepspeed"}, "deepspeed"),
        ({"LoRA_type": "Standard", "optimizer": ["x"]}, "optimizer_type"),
    ],
)
def test_a_preset_that_is_not_trained_here_is_refused_by_its_key(folder, preset, words):
    assert words in refusal(preset, "p.json")


def test_keys_of_other_types_of_lora_are_silent(folder):
    preset = {"LoRA_type": "Standard", "use_cp": True, "conv_dim": 8, "unit": 4, "factor": 6}
    read = translate(write(preset, "p.json"), None, {}, data_dir=Path("img"))
    assert read.options.network_args == () and not read.ignored


@pytest.mark.parametrize("key", ["clip_l", "t5xxl", "ae", "qwen3", "gemma2"])
def test_a_path_of_another_model_is_refused_and_its_numbers_are_not(folder, key):
    assert "another model" in refusal(f'{key} = "x.safetensors"\nguidance_scale = 1.5')
    write(f'{key} = ""\nguidance_scale = 1.5\ntimestep_sampling = "sigmoid"')
    read = translate(Path("config.toml"), None, {}, data_dir=Path("img"))
    assert set(read.ignored) == {"guidance_scale"}


def test_a_template_for_chroma_is_refused(folder):
    text = '[metadata]\nname = "x"\n[data]\nmodel_type = "chroma"\nguidance_scale = 0.0'
    assert "another model" in refusal(text)
    assert options_of('model_type = "flux"').seed == 42  # the default of its programs


# ---- the command


def test_two_files_of_options_are_refused(folder, dsk):
    ended = dsk("train", "gui_standard.json", "--config-file", "every_key.toml", "--dry-run")
    assert ended.code == 2 and "both files of options" in ended.err


def test_a_file_of_options_is_not_taken_as_a_dataset_toml(folder):
    with pytest.raises(ConfigError, match=r"is not a dataset\.toml"):
        translate(None, Path("gui_standard.json"), {})
    with pytest.raises(ConfigError, match="and so is"):
        translate(Path("multires_dataset.toml"), Path("colab_dataset.toml"), {})


def test_the_plan_as_json_names_the_format_and_the_reasons(folder, dsk):
    plan = dsk("train", "kohya_gui_newer.toml", "--set", "optimizer_type=AdamW", "--dry-run",
               "--json").result["plan"]  # fmt: skip
    assert plan["read_as"] == "kohya_gui_newer.toml as a TOML of the kohya_ss GUI"
    assert "training_comment" in plan["ignored"]["metadata_title"]


def test_a_dsk_toml_is_still_its_project_s_file(folder, dsk):
    write('[train]\nresolution = 512\npretrained_model_name_or_path = "tiny"\n', "dsk.toml")
    Path("train").mkdir()
    Path("img/2_sks").rename("train/2_sks")
    ended = dsk("train", "dsk.toml", "--dry-run")
    assert ended.code == 0, ended.err
    write("[train]\nresolution = 512\n", "other.toml")
    assert "is not called dsk.toml" in dsk("train", "other.toml", "--dry-run").err


def test_all_mistakes_of_a_dsk_toml_are_one_error(folder, dsk):
    write(
        "[[concept]]\nfolder = 'img'\nnmae = 'x'\n"
        "[train]\nnetwork_dim = 'big'\nclip_skip = 99\nnetwrok_alpha = 1\n"
        "[tag]\nthreshold = 7\n",
        "dsk.toml",
    )
    ended = dsk("train", "dsk.toml", "--dry-run")
    lines = ended.err.splitlines()
    assert ended.code == 2 and lines[0] == "error: dsk.toml has 5 mistakes"
    for key in ("nmae", "network_dim", "clip_skip", "netwrok_alpha", "threshold"):
        assert sum(key in line for line in lines) == 1, ended.err
    assert "[train]" in ended.err and "did you mean 'network_alpha'?" in ended.err
    write("[train]\nnetwork_dim = 'big'\nclip_skip = 99\n", "dsk.toml")
    assert "dsk.toml [train]: 2 keys must be changed" in dsk("train", "dsk.toml", "--dry-run").err


# ---- every key

KNOWN = {
    "sd_scripts": keys.FLAT,
    "gui_toml": keys.FLAT,
    "gui_json": keys.PRESET,
    "lora_scripts": keys.LORA_SCRIPTS,
    "easy_scripts": keys.EASY_SCRIPTS,
}


@pytest.mark.parametrize("program", KNOWN)
def test_every_key_that_a_program_writes_is_known(program):
    places = set().union(*LEVELS.values(), FOLDERS, KNOWN[program])
    if program == "gui_json":
        places |= keys.GUI_OTHER_MODEL
    unknown = [
        name
        for name in NAMES[program].split()
        if name not in places and not (program == "gui_json" and name.startswith(keys.GUI_MODELS))
    ]
    assert not unknown and len(NAMES[program].split()) > 90


def test_a_preset_with_every_key_of_the_gui_off_is_read(folder):
    preset = dict.fromkeys(NAMES["gui_json"].split(), "") | {"LoRA_type": "Standard"}
    read = translate(write(preset, "p.json"), None, {}, data_dir=Path("img"))
    assert not read.ignored and not read.notices


@pytest.mark.parametrize("value", ["false", "0", '""', "[]"])
def test_a_toml_with_every_key_of_the_gui_off_has_no_unknown_key(folder, value):
    """An option such as network_dim = 0 may be refused, no other key."""
    options = {d.name for d in declared(TrainOptions)}
    lines = [f"{name} = {value}" for name in NAMES["gui_toml"].split() if name not in options]
    read = translate(write("\n".join(lines)), None, {}, data_dir=Path("img"))
    assert not read.ignored and not read.notices


def test_many_wrong_keys_are_few_lines_and_quick(folder, dsk):
    write("\n".join(f"wrong_key_{number} = 1" for number in range(20_000)))
    started = time.process_time()
    error = refusal("\n".join(f"wrong_key_{number} = 1" for number in range(20_000)))
    assert "20,000 keys must be changed" in error and "and 19,900 more" in error
    assert len(error.splitlines()) == 103 and time.process_time() - started < 5


def test_a_long_value_is_cut_in_a_message(folder):
    assert max(map(len, refusal(f'loss_type = "{"x" * 100_000}"').splitlines())) < 400


def test_a_dataset_toml_of_many_folders_is_read_quickly(folder):
    rows = "".join(f"{SUBSET}keep_tokens = {number % 7}\n" for number in range(500))
    write(f"[[datasets]]\n{rows}", "dataset.toml")
    started = time.process_time()
    assert len(translate(None, Path("dataset.toml"), {}).subsets) == 500
    assert time.process_time() - started < 5


def test_a_missing_dataset_toml_is_named_with_the_key_that_names_it(folder):
    error = refusal('dataset_config = "nowhere.toml"')
    assert "nowhere.toml" in error and "dataset_config in config.toml" in error


def test_a_template_of_lora_scripts_is_read(folder):
    text = '[metadata]\nname = "x"\nversion = "1"\n[data]\nresolution = "768,768"\n'
    assert options_of(text).resolution == (768, 768)


RECOGNISED = {
    "gui_json": Format.GUI_PRESET,
    "lora_scripts": Format.LORA_SCRIPTS,
    "easy_scripts": Format.EASY_SCRIPTS,
}
ODD: tuple[Any, ...] = (
    None, True, -1, 1.5, 10**30, "x", "1,2", "", [], [1], [None], [[1]], {}, {"a": 1},
)  # fmt: skip


@pytest.mark.parametrize("program", RECOGNISED)
def test_a_value_of_any_type_is_an_option_or_a_clear_error(folder, monkeypatch, program):
    tables: list[dict[str, Any]] = []
    monkeypatch.setattr(
        sys.modules["trainer.config.translate"],
        "read_file",
        lambda path: OptionsFile(path, RECOGNISED[program], tables[-1]),
    )
    for number, name in enumerate(NAMES[program].split()):
        value = ODD[number % len(ODD)]
        tables.append(
            {
                "gui_json": {"LoRA_type": "Standard", name: value},
                "lora_scripts": {"model_train_type": "sd-lora", name: value},
                "easy_scripts": {"general_args": {"args": {name: value}}},
            }[program]
        )
        try:
            translate(Path("f.toml"), None, {}, data_dir=Path("img"))
        except ConfigError as error:
            assert error.message
        except DskError as error:  # a folder that does not exist
            assert name in ("train_data_dir", "reg_data_dir"), error.message
