"""The settings in examples/families: one for each family of transformers, and their plans."""

import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
from tests.trainer import tiny
from trainer.families import registry

EXAMPLES = Path(__file__).parents[2] / "examples" / "families"
FAMILIES = [family.NAME for family in registry.families() if family.DENOISER == "transformer"]


def test_every_transformer_has_settings():
    assert sorted(path.parent.name for path in EXAMPLES.glob("*/dsk.toml")) == sorted(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_pass_a_dry_run_on_a_random_base(family, dit_base, tmp_path, dsk):
    text = (EXAMPLES / family / "dsk.toml").read_text(encoding="utf-8")
    base = tomllib.loads(text)["train"]["pretrained_model_name_or_path"]
    assert f"--local-dir {base}\n" in text  # the command above it downloads the folder
    tiny.save_images(tmp_path / "dataset" / "train" / "2_sks", [(1024, 1024), (832, 1216)])
    (tmp_path / "dsk.toml").write_text(
        text.replace(f'"{base}"', f'"{dit_base(family).as_posix()}"'), encoding="utf-8"
    )
    ended = dsk("train", ".", "--dry-run")
    assert ended.code == 0, ended.err
    assert f"base model: {registry.family(family).TITLE}" in ended.out
    assert "warning" not in ended.out.replace("warning: mixed_precision", "")
    assert not (tmp_path / "output").exists()
