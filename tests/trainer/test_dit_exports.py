"""LoRAs of diffusion transformers in the formats that programs load."""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
from diffusers.loaders import lora_pipeline
from safetensors.numpy import save_file
from torch import nn

from datasetkit.core.errors import InputError
from trainer import random_dit
from trainer.lora_files import dit_exports
from trainer.lora_files.fused_layers import fused, split
from trainer.lora_files.low_rank import LowRank

EXPORTS = {
    "flux": dit_exports.FLUX,
    "chroma": dit_exports.FLUX,
    "flux2": dit_exports.FLUX2,
    "qwen": dit_exports.QWEN,
    "z-image": dit_exports.Z_IMAGE,
    "krea2": dit_exports.KREA2,
    "anima": dit_exports.ANIMA,
    "sd3": dit_exports.SD3,
}
# Chroma's pipeline has Flux.1's loader.
LOADERS = {
    "flux": "FluxLoraLoaderMixin",
    "chroma": "FluxLoraLoaderMixin",
    "flux2": "Flux2LoraLoaderMixin",
    "qwen": "QwenImageLoraLoaderMixin",
    "z-image": "ZImageLoraLoaderMixin",
    "krea2": "Krea2LoraLoaderMixin",
    "anima": "AnimaLoraLoaderMixin",
    "sd3": "SD3LoraLoaderMixin",
}
# Formats for other programs than diffusers, whose loader ignores them or stops.
NOT_FOR_DIFFUSERS = {("flux", "kohya"), ("chroma", "kohya"), ("anima", "kohya")}


@cache
def transformer_of(family):
    return random_dit.build(family).models["transformer"]


def random_lora(family, *, ranks=(4,), alphas=(2.0,), attention_only=False):
    """Return the transformer of a random base, and a LoRA of it by diffusers' paths."""
    transformer = transformer_of(family)
    numbers = np.random.default_rng(7)
    layers: dict[str, LowRank] = {}
    for path, layer in transformer.named_modules():
        if isinstance(layer, nn.Linear) and EXPORTS[family].names.is_target(
            path, attention_only=attention_only
        ):
            rank, alpha = ranks[len(layers) % len(ranks)], alphas[len(layers) % len(alphas)]
            up = numbers.normal(size=(layer.out_features, rank))
            down = numbers.normal(size=(rank, layer.in_features))
            layers[path] = LowRank(up, down, alpha / rank)
    return transformer, layers


def heights(transformer):
    return {
        path: layer.out_features
        for path, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear)
    }


def write(path, tensors):
    save_file({key: np.asarray(value, np.float32) for key, value in tensors}, path)
    return path


def loaded(family, path):
    """Return the change of each layer after diffusers' own loader has read a file."""
    transformer = copy.deepcopy(transformer_of(family))
    loader = getattr(lora_pipeline, LOADERS[family])
    state, metadata = loader.lora_state_dict(
        str(path.parent), weight_name=path.name, return_lora_metadata=True, local_files_only=True
    )
    alphas: dict[str, Any] = (
        {"network_alphas": None} if LOADERS[family] == "FluxLoraLoaderMixin" else {}
    )
    loader.load_lora_into_transformer(
        state, transformer=transformer, adapter_name="a", metadata=metadata, **alphas
    )
    return {
        name: layer.get_delta_weight("a").detach().double().numpy()
        for name, layer in transformer.named_modules()
        if hasattr(layer, "get_delta_weight") and "a" in layer.scaling
    }


def assert_same(changes, layers):
    assert set(changes) == set(layers)
    for path, layer in layers.items():
        expected = layer.product()
        error = np.linalg.norm(changes[path] - expected) / np.linalg.norm(expected)
        assert error < 1e-5, path


FORMATS = [
    (family, form)
    for family, exports in EXPORTS.items()
    for form in exports.formats
    if (family, form) not in NOT_FOR_DIFFUSERS
]


@pytest.mark.parametrize(("family", "form"), FORMATS, ids=["-".join(pair) for pair in FORMATS])
@pytest.mark.parametrize("ranks", [(4,), (2, 4, 3)], ids=["one rank", "mixed ranks"])
def test_diffusers_loads_every_layer(tmp_path, family, form, ranks):
    _, layers = random_lora(family, ranks=ranks, alphas=(2.0, 1.0))
    path = write(tmp_path / "a.safetensors", EXPORTS[family].tensors(layers, form))
    assert_same(loaded(family, path), layers)


@pytest.mark.parametrize("family", EXPORTS)
def test_reading_undoes_every_format(family):
    exports = EXPORTS[family]
    transformer, layers = random_lora(family, ranks=(2, 4, 3))
    for form in exports.formats:
        tensors = dict(exports.tensors(layers, form, heights(transformer)))
        read: dict[str, LowRank] = {}
        for key in tensors:
            name, ending, _ = key.partition(".lora_A.weight")
            if not ending:
                name, ending, _ = key.partition(".lora_down.weight")
            if ending:
                down = tensors[key]
                end = "lora_B" if ending.startswith(".lora_A") else "lora_up"
                up = tensors[f"{name}.{end}.weight"]
                alpha = tensors.get(f"{name}.alpha", len(down))
                layer = LowRank(up, down, float(alpha) / len(down))
                path = dit_exports.path_of(exports.names, name)
                read |= dit_exports.split_rows(exports.names, path, layer)
        assert set(read) == set(layers), form
        for path, layer in layers.items():
            assert read[path].rank == layer.rank
            np.testing.assert_allclose(read[path].product(), layer.product(), atol=1e-12)


