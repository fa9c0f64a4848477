"""The facts that a plan reads from the headers of a diffusion transformer."""

import pytest
from torch import nn

from trainer import random_dit
from trainer.families import dit_lora, dit_shapes
from trainer.lora_files import dit_exports

EXPORTS = {
    "z-image": dit_exports.Z_IMAGE,
    "anima": dit_exports.ANIMA,
    "flux2": dit_exports.FLUX2,
    "flux": dit_exports.FLUX,
    "chroma": dit_exports.FLUX,
    "krea2": dit_exports.KREA2,
    "qwen": dit_exports.QWEN,
    "sd3": dit_exports.SD3,
}


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def in_original(model, exports):
    """Return the shapes of the layers that LoRA adapts as the original code has them."""
    merged: dict[str, tuple[int, ...]] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and exports.names.is_target(path):
            name = f"model.diffusion_model.{exports.names.to_original(path).path}.weight"
            rows = merged.get(name, (0,))[0] + layer.out_features
            merged[name] = (rows, layer.in_features)
    return merged


@pytest.mark.parametrize("family", EXPORTS)
def test_layers_are_those_that_training_adapts_in_both_layouts(family):
    models, exports = random_dit.build(family).models, EXPORTS[family]
    transformer = models["transformer"]
    encoder = models["text_encoder"]
    facts = dit_shapes.anatomy(
        {"transformer": shapes(transformer), "text_encoder": shapes(encoder)}, exports.names
    )
    targets = dit_lora.targets(transformer, exports)
    expected = {
        name: tuple(transformer.get_submodule(path).weight.shape) for name, path in targets.items()
    }
    layers = facts.layers["transformer"]
    assert {layer.name: (layer.out, layer.ins) for layer in layers} == expected
    assert facts.parameters["transformer"] == transformer.num_parameters()
    original = dit_shapes.anatomy({"transformer": in_original(transformer, exports)}, exports.names)
    found = {layer.name: (layer.out, layer.ins) for layer in original.layers["transformer"]}
    assert found == expected


def test_widths_count_the_layers_that_image_tokens_pass():
    model = {
        "layers.0.attention.to_q.weight": (8, 8),
        "layers.0.adaLN_modulation.0.weight": (99, 8),
        "transformer_blocks.0.attn.add_q_proj.weight": (99, 8),
        "transformer_blocks.0.ff.net.2.weight": (4, 8),
        "norm_q.weight": (8,),
    }
    text = {"embed_tokens.weight": (99, 8), "layers.0.self_attn.q_proj.weight": (6, 8)}
    facts = dit_shapes.anatomy(
        {"transformer": model, "text_encoder": text}, dit_exports.Z_IMAGE.names
    )
    assert facts.width == (8 + 4) / 4
    assert facts.text_widths == {"text_encoder": 6}
