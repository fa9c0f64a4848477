"""Any LoRA file is the same layers: kohya, LyCORIS, diffusers, peft."""

import json
import math

import numpy as np
import pytest
import torch

from datasetkit.core.errors import ModelFileError
from tests.lora_files import files
from trainer.lora_files import algebra, lora_file
from trainer.networks.registry import METHODS

UNET = "lora_unet_mid_block_attentions_0_proj_in"
PATH = "unet.mid_block.attentions.0.proj_in"
RNG = np.random.default_rng(3)


def only(path):
    (layer,) = lora_file.read(path).layers
    return layer


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora.down.weight", "lora.up.weight"),
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
        ("lora_down.weight", "lora_up.weight"),
    ],
)
def test_the_keys_of_diffusers_and_peft_give_the_layer_of_kohya(tmp_path, down, up):
    mine = files.pair(UNET, 6, 5, 2)
    tensors = {
        f"{PATH}.{down}": mine[f"{UNET}.lora_down.weight"],
        f"{PATH}.{up}": mine[f"{UNET}.lora_up.weight"],
    }
    theirs = only(files.save(tmp_path / "a.safetensors", tensors))
    kohya = only(files.save(tmp_path / "b.safetensors", mine))
    assert theirs.name == kohya.name and theirs.method == "lora"
    assert np.array_equal(algebra.delta(theirs), algebra.delta(kohya))


def test_the_processors_of_old_files_are_read(tmp_path):
    block = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    tensors = {
        f"{block}.processor.to_q_lora.down.weight": RNG.standard_normal((2, 5)),
        f"{block}.processor.to_q_lora.up.weight": RNG.standard_normal((6, 2)),
    }
    layer = only(files.save(tmp_path / "a.safetensors", tensors))
    assert layer.method == "lora"
    assert layer.name.path == "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("facts", "alpha"),
    [
        ({"unet.r": 4, "unet.lora_alpha": 2}, 2),
        ({"unet.r": 4, "unet.lora_alpha": 2, "unet.use_rslora": True}, 4),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"mid_block.attentions.0.proj_in": 8}}, 8),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"attentions.0.proj_in": 8}}, 8),
        ({"text_encoder.lora_alpha": 2}, None),
        ({"unet.lora_alpha": "2"}, None),
        ({}, None),
    ],
)
def test_the_alpha_of_a_diffusers_file_is_in_its_header(tmp_path, facts, alpha):
    tensors = {f"{PATH}.lora_A.weight": np.ones((4, 5)), f"{PATH}.lora_B.weight": np.ones((6, 4))}
    layer = only(files.save(tmp_path / "a.safetensors", tensors, files.adapter(facts)))
    assert layer.alpha == alpha
    assert layer.scale == (1 if alpha is None else alpha / 4)


def test_the_alpha_of_a_peft_file_is_in_the_config_beside_it(tmp_path):
    name = "base_model.model.mid_block.attentions.0.proj_in"
    tensors = {f"{name}.lora_A.weight": np.ones((4, 5)), f"{name}.lora_B.weight": np.ones((6, 4))}
    path = files.save(tmp_path / "adapter_model.safetensors", tensors)
    assert only(path).alpha is None
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))
    assert only(path).alpha == 16 and lora_file.read(path).format == "peft"
    (tmp_path / "adapter_config.json").write_text("[" * 100_000)
    assert only(path).alpha is None


