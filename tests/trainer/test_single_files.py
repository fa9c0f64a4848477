"""A transformer in one file of its own, in each layout that people have, is that of its folder."""

import pytest
import torch
from diffusers.loaders import single_file_model
from safetensors.torch import save_file

from datasetkit.core.errors import ModelFileError
from tests.trainer import original_layouts
from trainer import random_dit
from trainer.families import dit_files, registry
from trainer.families.detect import detect
from trainer.families.dit_family import TransformerFamily
from trainer.plan import model_shapes

FAMILIES = [f for f in registry.families() if isinstance(f, TransformerFamily)]
WIDTH = 32  # of the random Flux.1 and Chroma


@pytest.fixture(params=FAMILIES, ids=lambda family: family.NAME)
def family(request, monkeypatch) -> TransformerFamily:
    known: TransformerFamily = request.param
    entry = single_file_model.SINGLE_FILE_LOADABLE_CLASSES[known.MARKS.class_name]
    if known.NAME in ("flux", "chroma"):
        converter = original_layouts.sized(entry["checkpoint_mapping_fn"], WIDTH)
        monkeypatch.setitem(entry, "checkpoint_mapping_fn", converter)
    return known


def original(family, transformer):
    tensors = original_layouts.tensors(family.NAME, family.EXPORTS.names, transformer)
    if family.NAME == "anima":
        tensors["llm_adapter.norm.weight"] = torch.ones(2)
    return tensors


def name_of(layer):
    return layer.name


def assert_equal(loaded, transformer):
    weights = loaded.state_dict()
    assert weights.keys() == transformer.state_dict().keys()
    for key, value in transformer.state_dict().items():
        assert torch.equal(weights[key], value), key


def test_a_file_in_the_original_layout(dit_base, tmp_path, family):
    folder, path = dit_base(family.NAME), tmp_path / "model.safetensors"
    transformer = random_dit.build(family.NAME).models["transformer"]
    tensors = original(family, transformer)
    for prefix in family.MARKS.prefixes:
        save_file({prefix + name: tensor for name, tensor in tensors.items()}, path)
        assert detect(path).family == family.NAME
        loaded = dit_files.load_transformer(path, family.MARKS.class_name, folder, torch.float32)
        assert_equal(loaded, transformer)
        in_file = model_shapes.read(str(path), others=folder)
        in_folder = model_shapes.read(str(folder))
        assert in_file is not None and in_folder is not None
        both = [sorted(s.layers["transformer"], key=name_of) for s in (in_file, in_folder)]
        assert both[0] == both[1]


def test_a_file_in_diffusers_layout(dit_base, tmp_path, family):
    folder, path = dit_base(family.NAME), tmp_path / "model.safetensors"
    transformer = random_dit.build(family.NAME).models["transformer"]
    save_file(dict(transformer.state_dict()), path)
    if family.NAME != "anima":  # which is a Cosmos model beside its text conditioner
        assert detect(path).family == family.NAME
    loaded = dit_files.load_transformer(path, family.MARKS.class_name, folder, torch.float32)
    assert_equal(loaded, transformer)


def test_a_file_without_one_of_the_weights_is_refused(dit_base, tmp_path, family):
    path = tmp_path / "model.safetensors"
    tensors = dict(random_dit.build(family.NAME).models["transformer"].state_dict())
    del tensors[max(tensors)]
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match="not a transformer that fits") as failure:
        dit_files.load_transformer(
            path, family.MARKS.class_name, dit_base(family.NAME), torch.float32
        )
    assert failure.value.hint


@pytest.mark.parametrize("scale", ["layers.0.attention.qkv.scale_weight", "scaled_fp8"])
def test_scaled_8_bit_files_are_refused(dit_base, tmp_path, scale):
    path = tmp_path / "model.safetensors"
    tensors = dict(random_dit.build("z-image").models["transformer"].state_dict())
    save_file({**tensors, scale: torch.ones(1)}, path)
    with pytest.raises(ModelFileError, match="scaled 8-bit numbers") as failure:
        dit_files.load_transformer(
            path, "ZImageTransformer2DModel", dit_base("z-image"), torch.float32
        )
    assert "bf16" in str(failure.value.hint)
