"""The functions of `dsk lora` take a path as text or as a Path, and one file without a list."""

from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core.errors import InputError
from tests.lora_files import files
from trainer.tinybase import shipped

PROJ = "lora_unet_down_blocks_0_attentions_0_proj_in"


@pytest.fixture
def lora(tmp_path):
    return files.save(tmp_path / "a.safetensors", files.pair(PROJ, 6, 5, 2, 1.0))


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_needs_no_list(lora, kind):
    info = api.lora_info(kind(lora))
    assert [file.path for file in info.files] == [lora]
    checked = api.lora_check(kind(lora), api.LoraCheckOptions())
    assert [file.path for file in checked.files] == [lora]


@pytest.mark.parametrize("kind", [str, Path])
def test_files_of_a_list_may_be_text_or_paths(lora, kind):
    assert api.lora_info([kind(lora), lora]) == api.lora_info([lora, lora])


@pytest.mark.parametrize("kind", [str, Path])
def test_new_files_have_the_same_names(lora, kind):
    assert api.lora_resize(kind(lora), api.LoraResizeOptions(rank=1)).out == (
        lora.with_name("a-rank1.safetensors")
    )
    converted = api.lora_convert(kind(lora), api.LoraConvertOptions(to="diffusers"))
    assert converted.source == lora


@pytest.mark.parametrize("kind", [str, Path])
def test_merged_files_have_weights(lora, kind, tmp_path):
    def weights(given, name):
        options = api.LoraMergeOptions(out=str(tmp_path / f"{name}.safetensors"))
        return api.lora_merge(given, options).sources

    assert weights(kind(lora), "one") == ((lora, 1.0),)
    assert weights([(kind(lora), 0.5), f"{lora}:0.25"], "pairs") == ((lora, 0.5), (lora, 0.25))


def test_models_to_extract_from_may_be_paths(tmp_path):
    tiny = Path(shipped.located("tiny"))
    options = api.LoraExtractOptions(rank=1, out=str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match=r"no layer of .* differs"):
        api.lora_extract(tiny, tiny, options)