OTHER_METHODS: dict[str, dict[str, tuple[int, ...]]] = {
    "loha": {
        "hada_w1_a": (6, 2), "hada_w1_b": (2, 5), "hada_w2_a": (6, 2), "hada_w2_b": (2, 5),
    },
    "lokr full": {"lokr_w1": (2, 2), "lokr_w2": (3, 5)},
    "lokr low": {"lokr_w1": (2, 2), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 5)},
    "lokr both": {
        "lokr_w1_a": (2, 1), "lokr_w1_b": (1, 2), "lokr_w2_a": (3, 1), "lokr_w2_b": (1, 5),
    },
    "lokr conv": {"lokr_w1": (2, 2), "lokr_w2": (3, 5, 3, 3)},
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_METHODS)
def test_a_change_is_that_of_the_trainer(tmp_path, kind):
    shapes = OTHER_METHODS[kind]
    tensors = {name: RNG.standard_normal(shape) for name, shape in shapes.items()}
    method = kind.split()[0]
    layer = only(
        files.save(
            tmp_path / "a.safetensors",
            {f"{UNET}.{name}": value for name, value in tensors.items()} | {f"{UNET}.alpha": 1.0},
            dtype="F64",
        )
    )
    mine = {name: torch.tensor(value) for name, value in tensors.items()}
    dim = METHODS[method].dim(mine)
    expected = METHODS[method].delta(mine).numpy() * (1 / dim if dim else 1)
    assert layer.method == method and layer.rank == dim
    assert np.allclose(algebra.delta(layer), expected, rtol=1e-12, atol=1e-12)


def test_the_middle_factor_of_a_convolution_is_multiplied_in(tmp_path):
    up, mid, down = (RNG.standard_normal(s) for s in ((6, 3, 1, 1), (3, 2, 3, 3), (2, 5, 1, 1)))
    tensors = {
        f"{UNET}.lora_up.weight": up,
        f"{UNET}.lora_mid.weight": mid,
        f"{UNET}.lora_down.weight": down,
    }
    layer = only(files.save(tmp_path / "a.safetensors", tensors, dtype="F64"))
    expected = np.einsum("pi,ijkl,jr->prkl", up[..., 0, 0], mid, down[..., 0, 0])
    assert np.allclose(algebra.delta(layer), expected.reshape(6, -1))
    assert layer.shape == (6, 5, 3, 3) and layer.has_kernel


def test_tucker_cores_of_loha_and_lokr_are_multiplied_in(tmp_path):
    core, a, b = (RNG.standard_normal(s) for s in ((2, 2, 3, 3), (2, 6), (2, 5)))
    whole = np.einsum("ijkl,ip,jr->prkl", core, a, b)
    tensors = {f"hada_{k}{n}{e}": v for n in (1, 2) for k, e, v in (
        ("t", "", core), ("w", "_a", a), ("w", "_b", b))}  # fmt: skip
    path = files.save(
        tmp_path / "a.safetensors", {f"{UNET}.{k}": v for k, v in tensors.items()}, dtype="F64"
    )
    assert np.allclose(algebra.delta(only(path)), (whole * whole).reshape(6, -1))
    small = RNG.standard_normal((2, 3))
    tensors = {"lokr_w1": small, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
    path = files.save(
        tmp_path / "b.safetensors", {f"{UNET}.{k}": v for k, v in tensors.items()}, dtype="F64"
    )
    expected = np.kron(small[:, :, None, None], whole).reshape(12, -1)
    assert np.allclose(algebra.delta(only(path)), expected)


def test_full_matrices_dora_and_other_methods_are_told_apart(tmp_path):
    one, two, three = (UNET.replace("0_proj_in", f"{n}_proj_in") for n in range(3))
    tensors = {
        f"{one}.diff": np.ones((6, 5)),
        **files.pair(two, 6, 5, 2),
        f"{two}.dora_scale": np.ones((1, 5)),
        f"{three}.oft_blocks": np.ones((2, 3, 3)),
    }
    layers = lora_file.read(files.save(tmp_path / "a.safetensors", tensors)).layers
    assert [layer.method for layer in layers] == ["full", "lora", "other"]
    assert [layer.is_dora for layer in layers] == [False, True, False]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({f"{UNET}.lora_up.weight": None}, "lora_up.weight is missing"),
        ({f"{UNET}.lora_up.weight": np.ones((6, 3))}, "lora_down has rank 2, lora_up 3"),
        ({f"{UNET}.lora_up.weight": np.ones(6)}, "lora_up.weight is not a matrix"),
        ({f"{UNET}.lora_up.weight": np.ones((0, 2))}, "a tensor is empty"),
        ({f"{UNET}.lora_up.weight": np.ones((6, 2, 3, 3))}, "lora_up has a kernel"),
    ],
)
def test_what_does_not_fit_is_a_problem_of_the_layer(tmp_path, changes, problem):
    tensors = {k: v for k, v in (files.pair(UNET, 6, 5, 2) | changes).items() if v is not None}
    layer = only(files.save(tmp_path / "a.safetensors", tensors))
    assert (layer.method, layer.problem) == ("incomplete", problem)
    with pytest.raises(ModelFileError, match="cannot be multiplied out"):
        algebra.delta(layer)


