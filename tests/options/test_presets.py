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
