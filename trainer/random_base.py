"""A random base model: a family's full structure with few channels and random weights.

A LoRA trained on it generates no usable images; it shows that data, trainer and LoRA files work
together. `python -m trainer.random_base FOLDER` writes one of Stable Diffusion 1, `--family
z-image` one of another family (trainer/random_dit.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import ConfigError, DskError, InputError
from datasetkit.core.files import display, write_atomic, writing

WIDTH: Final = 16  # of the text encoder's hidden states; Stable Diffusion 1 has 768
PARTS: Final = ("unet", "text_encoder", "vae")
SD1: Final = "sd1"
WARNING: Final = (
    "This is a random base: the structure of {family} with random weights, for tests. A LoRA "
    "trained on it generates no usable images; that needs a trained base model."
)


def unet() -> UNet2DConditionModel:
    """Build SD1's UNet with all 192 modules that LoRA adapts, and 4 to 8 channels instead of 320 to
    1280.
    """
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def text_encoder() -> CLIPTextModel:
    """Build CLIP's text encoder with its 12 layers (72 modules) and 16 channels."""
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
    """Build SD1's VAE, four blocks with a factor of 8, with 4 channels."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
    )


def parts(seed: int = 0) -> tuple[Any, Any, Any]:
    """Build UNet, text encoder and VAE; the same seed gives the same weights."""
    models = []
    with torch.random.fork_rng(devices=[]):
        for number, make in enumerate((unet, text_encoder, vae), 1):
            torch.manual_seed(3 * seed + number)
            models.append(make())
    return models[0], models[1], models[2]


def warning(family: str = SD1) -> str:
    """Return what a random base is and what it is not."""
    return WARNING.format(family="Stable Diffusion 1" if family == SD1 else family)


def save(folder: Path, seed: int = 0, family: str = SD1) -> Path:
    """Write a random base as a diffusers folder, with a README.txt that says what it is.

    Raises InputError if the folder has other files: a real model is not overwritten.
    """
    logging.disable_progress_bar()
    notice = folder / "README.txt"
    if (
        folder.exists()
        and not _is_random_base(notice, family)
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise InputError(f"{display(folder)} has other files", hint="name a new folder")
    with writing(folder):
        make_folders(folder)
        write_atomic(notice, f"{warning(family)}\n".encode())
        if family != SD1:
            from trainer import random_dit

            return random_dit.save(folder, family, seed)
        for name, part in zip(PARTS, parts(seed), strict=True):
            part.save_pretrained(folder / name)
        # Written last: it marks a complete model.
        write_atomic(
            folder / "model_index.json",
            json.dumps({"_class_name": "StableDiffusionPipeline"}).encode(),
        )
    return folder


def _is_random_base(notice: Path, family: str) -> bool:
    return notice.is_file() and notice.read_text(encoding="utf-8", errors="replace").startswith(
        warning(family)
    )


def _require_family(name: str) -> str:
    from trainer.random_dit import BUILDERS

    if name != SD1 and name not in BUILDERS:
        raise ConfigError(
            f"there is no random base of {display(name)}",
            hint=f"one of {', '.join((SD1, *BUILDERS))}",
        )
    return name


def main(arguments: list[str]) -> int:
    """Write a random base, and print what it is."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.random_base", description=warning("a family")
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a new folder, in diffusers' format"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")
    parser.add_argument(
        "--family", default=SD1, help="sd1 (the default), z-image, anima, flux2, flux, chroma, "
        "krea2, qwen or sd3"
    )  # fmt: skip
    given = parser.parse_args(arguments)
    folder = save(given.folder, given.seed, _require_family(given.family))
    sys.stdout.write(f"{display(folder)}\n{warning(given.family)}\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DskError as failure:
        sys.stderr.write(
            f"error: {failure.message}\n" + (f"hint: {failure.hint}\n" if failure.hint else "")
        )
        sys.exit(failure.exit_code)
