"""sd-scripts' config files are translated; unsupported keys are errors that name the key."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError
from datasetkit.options.dataset import ExportOptions
from datasetkit.options.declare import by_name
from datasetkit.options.toml import load
from datasetkit.options.train import TrainOptions
from tests.dataset.test_exports import CONFIG_TOML, DATASET_TOML
from tests.trainer import tiny
from trainer.config import DEFAULTS, data_folder, of_project, setting, translate
from trainer.plan.plan import make_plan


@pytest.fixture
def files(tmp_path):
    """The published tutorial's two files beside the folders that they name."""
    (tmp_path / "config.toml").write_text(CONFIG_TOML, encoding="utf-8")
    (tmp_path / "dataset.toml").write_text(DATASET_TOML, encoding="utf-8")
    tiny.save_images(tmp_path / "dataset", [(64, 64)] * 3)
    tiny.save_images(tmp_path / "regularization", [(64, 64)] * 2, captions=False)
    return tmp_path


def test_reference_files_are_read_whole(files):
    reported = translate(files / "config.toml", files / "dataset.toml", {})
    options = reported.options
    assert (
        options.network_dim,
        options.network_alpha,
        options.unet_lr,
        options.text_encoder_lr,
    ) == (
        64,
        32,
        0.0005,
        0.0001,
    )
    assert (options.lr_scheduler, options.lr_scheduler_num_cycles, options.lr_warmup_steps) == (
        "cosine_with_restarts", 3, 82,
    )  # fmt: skip
    assert (
        options.clip_skip,
        options.min_snr_gamma,
        options.max_train_epochs,
        options.max_train_steps,
    ) == (
        2,
        5.0,
        10,
        None,
    )
    assert (options.optimizer_type, options.save_last_n_epochs, options.save_state) == (
        "AdamW8bit",
        6,
        False,
    )
    assert set(reported.ignored) == {
        "xformers", "lowram", "max_data_loader_n_workers", "persistent_data_loader_workers",
    }  # fmt: skip
    assert options.log_prefix
    assert all(reported.ignored.values())
    train, reg = reported.subsets
    assert (train.repeats, train.captions.keep_tokens, train.captions.shuffle_caption) == (
        20,
        1,
        True,
    )
    assert (reg.is_reg, reg.name, reg.repeats) == (True, "1girl", 1)


def test_reference_files_make_a_plan(files):
    reported = translate(files / "config.toml", files / "dataset.toml", {})
    plan = make_plan(reported.subsets, reported.options)
    assert (plan.count(is_reg=False), plan.count(is_reg=True), plan.steps) == (60, 60, 1200)


def test_defaults_are_those_of_sd_scripts(tmp_path):
    (tmp_path / "config.toml").write_text(
        'resolution = "512,768"\ntrain_data_dir = "data"', encoding="utf-8"
    )
    tiny.save_images(tmp_path / "data" / "3_sks", [(64, 64)])
    reported = translate(tmp_path / "config.toml", None, {})
    assert reported.options.resolution == (512, 768)
    assert reported.options.text_encoder_lr == reported.options.learning_rate == 2e-6
    assert reported.options.max_train_steps == 1600
    assert all(getattr(reported.options, name) == value for name, value in DEFAULTS.items())
    assert [(s.name, s.repeats) for s in reported.subsets] == [("sks", 3)]


def test_network_of_lycoris_is_read_as_it_is(tmp_path):
    lines = [
        'network_module = "lycoris.kohya"',
        "network_dim = 8",
        'network_args = ["algo=loha", "conv_dim=4"]',
    ]
    (tmp_path / "config.toml").write_text(
        "\n".join(['train_data_dir = "data"', *lines]), encoding="utf-8"
    )
    tiny.save_images(tmp_path / "data" / "3_sks", [(64, 64)])
    args = translate(tmp_path / "config.toml", None, {}).options.network()
    assert (args.algo, args.conv_dim, args.conv_alpha) == ("loha", 4, 1.0)


