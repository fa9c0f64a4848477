"""The layers of diffusion transformers: which LoRA adapts, and what both codes call them."""

import hashlib
from functools import cache
from typing import Any

import diffusers
import pytest
from accelerate import init_empty_weights
from torch import nn

from trainer import random_dit
from trainer.families import dit_names

NAMES = {
    "flux": dit_names.FLUX,
    "chroma": dit_names.FLUX,
    "flux2": dit_names.FLUX2,
    "qwen": dit_names.QWEN,
    "z-image": dit_names.Z_IMAGE,
    "krea2": dit_names.KREA2,
    "anima": dit_names.ANIMA,
    "sd3": dit_names.SD3,
}
SD3_SIZE = {
    "attention_head_dim": 64, "qk_norm": "rms_norm", "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048, "pos_embed_max_size": 16,  # 192 and more take seconds
}  # fmt: skip
# A model's name -> the family, the class, its configuration where it is not the class's own.
FULL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flux": ("flux", "FluxTransformer2DModel", {"guidance_embeds": True}),
    "chroma": ("chroma", "ChromaTransformer2DModel", {}),
    "flux2-dev": ("flux2", "Flux2Transformer2DModel", {}),
    "klein-4b": (
        "flux2",
        "Flux2Transformer2DModel",
        {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24,
         "joint_attention_dim": 7680, "guidance_embeds": False},
    ),
    "klein-9b": (
        "flux2",
        "Flux2Transformer2DModel",
        {"num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32,
         "joint_attention_dim": 12288, "guidance_embeds": False},
    ),
    "qwen": ("qwen", "QwenImageTransformer2DModel", {}),
    "z-image": ("z-image", "ZImageTransformer2DModel", {}),
    "krea2": ("krea2", "Krea2Transformer2DModel", {}),
    "anima": (
        "anima",
        "CosmosTransformer3DModel",
        {"num_attention_heads": 16, "attention_head_dim": 128, "num_layers": 28,
         "text_embed_dim": 1024, "adaln_lora_dim": 256, "rope_scale": (1.0, 4.0, 4.0),
         "extra_pos_embed_type": None},
    ),
    "sd3.5-large": (
        "sd3",
        "SD3Transformer2DModel",
        {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, **SD3_SIZE},
    ),
    "sd3.5-medium": (
        "sd3",
        "SD3Transformer2DModel",
        {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, **SD3_SIZE,
         "dual_attention_layers": tuple(range(13))},
    ),
}  # fmt: skip


def sha(names):
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def linear_layers(model):
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear)}


def keys(paths):
    return [f"transformer.{path}.lora_{side}.weight" for path in paths for side in "AB"]


def originals(names, paths):
    return {names.to_original(path).path for path in paths}


GOLDEN = """
flux         418 89e67215fb35cedd 733a222814da71d1 266 11f37d62b47acb9f 228 1a9e72d97bd29269 ce53f48323225ef1 65.37 26.15
chroma       418 89e67215fb35cedd 733a222814da71d1 266 11f37d62b47acb9f 228 1a9e72d97bd29269 ce53f48323225ef1 65.37 26.15
flux2-dev    192 50d43a2f880cf973 7d67fd39901d1076 160 92c0c3df17c31a9e 160 c92aba905c96248e 08398316bfd25f49 100.66 83.36
klein-4b     100 94224fcb9ad09e52 1fb80324b7577b36 80 d6964cb8fdc69678 80 587e6cf657fa1d4c 09860854b27dbfaa 24.08 18.68
klein-9b     144 f1393b97b86c1064 b08b971326b3301d 112 d5e8072c9fba9d29 112 a04adec077b54cd9 3df220c57705c5bd 43.52 31.98
qwen         720 bcf4101c1a74c873 46ffd281a906efd0 480 8307658db9f1a23b 720 bcf4101c1a74c873 7c8924ccf3970ee9 106.17 47.19
z-image      210 d00d19827274ab94 4c48ee45571feb2b 120 e5bafe34f2884e1b 150 703288123eb65760 9a9c2c787d66f743 35.02 14.75
krea2        224 3446475615b81c09 3202c177e5a44314 140 0a90067f0ea8bb67 224 80c6633c2c8212d7 1b4a6b78fedb6f8f 53.67 23.40
anima        280 9912928ac9a71576 3295404d7dc19014 224 577843c3cefada9a 280 a7d1c1f641c821a0 fef7f5ee216f1b75 22.94 13.76
sd3.5-large  453 d9cf624d243e97ad d981781ac5f8fd4c 303 d622bb0ed588945f 301 8cd91bc381175db2 d58d09740da23568 52.76 23.58
sd3.5-medium 337 3ccbb1bccfc1fb67 7b7909a6a335629c 243 0124f91815b44d23 215 018b1e25f8ffadb6 329c5725dd93e2eb 23.49 11.94
""".split("\n")[1:-1]  # noqa: E501


