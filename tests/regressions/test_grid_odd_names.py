"""Names and texts of any kind are drawn, written and found again by `dsk grid`."""

import json
import os

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.core.errors import ConfigError
from tests.cli.conftest import dsk, here, toy_tagger  # noqa: F401 - fixtures
from tests.grid.test_axes import LAYER
from tests.grid.test_grid import drawer, options  # noqa: F401 - a fixture
from tests.lora_files.files import pair, save


@pytest.mark.parametrize(
    "name",
    ["狐 (v2)", "a\nb", 'quote " and <tag>', "x" * 200, "a\u202eb", "b%20c #1", "-best", "--x"],
)
def test_a_lora_of_any_name_is_drawn_and_its_cells_are_found_again(here, drawer, name):  # noqa: F811
    path = save(here / "out" / f"{name}.safetensors", pair(LAYER, 8, 8, 2))
    result = api.grid(path, options(prompt=("kitsu",)))
    assert all(image.is_file() for image in result.drawn)
    assert not api.grid(path, options(prompt=("kitsu",))).changed
    text = result.page.read_text(encoding="utf-8")
    assert "<tag>" not in text and "\u202e" not in text


def test_a_name_that_is_not_utf8_is_escaped(here, drawer):  # noqa: F811
    folder = os.fsencode(here)
    plain = save(here / "k.safetensors", pair(LAYER, 8, 8, 2))
    try:
        os.rename(plain, folder + b"/k\xff.safetensors")  # noqa: PTH104 - a name of bytes
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    path = os.fsdecode(folder + b"/k\xff.safetensors")
    result = api.grid(path, options())
    assert len(result.drawn) > 1 and not api.grid(path, options()).changed


@pytest.mark.long
@pytest.mark.parametrize(
    "prompt",
    ["狐の女の子、オレンジ色の髪", "emoji 🦊, " * 60, 'say "a: b", <lora:x:1>', "a\\b{c|d}"],
)
def test_a_prompt_of_any_script_is_written_and_read_back(here, drawer, prompt):  # noqa: F811
    path = save(here / "k.safetensors", pair(LAYER, 8, 8, 2))
    given = options(prompt=(prompt,))
    result = api.grid(path, given)
    with Image.open(result.drawn[0]) as image:
        assert str(image.info["parameters"]).startswith(prompt.strip())
    assert not api.grid(path, given).changed
    lines = (result.folder / "grid.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["text"] == prompt.strip()


def test_a_prompt_that_is_not_text_is_refused(here, drawer):  # noqa: F811
    path = save(here / "k.safetensors", pair(LAYER, 8, 8, 2))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        api.grid(path, options(prompt=("kitsu \udcff",)))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        api.grid(path, options(negative="\udcff"))


def test_links_do_not_lead_a_grid_elsewhere(here, drawer, tmp_path_factory):  # noqa: F811
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = save(here / "k.safetensors", pair(LAYER, 8, 8, 2))
    (here / "grid").mkdir()
    (here / "grid" / "images").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(Exception, match="link"):
        api.grid(path, options())
    assert list(elsewhere.iterdir()) == []
