"""The loop that a good user of diffusers and peft writes: one image a step, everything else left
to the libraries.

python -m tests.benchmarks.plain_train BASE DATA STEPS SIZE PRECISION CACHE prints the seconds of
each step as JSON. DATA is a folder of images and captions; PRECISION is "no" or "bf16", as
accelerate has it; CACHE is "cache" for latents that are encoded before the first step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel

from datasetkit.captions import tokens  # the vocabulary of CLIP, which no hub is needed for

RANK = 16
# The layers of the UNet's attention blocks, and of the text encoder.
UNET = r".*attentions.*(to_[qkv]|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2)"
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def train(
    base: Path, data: Path, steps: int, size: int, precision: str, cache: bool
) -> list[float]:
    torch.manual_seed(42)
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet").requires_grad_(False)
    vae = AutoencoderKL.from_pretrained(base, subfolder="vae").requires_grad_(False).eval()
    text_encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder").requires_grad_(
        False
    )
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=UNET))
    text_encoder.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TEXT))
    trained = [p for model in (unet, text_encoder) for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    images = sorted(data.glob("*.jpg"))
    encoded = {path: encode(vae, path, size) for path in images} if cache else {}
    seconds = []
    for step in range(steps):
        begun = time.perf_counter()
        path = images[step % len(images)]
        latents = (encoded[path] if cache else encode(vae, path, size)).sample() * 0.18215
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (1,))
        ids = tokenized(path.with_suffix(".txt").read_text(encoding="utf-8"))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            states = text_encoder(ids).last_hidden_state
            predicted = unet(schedule.add_noise(latents, noise, t), t, states).sample
        loss = mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - begun)
    save_file(get_peft_model_state_dict(unet), data / "plain.safetensors")
    return seconds


@torch.no_grad()
def encode(vae: AutoencoderKL, path: Path, size: int):
    with Image.open(path) as image:
        square = ImageOps.fit(
            ImageOps.exif_transpose(image).convert("RGB"), (size, size), Image.Resampling.LANCZOS
        )
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 127.5 - 1
    return vae.encode(pixels).latent_dist


def tokenized(caption: str) -> torch.Tensor:
    ids = tokens.ids(caption)[:76]
    return torch.tensor([[*ids, *[tokens.EOS] * (77 - len(ids))]])


if __name__ == "__main__":
    base, data, steps, size, precision, cache = sys.argv[1:]
    found = train(Path(base), Path(data), int(steps), int(size), precision, cache == "cache")
    sys.stdout.write(json.dumps(found))
