"""Random base models, also as one file in the original layout, and small datasets and options for
them.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from datasetkit.options.train import TrainOptions
from trainer import random_base


@cache
def _parts() -> tuple[Any, Any, Any]:
    return random_base.parts()


def save_full(folder: Path) -> Path:
    """Write a random base with Stable Diffusion 1's 264 modules as a diffusers folder."""
    return random_base.save(folder)


def save_small(folder: Path) -> Path:
    """Write a random base with the same kinds of layers but 60 modules: a step takes a quarter of
    the time.
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    save_full(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(4, 8),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=random_base.WIDTH,
            attention_head_dim=2,
            norm_num_groups=2,
        ).save_pretrained(folder / "unet")
        config = CLIPTextConfig.from_pretrained(folder / "text_encoder", num_hidden_layers=2)
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


def save_images(folder: Path, sizes: list[tuple[int, int]], *, captions: bool = True) -> Path:
    """Write images of the sizes, each of other colours, and a caption beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, size in enumerate(sizes, 1):
        image = Image.linear_gradient("L").resize(size)
        shade = Image.new("L", size, 37 * n % 256)
        Image.merge("RGB", (image, shade, image.transpose(Image.Transpose.ROTATE_180))).save(
            folder / f"{n}.png"
        )
        if captions:
            (folder / f"{n}.txt").write_text(f"sks, tag {n}, red hair, smile\n", encoding="utf-8")
    return folder


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder that a test will change."""
    shutil.copytree(source, target)
    return target


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def _unet_name(name: str, bare: int = 0) -> str:
    """Return a UNet tensor's original name. bare: the up block that has no attention."""
    block = re.match(
        r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name
    )
    if block is None:
        head = next(head for head in _UNET if name.startswith(head + "."))
        kind, rest = head, name.removeprefix(head + ".")
        prefix = _UNET[head]
    else:
        side, kind, rest = block[1], block[3], block[5]
        b, j = int(block[2]), int(block[4])
        if kind == "downsamplers":
            return f"input_blocks.{3 * (b + 1)}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            return f"output_blocks.{3 * b + 2}.{1 if b == bare else 2}.{rest}"
        number = 1 + 3 * b + j if side == "down" else 3 * b + j
        half = "input" if side == "down" else "output"
        prefix = f"{half}_blocks.{number}.{0 if kind == 'resnets' else 1}"
    if "resnets" in kind:
        part = next(part for part in _RESNET if rest.startswith(part + "."))
        rest = _RESNET[part] + rest.removeprefix(part)
    return f"{prefix}.{rest}"


def _vae_name(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name
    )
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, original in _VAE_ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{original}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def original_unet(unet: Any, bare: int) -> dict[str, Tensor]:
    """Return a UNet's tensors in the original layout. bare: the up block that has no attention."""
    return {
        _unet_name(key, bare): value.contiguous().clone()
        for key, value in unet.state_dict().items()
    }


def original_vae(vae: Any) -> dict[str, Tensor]:
    """Return a VAE's tensors in the original layout."""
    tensors = {}
    for key, value in vae.state_dict().items():
        is_attention = "mid_block.attentions" in key and key.endswith("weight") and value.ndim == 2
        tensors[_vae_name(key)] = (
            (value[:, :, None, None] if is_attention else value).contiguous().clone()
        )
    return tensors


def save_checkpoint(folder: Path) -> Path:
    """Write the model as one file in the original (LDM) layout, and its configurations in a folder
    beside it.
    """
    made_unet, made_encoder, made_vae = _parts()
    tensors = {
        f"model.diffusion_model.{_unet_name(k)}": v for k, v in made_unet.state_dict().items()
    }
    tensors |= {f"first_stage_model.{key}": value for key, value in original_vae(made_vae).items()}
    for key, value in made_encoder.state_dict().items():
        name = key.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = value
    path = folder / "tiny.safetensors"
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    for name, part in zip(random_base.PARTS, _parts(), strict=True):
        if name == "text_encoder":
            part.config.save_pretrained(folder / "configs" / name)
        else:
            part.save_config(folder / "configs" / name)
    return path


def options(model: Path, out: Path, **others: Any) -> TrainOptions:
    """Return options for a short run of the tiny model: float32, plain AdamW, buckets of 64
    to 256.
    """
    given: dict[str, Any] = {
        "pretrained_model_name_or_path": str(model),
        "output_dir": str(out),
        "resolution": 128,
        "min_bucket_reso": 64,
        "max_bucket_reso": 256,
        "max_train_epochs": 2,
        "train_batch_size": 4,
        "optimizer_type": "AdamW",
        "mixed_precision": "no",
        "save_precision": "float",
        "network_dim": 4,
        "network_alpha": 1.0,
        "learning_rate": 1e-2,
        "text_encoder_lr": 1e-2,
        "save_report": False,  # its heat map takes longer than such a run
    }
    return TrainOptions(**{**given, **others})


def flow_options(model: Path, out: Path, **others: Any) -> TrainOptions:
    """Return options for a short run of a tiny transformer, whose text encoder is not trained."""
    return options(model, out, text_encoder_lr=0.0, **others)
