"""The mistakes that people make in TOML files are named, each with the way to correct it."""

from __future__ import annotations

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.core.toml_text import WINDOWS_PATH_HINT, parse_toml, refuse_control
from datasetkit.options.toml import build
from datasetkit.options.train import TrainOptions
from trainer.config import setting

MISTAKES = {
    "a key twice, at the end": ("a = 1\nb = 2\na = 3\n", "a is given twice, in lines 1 and 3"),
    "a key twice, in the middle": ("a = 1\na = 3\nb = 2\n", "a is given twice, in lines 1 and 2"),
    "a key twice in one table": (
        "a = 1\n[x]\na = 1\nc = 2\na = 2\n", "a is given twice, in lines 3 and 5",
    ),
    "a table twice": ("[x]\na = 1\n[x]\nb = 2\n", "[x] is there twice"),
    "a path of Windows": ('a = "D:\\train\\xmas"\n', WINDOWS_PATH_HINT),
    "a user's path of Windows": ('a = "C:\\Users\\me"\n', WINDOWS_PATH_HINT),
    "JSON": ('{\n  "LoRA_type": "Standard"\n}\n', "this is JSON"),
    "curly quotes": ("a = “x”\n", "curly quotes"),
    "a quote too few": ('a = "x\n', "missing quote or bracket"),
    "a bracket too few": ("a = [1, 2\n", "missing quote or bracket"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_named_with_what_to_do(name):
    text, hint = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, source="x.toml")
    assert "x.toml is not valid TOML" in caught.value.message and hint in caught.value.hint


def test_the_same_key_in_two_tables_is_no_mistake():
    assert parse_toml("a = 1\n[x]\na = 2\n", source="x.toml") == {"a": 1, "x": {"a": 2}}


def config_arguments(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return ["train", "--config-file", str(file), "--dry-run"]


def dataset_arguments(tmp_path, text):
    file = tmp_path / "dataset.toml"
    file.write_text(text, encoding="utf-8")
    return ["train", "--dataset-config", str(file), "--dry-run"]


def project_arguments(tmp_path, text):
    file = tmp_path / "dsk.toml"
    file.write_text(text, encoding="utf-8")
    return ["run", str(file), "--dry-run"]


@pytest.mark.parametrize("arguments", [config_arguments, dataset_arguments, project_arguments])
def test_every_toml_file_of_the_user_is_read_by_the_same_function(arguments, tmp_path, dsk):
    ended = dsk(*arguments(tmp_path, "[x]\na = 1\na = 2\n"))
    assert ended.code == 2
    assert "a is given twice, in lines 2 and 3" in " ".join(ended.err.split())


# What "D:\train\new set" in double quotes is once TOML has replaced \t and \n.
@pytest.mark.parametrize(
    ("arguments", "text", "name"),
    [
        (config_arguments, 'train_data_dir = "D:\\train\\new set"\n', "a path"),
        (config_arguments, 'train_data_dir = "x"\nlogging_dir = "D:\\new\\test"\n', "logging_dir"),
        (config_arguments, 'train_data_dir = "x"\noutput_dir = "D:\\bad\\fun"\n', "output_dir"),
        (dataset_arguments, '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "D:\\new"\n', "path"),
        (project_arguments, '[[concept]]\nfolder = "D:\\train"\n', "folder"),
        (project_arguments, '[layout]\nout = "D:\\new"\n', "out"),
    ],
)
def test_an_escape_in_a_path_is_refused_by_name(arguments, text, name, tmp_path, dsk):
    ended = dsk(*arguments(tmp_path, text))
    assert ended.code == 2
    printed = " ".join(ended.err.split())
    assert name in printed and "control characters" in printed and "single quotes" in printed


def test_a_setting_with_an_escape_in_a_path_is_refused(tmp_path, dsk):
    # In a shell: --set 'logging_dir="D:\new"'
    ended = dsk("train", str(tmp_path), "--set", 'logging_dir="D:\\new"', "--dry-run")
    assert ended.code == 2
    assert "logging_dir" in ended.err


def test_a_path_without_control_characters_is_taken():
    for path in ("D:/train/new set", r"D:\train", "/srv/images", "张娜英", ""):
        refuse_control(path, where="x")


@pytest.mark.parametrize(
    "text", [r'output_name="k\d"', 'training_comment="unclosed', "optimizer_args=[1", "x={a=1"]
)
def test_a_setting_that_begins_as_toml_is_not_taken_as_text(text):
    with pytest.raises(ConfigError) as caught:
        setting(text)
    assert "quote" in caught.value.message


def test_a_setting_without_quotes_is_text():
    assert setting("output_name=my lora") == ("output_name", "my lora")
    assert setting("network_dim=64") == ("network_dim", 64)
    assert setting("train.output_name='a'") == ("output_name", "a")


@pytest.mark.parametrize("given", [True, False])
def test_a_name_that_is_not_utf8_is_named_with_its_option(given):
    value = {"output_dir": "out\udcff"}
    with pytest.raises(ConfigError, match=r"output_dir = out\\xff is not UTF-8") as caught:
        build(TrainOptions, {} if given else value, value if given else {}, where="x", typed="--{}")
    assert "rename" in caught.value.hint
