"""The shapes of the tiny base's parts: Stable Diffusion 1's kind of blocks, few and narrow."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from datasetkit.captions.tokens import BOS, EOS
from trainer.families.sd import LATENT_SCALE

WIDTH: Final = 64  # of the text's states: CLIP's vocabulary times it is a third of the whole file
VOCABULARY: Final = 49408
POSITIONS: Final = 77
CHANNELS: Final = 8  # of a latent; Stable Diffusion 1 has 4, for images without such thin lines
# a latent's side is a fourth of the image's: thin lines at 64 pixels would not live through 8
VAE_FACTOR: Final = 4


def vae() -> AutoencoderKL:
    """Make the VAE: three blocks, which halve the image twice."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=CHANNELS,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=LATENT_SCALE,
    )


def unet() -> UNet2DConditionModel:
    """Make the UNet: cross attention stands where a place is 8 x 8 pixels, and in the middle."""
    return UNet2DConditionModel(
        sample_size=64 // VAE_FACTOR,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(48, 96, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4, 4),  # in diffusers this is the number of heads
        norm_num_groups=16,
    )


def text_encoder() -> CLIPTextModel:
    """Make CLIP's text encoder with three layers; its places begin as sines, so that neighbours are
    soon found.
    """
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=EOS,
        )
    )
    for name, parameter in encoder.named_parameters():
        if name.endswith("position_embedding.weight"):
            parameter.data.copy_(
                0.02 * _sines(POSITIONS, WIDTH)
            )  # 0.02 is also the deviation of the words' vectors
    return encoder


def _sines(places: int, width: int) -> Tensor:
    """Return sines and cosines of ever slower turns, (places, width) (Vaswani et al. 2017, section
    3.5).
    """
    turns = torch.exp(torch.arange(0, width, 2) * (-math.log(1000.0) / width))
    angles = torch.arange(places)[:, None] * turns
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def parts(seed: int) -> tuple[Any, Any, Any]:
    """Make UNet, text encoder and VAE with random weights; the same seed makes the same."""
    models = []
    with torch.random.fork_rng(devices=[]):
        for number, make in enumerate((unet, text_encoder, vae), 1):
            torch.manual_seed(3 * seed + number)
            models.append(make())
    return models[0], models[1], models[2]


def use_plain_attention(unet: Any, text_encoder: Any) -> None:
    """Let attention be computed step by step: so small, it is quicker on a CPU than the fused
    kernel.
    """
    from diffusers.models.attention_processor import AttnProcessor

    unet.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")
