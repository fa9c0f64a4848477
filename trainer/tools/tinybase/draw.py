"""Drawing many portraits at once with diffusers' own pipeline, and putting them into a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from trainer.families import sd
from trainer.families.base import Parts
from trainer.tools.tinybase.data import SIZE

STEPS: Final = 25
GUIDANCE: Final = 4.0
_AT_ONCE: Final = 64
_GAP: Final = 4  # pixels


def scheduler() -> Any:
    """Make the sampler, on Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def pipeline(parts: Parts) -> Any:
    """Make diffusers' pipeline of the parts; captions are encoded here and not by it."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        parts.vae,
        parts.encoders["text_encoder"],
        None,
        parts.denoiser,
        scheduler(),
        None,
        None,
        None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def draw(
    parts: Parts,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> NDArray[np.uint8]:
    """Draw an image of each prompt, (prompts, 64, 64, 3); image n is drawn from noise of its
    own, seed + n.
    """
    drawing = pipeline(parts)
    images = []
    for start in range(0, len(prompts), _AT_ONCE):
        texts = prompts[start : start + _AT_ONCE]
        states = sd.encode_text(parts, [*texts, ""], clip_skip=1, max_tokens=75).states
        image = drawing(
            prompt_embeds=states[:-1],
            negative_prompt_embeds=states[-1:].expand(len(texts), -1, -1),
            height=SIZE,
            width=SIZE,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed + start + n) for n in range(len(texts))],
            output_type="np",
        ).images
        images.append((image * 255).round().astype(np.uint8))
    return np.concatenate(images)


def grid(images: NDArray[np.uint8], columns: int, *, enlarge: int = 2) -> Image.Image:
    """Put images into rows, each enlarged so many times with its pixels kept."""
    side = images.shape[1] * enlarge
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, rows * (side + _GAP) + _GAP), "white")
    for n, image in enumerate(images):
        at = (_GAP + n % columns * (side + _GAP), _GAP + n // columns * (side + _GAP))
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), at)
    return sheet


def parts_of(unet: Any, vae: Any, text_encoder: Any) -> Parts:
    """Return parts in memory as the families know them."""
    return Parts(unet, vae, {"text_encoder": text_encoder}, Path("tiny"), "sd1")