def test_a_layer_that_is_there_twice_is_refused(tmp_path):
    tensors = files.pair(UNET, 6, 5, 2) | files.pair("lora_unet_middle_block_1_proj_in", 6, 5, 2)
    with pytest.raises(ModelFileError, match="one layer twice"):
        lora_file.read(files.save(tmp_path / "a.safetensors", tensors))


def test_a_product_larger_than_any_layer_is_not_computed(tmp_path):
    tensors = {
        f"{UNET}.lora_down.weight": np.ones((1, 200_000)),
        f"{UNET}.lora_up.weight": np.ones((200_000, 1)),
        f"{UNET.replace('_0_', '_1_')}.hada_w1_a": np.ones((200_000, 1)),
        f"{UNET.replace('_0_', '_1_')}.hada_w1_b": np.ones((1, 200_000)),
        f"{UNET.replace('_0_', '_1_')}.hada_w2_a": np.ones((200_000, 1)),
        f"{UNET.replace('_0_', '_1_')}.hada_w2_b": np.ones((1, 200_000)),
    }
    layers = lora_file.read(files.save(tmp_path / "a.safetensors", tensors, dtype="F16")).layers
    for layer in layers:
        with pytest.raises(ModelFileError, match="larger than a layer of any model"):
            algebra.delta(layer)
    assert math.isclose(algebra.singular_values(algebra.low_rank(layers[0]))[0], 200_000)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "a checkpoint"),
        (["encoder.conv_in.weight"], "a VAE"),
        (["control_model.x"], "a ControlNet"),
        (["emb_params"], "an embedding"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a UNet"),
        (["something.weight"], "none of its tensors is one of a LoRA"),
        ([f"{UNET}.alpha"], "none of its tensors is one of a LoRA"),
        ([], "it has no tensors"),
    ],
)
def test_another_file_is_named(tmp_path, keys, what):
    path = files.save(tmp_path / "a.safetensors", {key: np.ones((1,)) for key in keys})
    with pytest.raises(ModelFileError, match=what):
        lora_file.read(path)


def test_the_family_is_found_by_names_widths_and_header(tmp_path):
    cross = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    text = "lora_te_text_model_encoder_layers_{}_mlp_fc1"

    def family(tensors, **metadata):
        path = files.save(tmp_path / "a.safetensors", tensors, metadata)
        return lora_file.read(path).family_title

    assert family(files.pair(cross, 6, 768, 2)) == "Stable Diffusion 1"
    assert family(files.pair(cross, 6, 1024, 2)) == "Stable Diffusion 2"
    assert family(files.pair(cross, 6, 2048, 2)) == "Stable Diffusion XL"
    assert family(files.pair(text.format(11), 6, 5, 2)) == "Stable Diffusion 1"
    assert family(files.pair(text.format(22), 6, 5, 2)) == "Stable Diffusion 2"
    assert family(files.pair(text.format(3), 6, 5, 2), ss_base_model_version="sd_v2_v") == (
        "Stable Diffusion 2"
    )
    te1 = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    assert family(files.pair(te1, 6, 5, 2)) == "Stable Diffusion XL"
    flux = files.pair("lora_unet_double_blocks_0_img_attn_qkv", 6, 5, 2)
    assert family(flux) == "Flux.1 or Chroma"
    assert family(files.pair("lora_unet_something", 6, 5, 2)) == "unknown"