def test_command_line_overrides_the_files(files):
    reported = translate(files / "config.toml", files / "dataset.toml", {"network_dim": 8})
    assert reported.options.network_dim == 8
    (files / "config.toml").write_text("max_train_steps = 900\n", encoding="utf-8")
    reported = translate(files / "config.toml", files / "dataset.toml", {"max_train_epochs": 3})
    assert (reported.options.max_train_epochs, reported.options.max_train_steps) == (3, None)
    (files / "config.toml").write_text("max_train_epochs = 9\n", encoding="utf-8")
    reported = translate(files / "config.toml", files / "dataset.toml", {"max_train_steps": 5})
    assert reported.options.max_train_steps == 5


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("netwerk_dim = 8", "did you mean 'network_dim'"),
        ('resize_interpolation = "lanczos4"', "resize_interpolation"),
        ("alpha_mask = true", "is not supported"),
        ("zero_terminal_snr = true\nv_parameterization = false", "velocity"),
        ("color_aug = true\ncache_latents = true", "set cache_latents = false"),
        ('save_model_as = "ckpt"', "'safetensors'"),
        ('loss_type = "huberr"', "did you mean 'huber'"),
        ('network_module = "networks.dylora"', "network_module"),
        ('network_args = ["conv_dims=4"]', "did you mean 'conv_dim'"),
        ("clip_skip = 40", "out of range"),
        ("noise_offset = 0.1\nmultires_noise_iterations = 6", "exclude each other"),
    ],
)
def test_unsupported_key_is_an_error(tmp_path, line, words):
    (tmp_path / "config.toml").write_text(f'train_data_dir = "data"\n{line}\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        translate(tmp_path / "config.toml", None, {})
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[general]\nresolution = 512\n", r"no \[\[datasets\]\]"),
        ("[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 2\n", "no image_dir"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "d"\nnum_repeats = "2"\n',
            "num_repeats = '2'",
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "d"\nface_crop_aug_range = "1,2"\n',
            "is not supported",
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "d"\nflip_agu = true\n',
            "unknown key 'flip_agu'",
        ),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "d"\nconditioning_data_dir = "m"\n',
            "conditioning_data_dir = 'm'",
        ),
    ],
)
def test_dataset_file_is_checked(tmp_path, text, words):
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        translate(None, tmp_path / "dataset.toml", {})


def test_subsets_keep_their_own_options(tmp_path):
    text = """
    [[datasets]]
      batch_size = 3
      [[datasets.subsets]]
      image_dir = "a"
      flip_aug = true
      keep_tokens = 2
      [[datasets.subsets]]
      image_dir = "b"
      caption_dropout_rate = 0.5
    """
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    reported = translate(None, tmp_path / "dataset.toml", {"resolution": 512})
    assert reported.options.train_batch_size == 3
    assert [
        (s.flip, s.captions.keep_tokens, s.captions.caption_dropout_rate) for s in reported.subsets
    ] == [
        (True, 2, 0.0),
        (False, 0, 0.5),
    ]


def test_options_of_captions_and_colours_are_a_subset_s_own(tmp_path):
    text = """
    [general]
    caption_prefix = "sks,"
    [[datasets]]
      [[datasets.subsets]]
      image_dir = "a"
      color_aug = true
      token_warmup_step = 0.5
      [[datasets.subsets]]
      image_dir = "b"
      caption_prefix = ""
      enable_wildcard = true
      secondary_separator = ";;;"
    """
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    first, second = translate(None, tmp_path / "dataset.toml", {"resolution": 512}).subsets
    assert (first.color, first.captions.caption_prefix, first.captions.token_warmup_step) == (
        True,
        "sks,",
        0.5,
    )
    assert (second.color, second.captions.caption_prefix, second.captions.enable_wildcard) == (
        False,
        "",
        True,
    )
    assert (first.captions.secondary_separator, second.captions.secondary_separator) == ("", ";;;")


