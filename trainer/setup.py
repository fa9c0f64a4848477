"""Setting up a run: the model, its LoRA, the optimizer and the schedule, from the options and the plan."""

from __future__ import annotations

import logging
from functools import partial

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasetkit.core.config import TrainOptions
from datasetkit.core.errors import ConfigError
from datasetkit.core.events import SILENT, Reporter
from trainer import lora, lr, optim, place
from trainer.families import sd
from trainer.families.base import PARTS, Family, Part, Parts
from trainer.latents import Encoder
from trainer.loop import Setup
from trainer.plan import TrainPlan
from trainer.text import Texts

# peft imports bitsandbytes wherever it is installed, and that misses a package which nothing here uses.
logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def trained_parts(options: TrainOptions) -> tuple[Part, ...]:
    """Return the parts that the options train."""
    rates = options.rates()
    return tuple(part for part in PARTS if rates[part] > 0)


def check_optimizer(options: TrainOptions, plan: TrainPlan) -> None:
    """Raise what is wrong with the optimizer or the schedule before gigabytes are loaded."""
    probe = torch.nn.Parameter(torch.zeros(1))
    other = torch.nn.Parameter(torch.zeros(1))
    _optimizer(options, plan, [probe], [other])


def _optimizer(
    options: TrainOptions, plan: TrainPlan, unet: list[torch.nn.Parameter], text_encoder: list[torch.nn.Parameter]
) -> tuple[Optimizer, LRScheduler]:
    rates = options.rates()
    groups = optim.groups(unet, text_encoder, unet_lr=rates["unet"], text_encoder_lr=rates["text_encoder"])
    optimizer = optim.make(options.optimizer_type, groups, optim.literal_args(options.optimizer_args))
    course = lr.Course(
        plan.steps,
        lr.warmup_steps(options.lr_warmup_steps, plan.steps),
        options.lr_scheduler_num_cycles,
        options.lr_scheduler_power,
    )
    return optimizer, lr.scheduler(optimizer, options.lr_scheduler, course)


def load_parts(options: TrainOptions, family: Family = sd) -> Parts:
    """Load the base model. Raises ModelFileError, ConfigError where it predicts something else than the options say."""
    parts = family.load(options.pretrained_model_name_or_path, revision=options.revision, vae=options.vae)
    wanted = "v_prediction" if options.v_parameterization else "epsilon"
    if parts.prediction not in (None, wanted):
        raise ConfigError(
            f"the model's scheduler says {parts.prediction}, v_parameterization = {options.v_parameterization}",
            hint=f"set v_parameterization = {'false' if options.v_parameterization else 'true'}",
        )
    return parts


def assemble(
    options: TrainOptions, plan: TrainPlan, parts: Parts, *, family: Family = sd, reporter: Reporter = SILENT
) -> Setup:
    """Put the LoRA on a loaded model and make everything ready for the first step."""
    where, remark = place.find(options.mixed_precision)
    if remark:
        reporter.warn(remark)
    network = lora.attach(
        family, parts, trained_parts(options), dim=options.network_dim, alpha=options.network_alpha,
        dropout=options.network_dropout, seed=options.seed,
    )  # fmt: skip
    if options.network_weights:
        lora.load_kohya(network, lora.read_kohya(options.network_weights), source=options.network_weights)
    for name in PARTS:
        model = parts.part(name)
        place.lower_base(model, where.dtype)
        model.to(where.device)
        if name in network.parts:
            model.train()  # there is no dropout in the base; checkpointing and the LoRA's own dropout ask for it
    if options.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
        if "text_encoder" in network.parts:
            encoder = parts.text_encoder
            # transformers 5 gave the switch a new name; in version 4 the reentrant kind, which loses the gradients of
            # layers whose inputs have none, is the default.
            if hasattr(encoder, "activation_checkpointing_enable"):
                encoder.activation_checkpointing_enable()
            else:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer, scheduler = _optimizer(options, plan, network.parameters("unet"), network.parameters("text_encoder"))
    # The VAE overflows in fp16; bfloat16 has float32's range.
    vae_dtype = torch.bfloat16 if where.dtype == torch.bfloat16 else torch.float32
    latents = Encoder(parts.vae, where.device, vae_dtype, options.cache_latents or options.cache_latents_to_disk)
    encode = partial(family.encode_text, parts, clip_skip=options.clip_skip, max_tokens=options.max_token_length)
    texts = Texts(encode, where.dtype, "text_encoder" in network.parts, together=where.device.type != "cpu")
    scaler = torch.amp.GradScaler(where.device.type, enabled=where.dtype == torch.float16)
    return Setup(options, plan, where, family, parts, network, latents, texts, optimizer, scheduler, scaler)
