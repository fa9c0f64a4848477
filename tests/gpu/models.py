"""Full-size random denoisers, made on the device, and tiny ones of the same families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel, ZImageTransformer2DModel
from torch import Tensor

from tests.trainer import tiny_families
from trainer import random_base, random_dit
from trainer.families import sd, sdxl
from trainer.families.base import Conditioning


@dataclass(frozen=True, slots=True)
class Model:
    """A denoiser. size: of the images; tokens, width, pooled: of the text, which is random: no text
    encoder is built. steps: that are measured.
    """

    build: Callable[[], Any]
    size: int
    tokens: int
    width: int
    pooled: int = 0
    masked: bool = False
    steps: int = 15

    def conditioning(self, count: int, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """Return random text states of so many captions."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(count, *shape, generator=generator).to(device, dtype)

        return Conditioning(
            random(self.tokens, self.width),
            pooled=random(self.pooled) if self.pooled else None,
            mask=torch.ones(count, self.tokens, dtype=torch.bool, device=device)
            if self.masked
            else None,
        )


def _unet(module: Any) -> Any:
    return UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(module.CONFIGS / "unet", local_files_only=True)
    )


FULL: Final[Mapping[str, Model]] = {
    "sd1": Model(partial(_unet, sd), 512, 77, 768),
    "sdxl": Model(partial(_unet, sdxl), 1024, 77, 2048, pooled=1280),
    "z-image": Model(ZImageTransformer2DModel, 1024, 128, 2560, masked=True, steps=10),
}
TINY: Final[Mapping[str, Model]] = {
    "sd1": Model(random_base.unet, 64, 77, random_base.WIDTH, steps=2),
    "sdxl": Model(
        lambda: tiny_families.make("sdxl")["unet"], 64, 77,
        tiny_families.WIDTH + tiny_families.WIDTH_2, tiny_families.POOLED, steps=2,
    ),
    "z-image": Model(
        lambda: random_dit.build("z-image").models["transformer"], 64, 8, random_dit.WIDTH,
        masked=True, steps=2,
    ),
}  # fmt: skip


def build(model: Model, device: torch.device, dtype: torch.dtype) -> Any:
    """Build a frozen denoiser with random weights, directly on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            denoiser = model.build()
    finally:
        torch.set_default_dtype(before)
    denoiser.requires_grad_(False).eval()
    for name, parameter in denoiser.named_parameters():
        if name.endswith("pad_token"):  # diffusers creates them empty
            torch.nn.init.normal_(parameter, std=0.02)
    return denoiser.to(device, dtype)


def autoencoder(family: str) -> Any:
    """Return a tiny VAE with the latents of the family: images are encoded before the first step,
    so its size is not measured.
    """
    if family == "z-image":
        return random_dit.build(family).models["vae"].requires_grad_(False).eval()
    return random_base.vae().requires_grad_(False).eval()
