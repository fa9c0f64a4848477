"""Stable Diffusion 1: a folder and a single file load the same parts, and modules have kohya's
names.
"""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from datasetkit.core.errors import ConfigError, ModelFileError
from tests.trainer import tiny
from trainer import random_base
from trainer.families import sd
from trainer.families.base import Parts


@pytest.fixture(scope="module")
def model(full_model):
    return full_model


def name_hash(names) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def parts(model):
    return sd.load(str(model))


@pytest.mark.long
def test_names_of_all_modules_are_kohyas(parts):
    unet, encoder = sd.targets(parts, "unet"), sd.targets(parts, "text_encoder")
    assert (len(unet), name_hash(unet)) == (192, "bdfc29d0bf3d9ac6")
    assert (len(encoder), name_hash(encoder)) == (72, "8da961b9692b4294")


def test_text_encoder_names_do_not_depend_on_the_module_tree(parts):
    class Older(nn.Module):
        """The tree of transformers before 5.6."""

        def __init__(self):
            super().__init__()
            self.text_model = parts.encoders["text_encoder"]

    older = Parts(parts.denoiser, parts.vae, {"text_encoder": Older()}, parts.source, "sd1")
    assert set(sd.targets(older, "text_encoder")) == set(sd.targets(parts, "text_encoder"))


def test_one_file_in_the_original_layout_is_the_same_model_as_a_folder(parts, tmp_path):
    path = tiny.save_checkpoint(tmp_path)
    single = sd.load(str(path), configs=tmp_path / "configs")
    for name in ("unet", "vae", "text_encoder"):
        there, here = (
            (own.models | {"vae": own.vae})[name].state_dict() for own in (parts, single)
        )
        assert there.keys() == here.keys()
        assert all(torch.equal(there[key], here[key]) for key in there)


@pytest.mark.long
@pytest.mark.parametrize("form", ["folder", "its model's folder", "file", "file of a checkpoint"])
def test_vae_option_replaces_the_models_vae(model, parts, tmp_path, form):
    other = random_base.parts(seed=9)[2]
    base = tiny.save_checkpoint(tmp_path)
    configs = tmp_path / "configs"
    path = tmp_path / "other"
    if form == "folder":
        other.save_pretrained(path)
    elif form == "its model's folder":
        random_base.save(path, seed=9)
    else:
        prefix = "first_stage_model." if form == "file of a checkpoint" else ""
        path = tmp_path / "vae.safetensors"
        save_file({f"{prefix}{k}": v for k, v in tiny.original_vae(other).items()}, path)
    loaded = sd.load(str(base), vae=str(path), configs=configs)
    theirs = other.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in loaded.vae.state_dict().items())
    assert not torch.equal(parts.vae.encoder.conv_in.weight, loaded.vae.encoder.conv_in.weight)


@pytest.mark.long
def test_file_that_is_not_a_vae_is_an_error(model, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "vae.safetensors")
    with pytest.raises(ModelFileError, match="not a VAE"):
        sd.load(str(model), vae=str(tmp_path / "vae.safetensors"))
    with pytest.raises(ModelFileError, match="pickle"):
        sd.load(str(model), vae=str(tmp_path / "vae.pt"))


def test_shipped_configurations_are_the_full_size_model():
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(sd.CONFIGS, subfolder="unet")
        )
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(sd.CONFIGS, subfolder="vae"))
        encoder = CLIPTextModel(
            CLIPTextConfig.from_pretrained(sd.CONFIGS, subfolder="text_encoder")
        )
    counted = [sum(p.numel() for p in part.parameters()) for part in (unet, vae, encoder)]
    assert counted == [859_520_964, 83_653_863, 123_060_480]


@pytest.mark.parametrize(
    "name", ["model.ckpt", "model.pt", "model.bin", "model.pkl", "missing.ckpt"]
)
def test_pickles_are_an_error_with_a_next_step(tmp_path, name):
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelFileError, match="pickle") as caught:
        sd.load(str(tmp_path / name))
    assert "safetensors" in caught.value.hint


def test_hub_model_needs_its_revision():
    with pytest.raises(ConfigError, match="revision"):
        sd.load("someone/some-model")
    with pytest.raises(ConfigError, match="revision"):
        sd.load("someone/some-model", revision="main")


def test_file_that_is_not_a_checkpoint_is_an_error(tmp_path):
    save_file({"lora_unet_x.alpha": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelFileError, match="not a Stable Diffusion 1 checkpoint"):
        sd.load(str(tmp_path / "lora.safetensors"))
    (tmp_path / "half.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelFileError, match="cannot read"):
        sd.load(str(tmp_path / "half.safetensors"))
    with pytest.raises(ModelFileError, match="does not exist"):
        sd.load(str(tmp_path / "none.safetensors"))
    with pytest.raises(ModelFileError, match="not a complete diffusers model"):
        sd.load(str(tmp_path))


def test_clip_skip_leaves_the_last_layers_unreachable(parts):
    assert sd.unreachable(parts, 1) == frozenset()
    assert len(sd.unreachable(parts, 2)) == 6
    assert all("layers_11_" in name for name in sd.unreachable(parts, 2))
