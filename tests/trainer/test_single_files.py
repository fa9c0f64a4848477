"""A transformer in one file of its own, in each layout that people have, is that of its folder."""

import shutil

import pytest
import torch
from diffusers.loaders import single_file_model
from safetensors.torch import load_file, save_file

from datasetkit.core.errors import ModelFileError
from datasetkit.options.train import TrainOptions
from tests.trainer import original_layouts
from trainer import random_dit
from trainer.families import dit_files, registry
from trainer.families.anima import CONDITIONER
from trainer.families.detect import detect
from trainer.families.dit_family import TransformerFamily
from trainer.plan import model_shapes
from trainer.setup import _text_identity

FAMILIES = [f for f in registry.families() if isinstance(f, TransformerFamily)]
WIDTH = 32  # of the random Flux.1 and Chroma
ANIMA = next(family for family in FAMILIES if family.NAME == "anima")


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


# ---- Anima's text conditioner, which its files have beside the transformer

ADAPTER = "llm_adapter."


@pytest.fixture
def anima_file(tmp_path):
    """Return a function: a file with other weights than the folder's conditioner has."""

    def save(prefix="net.", without="", **changed):
        built = random_dit.build("anima").models
        tensors = original_layouts.tensors("anima", ANIMA.EXPORTS.names, built["transformer"])
        weights = built["text_conditioner"].state_dict()
        other = {name: value + 1 for name, value in weights.items() if name != without}
        tensors |= {ADAPTER + name: tensor for name, tensor in (other | changed).items()}
        path = tmp_path / "anima.safetensors"
        save_file({prefix + name: tensor for name, tensor in tensors.items()}, path)
        return path, other

    return save


def conditioner_of(path, folder, **options):
    return ANIMA.load(str(path), folder=folder, only=ANIMA.ENCODERS, **options).encoders[
        CONDITIONER
    ]


@pytest.mark.parametrize("prefix", ANIMA.MARKS.prefixes)
def test_the_conditioner_of_a_file_is_read(dit_base, anima_file, prefix):
    path, weights = anima_file(prefix, **{"rotary_emb.inv_freq": torch.ones(4)})  # a buffer
    loaded = conditioner_of(path, dit_base("anima")).state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.long
def test_the_conditioner_of_a_file_works_as_that_of_a_folder(dit_base, anima_file):
    path, weights = anima_file()
    folder = dit_base("anima")
    parts = ANIMA.load(str(path), folder=folder, dtype=torch.bfloat16)
    in_file = parts.encoders[CONDITIONER]
    assert list(parts.encoders) == list(ANIMA.ENCODERS)
    assert in_file.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in in_file.parameters())
    of_folder = ANIMA.load(str(folder), only=ANIMA.ENCODERS)
    of_folder.encoders[CONDITIONER].load_state_dict(weights)
    parts = ANIMA.load(str(path), folder=folder, only=ANIMA.ENCODERS)
    rows = [
        ANIMA.encode_text(each, ["1girl, smile"], clip_skip=1, max_tokens=75).states
        for each in (parts, of_folder)
    ]
    assert torch.equal(*rows)


def test_a_file_without_the_conditioner_takes_that_of_the_folder(dit_base, tmp_path):
    folder, path = dit_base("anima"), tmp_path / "transformer.safetensors"
    save_file(dict(random_dit.build("anima").models["transformer"].state_dict()), path)
    expected = ANIMA.load(str(folder), only=ANIMA.ENCODERS).encoders[CONDITIONER].state_dict()
    loaded = conditioner_of(path, folder).state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"without": "norm.weight"}, "norm.weight is missing"),
        ({"norm.weight": torch.ones(7)}, r"norm.weight has the shape \[7\]"),
        ({"norm.scale_weight": torch.ones(1)}, "scaled 8-bit"),
    ],
)
def test_a_conditioner_that_does_not_fit_is_refused(dit_base, anima_file, changes, why):
    path, _ = anima_file(**changes)
    with pytest.raises(ModelFileError, match=why) as failure:
        conditioner_of(path, dit_base("anima"))
    assert failure.value.hint and path.name in failure.value.message


def test_encoded_captions_are_of_the_file_and_of_its_folder(dit_base, anima_file, tmp_path):
    path, _ = anima_file()
    folder = shutil.copytree(dit_base("anima"), tmp_path / "folder")
    options = TrainOptions(pretrained_model_name_or_path=str(path), base_folder=str(folder))
    first = _text_identity(options, "anima")
    assert _text_identity(options, "anima") == first
    encoder = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(encoder)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, encoder)
    assert _text_identity(options, "anima") != first
