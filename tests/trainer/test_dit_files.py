"""The parts of diffusion transformers are loaded from folders, and transformers from one file."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from datasetkit.core.errors import ModelFileError
from trainer import random_dit
from trainer.families import dit_files

KINDS = {
    "transformer": "ZImageTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "Qwen3Model",
}


def test_parts_of_a_folder_are_frozen_and_the_vae_is_float32(dit_base):
    models, tokenizers = dit_files.load_parts(
        dit_base("z-image"), KINDS, ["tokenizer"], dtype=torch.bfloat16
    )
    made = random_dit.build("z-image").models
    for name, model in models.items():
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        expected = torch.float32 if name == "vae" else torch.bfloat16
        weights = {p.dtype for p in model.parameters()}
        assert expected in weights
        for key, value in made[name].state_dict().items():
            torch.testing.assert_close(
                model.state_dict()[key], value.to(expected), check_dtype=False
            )
    assert tokenizers["tokenizer"]("1girl").input_ids == made["tokenizer"]("1girl").input_ids


@pytest.mark.parametrize("missing", ["transformer/config.json", "text_encoder", "tokenizer"])
def test_incomplete_folder_says_what_is_missing(dit_base, tmp_path, missing):
    folder = shutil.copytree(dit_base("z-image"), tmp_path / "base")
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelFileError, match="base") as failure:
        dit_files.load_parts(folder, KINDS, ["tokenizer"], dtype=torch.float32)
    assert failure.value.hint


def test_transformer_in_one_file_is_that_of_its_folder(dit_base, tmp_path):
    transformer = random_dit.build("z-image").models["transformer"]
    path = tmp_path / "z.safetensors"
    save_file(original_z_image(transformer), path)
    loaded = dit_files.load_transformer(
        path, "ZImageTransformer2DModel", dit_base("z-image"), torch.float32
    )
    for key, value in transformer.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def original_z_image(transformer):
    """Return the tensors as the original code has them, q, k and v in one."""
    state = {}
    for key, value in transformer.state_dict().items():
        name = key.replace("attention.to_out.0", "attention.out")
        name = name.replace("attention.norm_q", "attention.q_norm")
        name = name.replace("attention.norm_k", "attention.k_norm")
        name = name.replace("all_x_embedder.2-1", "x_embedder")
        name = name.replace("all_final_layer.2-1", "final_layer")
        if ".to_" not in name:
            state[name] = value.contiguous()
        elif ".to_q." in name:
            rows = [transformer.state_dict()[key.replace("to_q", f"to_{x}")] for x in "qkv"]
            state[name.replace("to_q", "qkv")] = torch.cat(rows)
    return state


def test_file_of_another_model_does_not_fit(dit_base, tmp_path):
    path = tmp_path / "z.safetensors"
    save_file({"layers.0.attention.qkv.weight": torch.zeros(4, 4)}, path)
    with pytest.raises(ModelFileError, match="not a transformer that fits"):
        dit_files.load_transformer(
            path, "ZImageTransformer2DModel", dit_base("z-image"), torch.float32
        )
