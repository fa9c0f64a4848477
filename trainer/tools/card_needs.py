"""Write trainer/plan/card_needs.json: what a training of each family needs, by the formula of the
plan. `python -m trainer.tools.card_needs`, after the formula has changed.

The models have no weights. Those of UNets are made from the configurations that ship with the
package, transformers from those of their classes, and of their text encoders only the number of
parameters counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from datasetkit.core.files import write_atomic
from datasetkit.options.train import TrainOptions
from trainer.families import registry, sd, sd2, sdxl
from trainer.families.dit_family import TransformerFamily
from trainer.plan import memory, model_shapes
from trainer.plan.card_needs import CHANGES, FILE
from trainer.plan.model_shapes import ModelShapes

# The side that each was made for; transformers are counted at 1024.
_SIDES: Final = {"sd1": 512, "sd2": 768, "sdxl": 1024}
_SIDE: Final = 1024
# Parameters of text encoders, in millions.
_CLIP_L, _CLIP_G, _T5, _QWEN3_4B = 123, 695, 4762, 4022
_SD35: Final = {
    "sample_size": 128, "pos_embed_max_size": 384, "qk_norm": "rms_norm",
    "joint_attention_dim": 4096, "pooled_projection_dim": 2048, "in_channels": 16,
}  # fmt: skip
_KLEIN: Final = {"guidance_embeds": False}
# Title -> family, configuration of the transformer where it is not its class's own, parameters of
# the encoders in millions.
_TRANSFORMERS: Final[Mapping[str, tuple[str, Mapping[str, Any], tuple[int, ...]]]] = {
    "Z-Image": ("z-image", {}, (_QWEN3_4B,)),
    "Anima": (
        "anima",
        {
            "num_attention_heads": 16, "attention_head_dim": 128, "num_layers": 28,
            "text_embed_dim": 1024, "adaln_lora_dim": 256, "extra_pos_embed_type": None,
        },
        (596, 140),
    ),
    "Flux.2 klein 4B": (
        "flux2",
        _KLEIN | {
            "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24,
            "joint_attention_dim": 7680,
        },
        (_QWEN3_4B,),
    ),
    "Flux.2 klein 9B": (
        "flux2",
        _KLEIN | {
            "num_layers": 8, "num_single_layers": 24, "num_attention_heads": 32,
            "joint_attention_dim": 12288,
        },
        (8191,),
    ),
    "Flux.2 dev": ("flux2", {}, (24011,)),
    "Flux.1 dev": ("flux", {"guidance_embeds": True}, (_CLIP_L, _T5)),
    "Chroma": ("chroma", {}, (_T5,)),
    "Krea 2": ("krea2", {}, (4438,)),
    "Qwen-Image": ("qwen", {}, (8292,)),
    "Stable Diffusion 3.5 medium": (
        "sd3",
        _SD35 | {
            "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536,
            "dual_attention_layers": tuple(range(13)),
        },
        (_CLIP_L, _CLIP_G, _T5),
    ),
    "Stable Diffusion 3.5 large": (
        "sd3",
        _SD35 | {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432},
        (_CLIP_L, _CLIP_G, _T5),
    ),
}  # fmt: skip
_FLUX_VAE: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip


def needs() -> dict[str, Any]:
    """Return each family's title and side -> the bytes of a run with each of the options."""
    return {
        f"{title} at {side}": [
            round(memory.estimate(replace(options, **change), (side, side), shapes).bytes)
            for change in CHANGES
        ]
        for title, side, shapes in (*_unets(), *_transformers())
        for options in [TrainOptions(resolution=side, mixed_precision="bf16", network_dim=16)]
    }


def _transformers() -> Iterator[tuple[str, int, ModelShapes]]:
    for title, (name, config, encoders) in _TRANSFORMERS.items():
        family = registry.family(name)
        kinds = {**family.KINDS} if isinstance(family, TransformerFamily) else {}
        with torch.device("meta"):
            transformer = getattr(diffusers, family.MARKS.class_name)(**config)
            vae = getattr(diffusers, kinds["vae"])(
                **(_FLUX_VAE if kinds["vae"] == "AutoencoderKL" else {})
            )
        parts = {"transformer": _shapes(transformer), "vae": _shapes(vae)}
        for part, millions in zip(family.ENCODERS, encoders, strict=True):
            parts[part] = {"embed_tokens.weight": (millions * 1_000_000, 1)}
        yield title, _SIDE, model_shapes.count(family, parts)


def _unets() -> Iterator[tuple[str, int, ModelShapes]]:
    for module in (sd, sd2, sdxl):
        parts: dict[str, Mapping[str, tuple[int, ...]]] = {}
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(
                UNet2DConditionModel.load_config(module.CONFIGS, subfolder="unet")
            )
            vae = AutoencoderKL.from_config(
                AutoencoderKL.load_config(module.CONFIGS, subfolder="vae")
            )
            for part in module.ENCODERS:
                config = CLIPTextConfig.from_pretrained(Path(module.CONFIGS) / part)
                parts[part] = _shapes(CLIPTextModel(config))
        parts |= {"unet": _shapes(unet), "vae": _shapes(vae)}
        yield module.TITLE, _SIDES[module.NAME], model_shapes.count(module, parts)


def _shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    write_atomic(FILE, (json.dumps(needs(), indent=2) + "\n").encode())