@pytest.mark.parametrize(("family", "exports"), EXPORTS.items())
def test_only_kohyas_format_has_alpha(family, exports):
    _, layers = random_lora(family)
    for form in exports.formats:
        keys = [key for key, _ in exports.tensors(layers, form)]
        assert any(key.endswith(".alpha") for key in keys) == (form == "kohya")
        assert len(set(keys)) == len(keys)


def test_published_keys_of_each_family():
    expected = {
        "z-image": "diffusion_model.layers.0.attention.to_q.lora_A.weight",
        "qwen": "diffusion_model.transformer_blocks.0.attn.to_q.lora_A.weight",
        "krea2": "diffusion_model.blocks.0.attn.wq.lora_A.weight",
        "anima": "diffusion_model.blocks.0.self_attn.q_proj.lora_A.weight",
        "flux2": "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight",
        "flux": "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "chroma": "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "sd3": "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
    }
    for family, key in expected.items():
        _, layers = random_lora(family)
        assert key in dict(EXPORTS[family].tensors(layers))


def test_kohyas_names_of_a_fused_layer():
    _, layers = random_lora("flux", ranks=(4,), alphas=(2.0,))
    tensors = dict(dit_exports.FLUX.tensors(layers, "kohya"))
    down = tensors["lora_unet_single_blocks_0_linear1.lora_down.weight"]
    up = tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"]
    assert down.shape == (16, 32)
    assert up.shape == (3 * 32 + 128, 16)
    assert tensors["lora_unet_single_blocks_0_linear1.alpha"] == 8.0  # alpha / rank stays


def test_missing_part_of_a_fused_layer_needs_its_height():
    transformer, layers = random_lora("flux", attention_only=True)
    with pytest.raises(InputError, match=r"has no layer single_transformer_blocks\.0\.proj_mlp"):
        dict(dit_exports.FLUX.tensors(layers, "kohya"))
    tensors = dict(dit_exports.FLUX.tensors(layers, "kohya", heights(transformer)))
    up = tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"]
    assert up.shape == (3 * 32 + 128, 12)
    assert not up[96:].any()


def test_fused_layer_of_several_scales_is_multiplied_out():
    rows = [LowRank(np.ones((2, 1)), np.ones((1, 3)), scale) for scale in (0.5, 0.5, 2.0)]
    layer = fused(rows, [2, 2, 2])
    assert layer.scale == 1.0
    np.testing.assert_array_equal(layer.product()[:, 0], [0.5, 0.5, 0.5, 0.5, 2.0, 2.0])


def test_layer_that_was_trained_fused_is_split_with_its_shared_inner_dimensions():
    numbers = np.random.default_rng(3)
    layer = LowRank(numbers.normal(size=(6, 2)), numbers.normal(size=(2, 4)), 0.5)
    rows = split(layer, [2, 2, 2])
    assert [row.rank for row in rows if row] == [2, 2, 2]
    np.testing.assert_allclose(
        np.concatenate([row.product() for row in rows if row]), layer.product()
    )
    layer.up[2:4] = 0.0
    assert [row is None for row in split(layer, [2, 2, 2])] == [False, True, False]
    with pytest.raises(ValueError, match=r"6 rows are not 2 \+ 2"):
        split(layer, [2, 2])


def test_new_lora_keeps_its_rank_in_a_fused_layer():
    rows = [LowRank(np.zeros((2, 3)), np.full((3, 4), float(n))) for n in range(3)]
    back = split(fused(rows, [2, 2, 2]), [2, 2, 2])
    assert [row.rank for row in back if row] == [3, 3, 3]
    assert [row.down[0, 0] for row in back if row] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "key",
    [
        "transformer.transformer_blocks.0.attn.to_q",
        "transformer_blocks.0.attn.to_q",
        "diffusion_model.transformer_blocks.0.attn.to_q",
        "base_model.model.transformer_blocks.0.attn.to_q",
        "lora_transformer_transformer_blocks_0_attn_to_q",
        "lycoris_transformer_blocks_0_attn_to_q",
        "lora_unet_transformer_blocks_0_attn_to_q",
    ],
)
def test_layers_are_known_behind_every_prefix(key):
    names = dit_exports.QWEN.names
    assert dit_exports.path_of(names, key) == "transformer_blocks.0.attn.to_q"


def test_unknown_layers_have_no_path():
    assert dit_exports.path_of(dit_exports.FLUX.names, "lora_unet_final_layer_linear") == ""
