"""Presets: every one is valid, names what it is, and counts below what dsk.toml says."""

from __future__ import annotations

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options import presets, toml
from datasetkit.options.train import TrainOptions
from trainer.families import registry

NAMES = [
    "-".join(filter(None, (family, goal, memory)))
    for family in presets.names("family")
    for goal in ("", *presets.names("goal"))
    for memory in ("", *presets.names("memory"))
]


def test_there_is_one_for_each_family():
    assert set(presets.names("family")) == set(registry.FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid(name):
    tables = presets.merged(presets.layers(presets.parse(name)))
    for table, values in tables.items():
        toml.build(toml.options_class(table), values, {}, where=f"[{table}]")
    assert all(each.source for each in presets.layers(presets.parse(name)))
    assert presets.parse(presets.parse(name).text) == presets.parse(name)


def config(tmp_path, text):
    (tmp_path / "dsk.toml").write_text(text)
    return toml.find(tmp_path)


def test_the_file_counts_and_then_the_preset(tmp_path):
    found = config(tmp_path, '[train]\npreset = "sdxl-character@1"\nnetwork_dim = 3\n')
    options = found.build(TrainOptions, "train")
    assert (options.network_dim, options.network_alpha, options.resolution) == (3, 8, 1024)
    assert found.tables["train"] == {"preset": "sdxl-character@1", "network_dim": 3}
    other = found.build(TrainOptions, "train", {"preset": "sd1-style"})
    assert (other.network_dim, other.network_alpha, other.resolution) == (3, 16, 512)


@pytest.mark.parametrize(
    "name", ["sdxl-charcter", "sdxl-character@9", "sdxl-character@x", "x", "@1"]
)
def test_an_unknown_preset_is_refused(tmp_path, name):
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, f'[train]\npreset = "{name}"\n').build(TrainOptions, "train")
    assert raised.value.hint


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of the user's presets, with one of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "datasetkit" / "presets"
    folder.mkdir(parents=True)
    text = '[preset]\nname = "Mine"\n[train]\nnetwork_dim = 12\nnetwork_alpha = 6\nseed = 5\n'
    (folder / "mine.toml").write_text(text)
    return folder


def test_a_preset_of_the_user_counts_below_the_file_and_above_its_preset(tmp_path, own):
    found = config(tmp_path, '[train]\npreset = "sdxl-character@1"\nnetwork_dim = 3\n')
    options = found.build(TrainOptions, "train", {"preset": "mine", "seed": 9})
    assert (options.network_dim, options.network_alpha, options.seed) == (3, 6, 9)
    assert (options.preset, options.resolution) == ("sdxl-character@1", 1024)


def test_a_file_cannot_name_a_preset_of_the_user(tmp_path, own):
    """The project of somebody else would mean another thing on each machine."""
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, '[train]\npreset = "mine"\n').build(TrainOptions, "train")
    assert "--set preset=mine" in raised.value.hint


@pytest.mark.parametrize(
    "text", ["[train]\nnetwork_dimm = 1\n", "[train]\nseed = 'x'\n", "[run]\nx = 1\n", "["]
)
def test_a_wrong_preset_of_the_user_is_refused_with_its_file(tmp_path, own, text):
    (own / "mine.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, "").build(TrainOptions, "train", {"preset": "mine"})
    assert "your preset mine" in raised.value.message and "mine.toml" in raised.value.hint
