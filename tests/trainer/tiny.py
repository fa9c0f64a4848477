"""A Stable Diffusion 1 of the full structure (all 192 + 72 module names) with a few random weights."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 16  # of the text encoder's hidden states


def unet() -> UNet2DConditionModel:
    """Make SD1's UNet with 4 to 8 channels where it has 320 to 1280."""
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def text_encoder() -> CLIPTextModel:
    """Make CLIP's text encoder with 12 layers of 16 channels."""
    torch.manual_seed(2)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=12,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


def vae() -> AutoencoderKL:
    """Make SD1's VAE, four blocks that shrink eightfold, with 4 channels."""
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )


@cache
def _parts() -> tuple[UNet2DConditionModel, CLIPTextModel, AutoencoderKL]:
    return unet(), text_encoder(), vae()


def save_pipeline(folder: Path) -> Path:
    """Write the model as a diffusers folder."""
    for name, part in zip(("unet", "text_encoder", "vae"), _parts(), strict=True):
        part.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), encoding="utf-8")
    return folder


def save_pictures(folder: Path, sizes: list[tuple[int, int]], *, captions: bool = True) -> Path:
    """Write pictures of the sizes, each of other colours, and a caption beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, size in enumerate(sizes, 1):
        picture = Image.linear_gradient("L").resize(size)
        shade = Image.new("L", size, 37 * n % 256)
        Image.merge("RGB", (picture, shade, picture.transpose(Image.Transpose.ROTATE_180))).save(folder / f"{n}.png")
        if captions:
            (folder / f"{n}.txt").write_text(f"sks, tag {n}, red hair, smile\n", encoding="utf-8")
    return folder


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder that a test will change."""
    shutil.copytree(source, target)
    return target