@pytest.mark.parametrize("row", GOLDEN, ids=[row.split()[0] for row in GOLDEN])
def test_layers_of_a_full_size_model_have_their_golden_names(row):
    name, modules, paths_sha, keys_sha, attention, attention_sha, *rest = row.split()
    fused, original_sha, kohya_sha, millions, attention_millions = rest
    family, kind, config = FULL[name]
    names = NAMES[family]
    with init_empty_weights():
        layers = linear_layers(getattr(diffusers, kind)(**config))
    paths = names.targets(layers)
    assert (len(paths), sha(paths), sha(keys(paths))) == (int(modules), paths_sha, keys_sha)
    small = names.targets(layers, attention_only=True)
    assert (len(small), sha(small)) == (int(attention), attention_sha)
    own = originals(names, paths)
    assert (len(own), sha(own)) == (int(fused), original_sha)
    assert sha("lora_unet_" + path.replace(".", "_") for path in own) == kohya_sha
    for chosen, size in ((paths, millions), (small, attention_millions)):
        weights = sum(16 * sum(layers[path].weight.shape) for path in chosen)
        assert f"{weights / 1e6:.2f}" == size


TINY = {
    "flux": (81664, 17, "907126b84efb37f1", "aa62d10a2cd822e8"),
    "chroma": (46528, 17, "907126b84efb37f1", "aa62d10a2cd822e8"),
    "flux2": (76384, 14, "b20d504ab1e6cada", "10c07a225a3dca62"),
    "qwen": (195376, 24, "b2d4e5bd3dc73e59", "2e58e1086a6a38bd"),
    "z-image": (364176, 14, "5e723d59c7ea85ec", "7404daf5e5b7abca"),
    "krea2": (32147, 16, "14c3c2978cb55684", "1ef24b627d8a743b"),
    "anima": (36512, 20, "8d21bb81fe08a55a", "dd6aada947269122"),
    "sd3": (89264, 25, "6cda210adf07f2b0", "66371450df5b3dd7"),
}


@cache
def transformer_of(family):
    return random_dit.build(family).models["transformer"]


@pytest.mark.parametrize("family", random_dit.BUILDERS)
def test_layers_of_a_random_base_have_their_golden_names(family):
    transformer = transformer_of(family)
    parameters, modules, paths_sha, keys_sha = TINY[family]
    paths = NAMES[family].targets(linear_layers(transformer))
    assert transformer.num_parameters() == parameters
    assert (len(paths), sha(paths), sha(keys(paths))) == (modules, paths_sha, keys_sha)


@pytest.mark.parametrize("family", random_dit.BUILDERS)
def test_names_lead_back_from_both_codes_with_dots_and_without(family):
    names = NAMES[family]
    transformer = transformer_of(family)
    for path in names.targets(linear_layers(transformer)):
        layer = names.to_original(path)
        parts = names.from_original(layer.path)
        assert parts[layer.row] == path
        assert len(parts) == layer.rows
        assert names.dotted(path.replace(".", "_")) == path
        assert names.dotted(layer.path.replace(".", "_")) == layer.path
        number = dit_names.block_number(path)
        assert number == dit_names.block_number(layer.path) == int(path.split(".")[1])


def test_blocks_of_two_digits_keep_their_number():
    fused = dit_names.FLUX.to_original("single_transformer_blocks.37.proj_mlp")
    assert fused == dit_names.OriginalLayer("single_blocks.37.linear1", 3, 4)
    assert dit_names.FLUX.dotted("single_blocks_37_linear1") == "single_blocks.37.linear1"


@pytest.mark.parametrize(
    "path",
    [
        "noise_refiner.0.attention.to_q",
        "context_refiner.0.feed_forward.w1",
        "layers.0.adaLN_modulation.0",
        "cap_embedder.1",
        "layers.0.attention.to_qq",
        "model.layers.0.attention.to_q",
        "",
    ],
)
def test_layers_outside_of_the_main_blocks_are_no_targets(path):
    assert not dit_names.Z_IMAGE.is_target(path)
    assert dit_names.Z_IMAGE.from_original(path) == ()
    assert dit_names.Z_IMAGE.dotted(path.replace(".", "_")) == ""
