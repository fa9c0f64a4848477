"""Steps a second and peak memory of a full-size random model: the trainer's loop and a plain one.

One image a step, rank 16, the denoiser alone, AdamW, bf16; latents and text are there before the
first step. The plain loop is what a good user of diffusers and peft writes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig
from torch import Tensor
from torch.nn.functional import mse_loss

from datasetkit.options.train import TrainOptions
from tests.gpu import models
from tests.gpu.models import Model
from tests.gpu.rows import Row
from tests.trainer import tiny
from trainer import device as devices
from trainer import loop, setup
from trainer.data.text_encoding import TextStates
from trainer.device import DeviceContext
from trainer.families import registry
from trainer.families.base import Conditioning, Family, Parts
from trainer.plan.plan import find_subsets, make_plan

RANK: Final = 16
LEARNING_RATE: Final = 1e-4
WARM_UP: Final = 3  # steps that are not measured
_SIZES: Final = (1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0)  # of SDXL's size conditioning


def measure(row: Row, work: Path, *, cpu: bool) -> dict[str, Any]:
    """Train some steps and return the row's values."""
    settings = dict(row.settings)
    family = registry.family(settings.pop("family"))
    model = (models.TINY if cpu else models.FULL)[family.NAME]
    context, _ = devices.select("bf16")
    denoiser = models.build(model, context.device, context.dtype)
    parameters = sum(p.numel() for p in denoiser.parameters())
    parts = Parts(
        denoiser=denoiser, vae=models.autoencoder(family.NAME), encoders={},
        source=Path("random"), family=family.NAME, denoiser_name=family.DENOISER,
        prediction=family.PREDICTION,
    )  # fmt: skip
    if settings.pop("plain"):
        each = plain(family, parts, model, context, **settings)
    else:
        each = ours(family, parts, model, context, work / row.name.replace(" ", "-"), settings)
    steady = statistics.median(each[WARM_UP:])
    return {
        "it/s": 1 / steady,
        "s a step": steady,
        "peak MB": _peak(context) / 1e6,
        "parameters": parameters,
    }


def _reset_peak(context: DeviceContext) -> None:
    if context.device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(context.device)


def _peak(context: DeviceContext) -> int:
    """Return the peak of the steps on a GPU; without one, of the process."""
    if context.device.type == "cuda":
        return torch.cuda.max_memory_allocated(context.device)
    return devices.peak_memory(context.device)


def ours(
    family: Family,
    parts: Parts,
    model: Model,
    context: DeviceContext,
    folder: Path,
    settings: dict[str, Any],
) -> list[float]:
    """Return the seconds of each step of the trainer's loop."""
    if settings.pop("streams_half", False):
        settings["blocks_to_swap"] = count_blocks(family, parts) // 2
    tiny.save_images(folder / "data" / "train" / "1_sks", [(model.size, model.size)] * 2)
    options = TrainOptions(
        pretrained_model_name_or_path=str(folder / "random"), output_dir=str(folder / "out"),
        resolution=model.size, min_bucket_reso=model.size, max_bucket_reso=model.size,
        max_train_steps=WARM_UP + model.steps, train_batch_size=1, optimizer_type="AdamW",
        learning_rate=LEARNING_RATE, text_encoder_lr=0.0, network_dim=RANK, network_alpha=RANK,
        mixed_precision="bf16", save_report=False, **settings,
    )  # fmt: skip
    plan = make_plan(find_subsets(folder / "data", options)[0], options)

    def encode(captions: Any) -> Conditioning:
        return model.conditioning(len(captions), context.device, context.dtype)

    texts = TextStates(encode, context.dtype, trained=False, together=True)
    run = setup.assemble(options, plan, parts, texts=texts)
    run.encoder.fill(plan.images)
    _reset_peak(context)
    return [log.seconds for log in loop.steps(run)]


def count_blocks(family: Family, parts: Parts) -> int:
    """Return the number of blocks of a denoiser."""
    names = (name for name, _ in parts.denoiser.named_parameters())
    return len({block for name in names if (block := family.block(name)) is not None})


def plain(
    family: Family,
    parts: Parts,
    model: Model,
    context: DeviceContext,
    *,
    gradient_checkpointing: bool = False,
) -> list[float]:
    """Return the seconds of each step of a loop of diffusers and peft with the same settings."""
    denoiser, device = parts.denoiser, context.device
    paths = list(family.targets(parts, family.DENOISER).values())
    denoiser.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=paths))
    trained = [p for p in denoiser.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    denoiser.train()
    if gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    latents = torch.randn(family.latent_shape(parts.vae, model.size, model.size)).to(device)[None]
    conditioning = model.conditioning(1, device, context.dtype)
    _reset_peak(context)
    seconds = []
    for _ in range(WARM_UP + model.steps):
        begun = time.perf_counter()
        noise = torch.randn_like(latents)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            predicted, target = _PLAIN[family.NAME](denoiser, latents, noise, conditioning)
        mse_loss(predicted.float(), target).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds


def _stable_diffusion(
    unet: Any, latents: Tensor, noise: Tensor, text: Conditioning
) -> tuple[Tensor, Tensor]:
    t = torch.randint(0, 1000, (1,), device=latents.device)
    share = (1 - t / 1000).view(-1, 1, 1, 1)  # the values of the schedule do not change the time
    noisy = (share.sqrt() * latents + (1 - share).sqrt() * noise).to(text.states.dtype)
    added = None
    if text.pooled is not None:
        sizes = torch.tensor([_SIZES], device=latents.device)
        added = {"text_embeds": text.pooled, "time_ids": sizes}
    return unet(noisy, t, text.states, added_cond_kwargs=added).sample, noise


def _z_image(
    transformer: Any, latents: Tensor, noise: Tensor, text: Conditioning
) -> tuple[Tensor, Tensor]:
    sigma = torch.rand(1, device=latents.device)
    noisy = ((1 - sigma) * latents + sigma * noise).to(text.states.dtype)
    [output] = transformer([noisy[0].unsqueeze(1)], 1 - sigma, [text.states[0]]).sample
    return -output.squeeze(1)[None], noise - latents


_PLAIN: Final[Mapping[str, Any]] = {
    "sd1": _stable_diffusion,
    "sdxl": _stable_diffusion,
    "z-image": _z_image,
}
