"""Tiny models of Stable Diffusion 2 and XL, as diffusers folders and as one file in the original
layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging

from tests.trainer import tiny
from trainer import random_base

# Widths that all differ, so that a tensor the wrong way round does not fit.
WIDTH, WIDTH_2, POOLED, SIZED = 16, 24, 20, 8


def _clip(width: int, layers: int, act: str, projected: int) -> CLIPTextConfig:
    """The ids of the end and of the pad are those of most published configurations, and wrong."""
    return CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=77, hidden_act=act, projection_dim=projected,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def _vae(scale: float) -> AutoencoderKL:
    made = random_base.vae()
    made.register_to_config(scaling_factor=scale)
    return made


def _unet(**given: Any) -> UNet2DConditionModel:
    usual = {"sample_size": 8, "layers_per_block": 2, "attention_head_dim": 2, "norm_num_groups": 2}
    return UNet2DConditionModel(**usual, use_linear_projection=True, **given)


def _sd2() -> dict[str, Any]:
    return {
        "unet": _unet(
            block_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
        ),
        "text_encoder": CLIPTextModel(_clip(WIDTH, 2, "gelu", 512)),
        "vae": _vae(0.18215),
    }


def _sdxl() -> dict[str, Any]:
    return {
        "unet": _unet(
            block_out_channels=(4, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=WIDTH + WIDTH_2,
            addition_embed_type="text_time",
            addition_time_embed_dim=SIZED,
            projection_class_embeddings_input_dim=POOLED + 6 * SIZED,
        ),
        "text_encoder": CLIPTextModel(_clip(WIDTH, 2, "quick_gelu", WIDTH)),
        "text_encoder_2": CLIPTextModelWithProjection(_clip(WIDTH_2, 2, "gelu", POOLED)),
        "vae": _vae(0.13025),
    }


MAKERS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {"sd2": _sd2, "sdxl": _sdxl}
CLASSES: Final = {"sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


def make(family: str) -> dict[str, Any]:
    """Make the parts of a model; the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return {name: part.eval() for name, part in MAKERS[family]().items()}


def save_pipeline(folder: Path, family: str, prediction: str = "epsilon") -> Path:
    """Write a model as a diffusers folder; its scheduler's file says what it predicts."""
    logging.disable_progress_bar()
    parts = make(family)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    message = {"_class_name": "DDIMScheduler", "prediction_type": prediction}
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(message), encoding="utf-8"
    )
    index = {
        "_class_name": CLASSES[family],
        **{name: ["diffusers", type(p).__name__] for name, p in parts.items()},
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def open_clip(encoder: Any, *, more_layers: int = 0) -> dict[str, Tensor]:
    """Return a text encoder as OpenCLIP keeps it. more_layers: layers behind its last, which nobody
    reads.
    """
    state = {
        name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()
    }
    layers = encoder.config.num_hidden_layers
    width = encoder.config.hidden_size
    found = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": state.get("text_projection.weight", torch.ones(width, width)).T,
        "logit_scale": torch.tensor(4.6),
    }
    inner = re.compile(
        r"encoder\.layers\.(\d+)\.(layer_norm[12]|self_attn\.out_proj|mlp\.fc[12])\.(\w+)"
    )
    for name, value in state.items():
        if match := inner.fullmatch(name):
            found[f"transformer.resblocks.{match[1]}.{_OPEN_CLIP[match[2]]}.{match[3]}"] = value
    for n in range(layers):
        for end in ("weight", "bias"):
            thirds = [
                state[f"encoder.layers.{n}.self_attn.{letter}_proj.{end}"] for letter in "qkv"
            ]
            found[f"transformer.resblocks.{n}.attn.in_proj_{end}"] = torch.cat(thirds)
    last = {
        name: value
        for name, value in found.items()
        if name.startswith(f"transformer.resblocks.{layers - 1}.")
    }
    for n in range(more_layers):
        found |= {
            name.replace(f".{layers - 1}.", f".{layers + n}.", 1): torch.ones_like(v)
            for name, v in last.items()
        }
    return found


def save_checkpoint(folder: Path, family: str, remarks: Mapping[str, str] | None = None) -> Path:
    """Write a model as one file in the original layout, and its configurations in a folder beside
    it.
    """
    parts = make(family)
    prefixed = {
        "model.diffusion_model.": tiny.original_unet(parts["unet"], 0 if family == "sd2" else 1),
        "first_stage_model.": tiny.original_vae(parts["vae"]),
    }
    if family == "sd2":
        prefixed["cond_stage_model.model."] = open_clip(parts["text_encoder"], more_layers=1)
    else:
        first = {
            n.removeprefix("text_model."): v for n, v in parts["text_encoder"].state_dict().items()
        }
        prefixed["conditioner.embedders.0.transformer.text_model."] = first
        prefixed["conditioner.embedders.1.model."] = open_clip(parts["text_encoder_2"])
    tensors = {
        prefix + name: value for prefix, own in prefixed.items() for name, value in own.items()
    }
    path = folder / f"{family}.safetensors"
    save_file(
        {k: v.contiguous().clone() for k, v in tensors.items()}, path, metadata=dict(remarks or {})
    )
    for name, part in parts.items():
        if name.startswith("text_encoder"):
            part.config.save_pretrained(folder / "configs" / name)
        else:
            part.save_config(folder / "configs" / name)
    return path


def pipeline_of(parts: Any) -> Any:
    """Make diffusers' own pipeline of parts in memory."""
    import diffusers
    from transformers import CLIPTokenizer

    from datasetkit.captions.tokens import FOLDER

    def tokenizer(pad: str) -> CLIPTokenizer:
        files = str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt")
        return CLIPTokenizer(*files, pad_token=pad, model_max_length=77)

    predicts = parts.prediction or "epsilon"
    schedule = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type=predicts,
    )  # fmt: skip
    shared = {
        "vae": parts.vae,
        "text_encoder": parts.encoders["text_encoder"],
        "unet": parts.denoiser,
        "scheduler": schedule,
    }
    if parts.family == "sdxl":
        made = diffusers.StableDiffusionXLPipeline(
            **shared, text_encoder_2=parts.encoders["text_encoder_2"],
            tokenizer=tokenizer("<|endoftext|>"), tokenizer_2=tokenizer("!"),
            add_watermarker=False,
        )  # fmt: skip
    else:
        made = diffusers.StableDiffusionPipeline(
            **shared, tokenizer=tokenizer("!"), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made
