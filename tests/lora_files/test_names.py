"""Names of layers: every form of a file gives the same layer, and the sets are those of the
models.
"""

import hashlib

import pytest

from trainer.lora_files.layer_names import (
    LayerName,
    diffusers,
    full_set,
    is_convolutional,
    kohya,
    parse,
)

# sha256 of the sorted names, joined by newlines; taken from the real models.
SETS = {
    ("sd1", "unet", False): (192, "bdfc29d0bf3d9ac6"),
    ("sd1", "unet", True): (278, "620b9a8905915e25"),
    ("sd2", "unet", True): (278, "620b9a8905915e25"),
    ("sdxl", "unet", False): (722, "5d819b833e27947d"),
    ("sdxl", "unet", True): (788, "6eaed2d7a4528e0a"),
    ("sd1", "text_encoder", True): (72, "8da961b9692b4294"),
    ("sd2", "text_encoder", True): (138, "9df99b6511841d5a"),
    ("sdxl", "text_encoder", True): (72, "d9e087048fab15eb"),
    ("sdxl", "text_encoder_2", True): (192, "5f9c761b5ffdbbdc"),
}


@pytest.mark.parametrize(("family", "part", "convolutions"), SETS)
def test_the_layers_of_a_family_are_those_of_the_model(family, part, convolutions):
    names = sorted(
        kohya(name, family)
        for name in full_set(family)
        if name.part == part and (convolutions or not is_convolutional(name))
    )
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    assert (len(names), digest) == SETS[family, part, convolutions]


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_name_is_read_back_from_both_forms(family):
    for name in full_set(family):
        assert parse(kohya(name, family)) == name
        assert parse(diffusers(name)) == name


@pytest.mark.parametrize(
    ("key", "part", "path", "block", "kind"),
    [
        (
            "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_out_lora",
            "unet", "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", "IN02",
            "attn1.to_out",
        ),
        (
            "base_model.model.mid_block.attentions.0.proj_in",
            "unet", "mid_block.attentions.0.proj_in", "MID", "proj_in",
        ),
        (
            "base_model.model.text_model.encoder.layers.3.mlp.fc1",
            "text_encoder", "text_model.encoder.layers.3.mlp.fc1", "03", "fc1",
        ),
        (
            "text_encoder.encoder.layers.3.self_attn.q_proj",
            "text_encoder", "text_model.encoder.layers.3.self_attn.q_proj", "03", "q_proj",
        ),
        ("lora_unet_input_blocks_0_0", "unet", "conv_in", "IN00", "conv_in"),
        ("lora_unet_output_blocks_2_1_conv", "unet", "up_blocks.0.upsamplers.0.conv", "OUT02",
         "upsampler"),
        ("lora_unet_output_blocks_2_2_conv", "unet", "up_blocks.0.upsamplers.0.conv", "OUT02",
         "upsampler"),
        ("lora_unet_input_blocks_3_0_op", "unet", "down_blocks.0.downsamplers.0.conv", "IN03",
         "downsampler"),
        ("lora_unet_middle_block_2_in_layers_2", "unet", "mid_block.resnets.1.conv1", "MID",
         "conv1"),
        ("lora_unet_double_blocks_4_img_attn_qkv", "", "lora_unet_double_blocks_4_img_attn_qkv",
         "BASE", "lora_unet_double_blocks_N_img_attn_qkv"),
        ("lora_te1_text_model_encoder_layers_x", "", "lora_te1_text_model_encoder_layers_x",
         "BASE", "lora_teN_text_model_encoder_layers_x"),
    ],
)  # fmt: skip
def test_other_forms_of_names(key, part, path, block, kind):
    name = parse(key)
    assert name == LayerName(part, path)
    assert (name.block, name.kind) == (block, kind)