def exported(folder, monkeypatch, train=""):
    """The two files of `dsk export`, for a small dataset whose dsk.toml says `train`."""
    tiny.save_images(folder / "ds" / "train" / "4_sks", [(64, 64)] * 2)
    tiny.save_images(folder / "ds" / "reg" / "1_girl", [(64, 64)])
    (folder / "dsk.toml").write_text(f"[train]\n{train}\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    api.export(Path("ds"), ExportOptions())
    return folder / "ds" / "config.toml", folder / "ds" / "dataset.toml"


@pytest.mark.parametrize(
    "train",
    [
        "",
        "noise_offset = 0.05\nadaptive_noise_scale = 0.002\nsave_every_n_steps = "
        "50\nsave_last_n_steps = 2",
        "multires_noise_iterations = 6\nnetwork_alpha = 0\nmax_grad_norm = 0.0\nseed = "
        "0\ntext_encoder_lr = 0.0",
        'min_snr_gamma = 5\nlr_warmup_steps = "5%"\nmax_train_steps = 300\noptimizer_args = '
        '["weight_decay=0.1"]',
        "cache_latents = false\nshuffle_caption = false\nresolution = [512, "
        "768]\nsave_every_n_epochs = 0",
        'network_module = "lycoris.kohya"\nnetwork_args = ["algo=lokr", "factor=8"]\nema_decay '
        "= 0.99",
        'loss_type = "huber"\nhuber_c = 0.2\nv_pred_like_loss = 0.1\ncaption_prefix = '
        '"sks,"\nenable_wildcard = true',
        'lr_scheduler = "warmup_stable_decay"\nlr_decay_steps = '
        '"20%"\nlr_scheduler_min_lr_ratio = 0.1',
        "v2 = true\nv_parameterization = true\ntext_encoder_lr = [0.00001, 0.000005]",
    ],
)
def test_export_of_a_dataset_is_read_back(tmp_path, monkeypatch, train):
    config, dataset = exported(tmp_path, monkeypatch, train)
    reported = translate(config, dataset, {})
    ours = of_project(load(tmp_path / "dsk.toml"), {})
    assert {s.folder.name: s.repeats for s in reported.subsets} == {"4_sks": 4, "1_girl": 1}
    assert make_plan(reported.subsets, reported.options).steps == (
        ours.max_train_steps or 8 * 2 * 10
    )
    assert reported.options.rates() == ours.rates()
    # What the files say in other words: the range of the buckets, the learning rate of the UNet,
    # the fixed tags.
    apart = {
        "output_dir",
        "save_state",
        "min_bucket_reso",
        "max_bucket_reso",
        "unet_lr",
        "keep_tokens",
        *(name for name, option in by_name(TrainOptions).items() if not option.section),
    }
    names = {f.name for f in fields(TrainOptions)} - apart
    assert {n: getattr(reported.options, n) for n in names} == {n: getattr(ours, n) for n in names}
    assert reported.options.bucket_rules() == ours.bucket_rules()


def test_export_has_no_key_that_sd_scripts_rejects(tmp_path, monkeypatch):
    """It divides by the number of steps, and some versions refuse two kinds of noise even where
    both are 0.
    """
    config, _ = exported(tmp_path, monkeypatch)
    written = {
        key for table in tomllib.loads(config.read_text(encoding="utf-8")).values() for key in table
    }
    assert not written & {
        "save_every_n_steps",
        "noise_offset",
        "multires_noise_iterations",
        "adaptive_noise_scale",
    }


def test_export_has_save_state_only_if_the_project_has(tmp_path, monkeypatch):
    config, _ = exported(tmp_path / "plain", monkeypatch)
    assert "save_state" not in config.read_text(encoding="utf-8")
    config, dataset = exported(tmp_path / "asked", monkeypatch, "save_state = true")
    assert "save_state = true" in config.read_text(encoding="utf-8")
    assert translate(config, dataset, {}).options.save_state


def test_paths_in_dsk_toml_are_relative_to_its_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "dsk.toml").write_text(
        '[train]\npretrained_model_name_or_path = "model.safetensors"\nvae = "some/vae"\n',
        encoding="utf-8",
    )
    options = of_project(load(tmp_path / "dsk.toml"), {})
    assert options.pretrained_model_name_or_path == str(tmp_path / "model.safetensors")
    assert options.output_dir == str(tmp_path / "output")
    assert options.vae == "some/vae"  # of the hub
    assert of_project(load(tmp_path / "dsk.toml"), {"output_dir": "here"}).output_dir == "here"


def test_project_trains_what_layout_makes(tmp_path, monkeypatch):
    (tmp_path / "dsk.toml").write_text('[layout]\nout = "set"\n', encoding="utf-8")
    config = load(tmp_path / "dsk.toml")
    assert data_folder(tmp_path, config) == tmp_path / "set"
    assert data_folder(tmp_path / "other", config) == tmp_path / "other"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("network_dim=64", ("network_dim", 64)),
        ("train.learning_rate=1e-4", ("learning_rate", 1e-4)),
        ("output_name=sks", ("output_name", "sks")),
        ("shuffle_caption=false", ("shuffle_caption", False)),
        ('optimizer_args=["a=1"]', ("optimizer_args", ["a=1"])),
        ("vae=some/vae", ("vae", "some/vae")),
    ],
)
def test_setting_is_written_as_in_toml(text, read):
    assert setting(text) == read


@pytest.mark.parametrize("text", ["network_dim", "tag.threshold=1", "=3"])
def test_setting_without_a_key_is_refused(text):
    with pytest.raises(ConfigError, match="--set"):
        setting(text)
