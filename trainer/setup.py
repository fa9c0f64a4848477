"""Setting up a run: the model, its LoRA, the optimizer and the schedule, from the options and the
plan.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasetkit.core.errors import ConfigError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer import device
from trainer.data import weighted_text
from trainer.data.latents import Encoder
from trainer.data.text_encoding import TextStates
from trainer.families import int8_base, option_checks, registry
from trainer.families.base import Part, Parts
from trainer.families.detect import detect
from trainer.families.source import find
from trainer.files import lora
from trainer.loop import TrainingSetup
from trainer.networks import convolutions, parameter_groups
from trainer.networks.ema import WeightAverage
from trainer.objective.noise_schedule import alphas_of
from trainer.optimizers import build_optimizer, build_scheduler
from trainer.plan.plan import TrainingPlan

# peft imports bitsandbytes wherever it is installed, and that misses a package which nothing here
# uses.
logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def trained_parts(options: TrainOptions, parts: Parts) -> tuple[Part, ...]:
    """Return the parts of a model that the options train."""
    rates = options.rates()
    return tuple(part for part in parts.names if rates[part] > 0)


def check_optimizer(options: TrainOptions, plan: TrainingPlan) -> None:
    """Raise what is wrong with the optimizer or the schedule before gigabytes are loaded."""
    every = parameter_groups.possible_rates(options)
    rates = {
        name: rate for rate, name in {rate: name for name, rate in reversed(every.items())}.items()
    }
    with redirect_stderr(
        StringIO()
    ):  # what some optimizers tell there is told when the real one is made
        _optimizer(
            options, plan, {name: [torch.nn.Parameter(torch.zeros(1))] for name in rates}, rates
        )


def _optimizer(
    options: TrainOptions, plan: TrainingPlan, parameters: Mapping[str, list[torch.nn.Parameter]],
    rates: Mapping[str, float],
) -> tuple[Optimizer, LRScheduler]:  # fmt: skip
    made = build_optimizer.groups(parameters, rates)
    optimizer = build_optimizer.make(
        options.optimizer_type, made, build_optimizer.literal_args(options.optimizer_args)
    )
    if options.ema_decay and build_optimizer.averages(optimizer):
        raise ConfigError(
            f"{options.optimizer_type} keeps an average already", hint="set ema_decay = 0"
        )
    return optimizer, build_scheduler.of_options(optimizer, options, plan.steps)


def load_parts(options: TrainOptions) -> Parts:
    """Load the base model, of whatever family it is. Raises ModelFileError, ConfigError for options
    that it is not.

    It is read in the precision in which it is used: in float32 Stable Diffusion XL would take twice
    the memory.
    """
    source = find(options.pretrained_model_name_or_path, options.revision)
    found = detect(source)
    prediction = option_checks.settle(options, found)
    return registry.family(found.family).load(
        str(source),
        revision="",
        vae=options.vae,
        prediction=prediction,
        dtype=torch.float32
        if options.reads_float32()
        else device.find(options.mixed_precision)[0].dtype,
    )


def vae_dtype(where: device.DeviceContext) -> torch.dtype:
    """Return the precision of the VAE: it overflows in fp16, and bfloat16 has float32's range."""
    return torch.bfloat16 if where.dtype == torch.bfloat16 else torch.float32


def assemble(
    options: TrainOptions, plan: TrainingPlan, parts: Parts, *, reporter: Reporter = SILENT
) -> TrainingSetup:
    """Put the LoRA on a loaded model and make everything ready for the first step."""
    where, remark = device.find(options.mixed_precision)
    family = registry.family(parts.family)
    for said in (*filter(None, [remark]), *option_checks.remarks(options, parts.family)):
        reporter.warn(said)
    network = lora.attach(
        family, parts, trained_parts(options, parts), dim=options.network_dim,
        alpha=options.network_alpha, dropout=options.network_dropout, seed=options.seed,
        args=options.network(),
    )  # fmt: skip
    if options.network_weights:
        lora.load_kohya(
            network, lora.read_kohya(options.network_weights), source=options.network_weights
        )
    for name in parts.names:
        model = parts.part(name)
        if options.fp8_base or (options.fp8_base_unet and name == "unet"):
            int8_base.shrink(model)
        device.lower_base(model, where.dtype)
        model.to(where.device)
        if name in network.parts:
            # there is no dropout in the base; checkpointing and the LoRA's own dropout ask for it
            model.train()
    if options.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
        encoders: list[Any] = [parts.part(name) for name in network.parts if name != "unet"]
        for encoder in encoders:
            # transformers 5 gave the switch a new name; in version 4 the reentrant kind, which
            # loses the gradients of layers whose inputs have none, is the default.
            if hasattr(encoder, "activation_checkpointing_enable"):
                encoder.activation_checkpointing_enable()
            else:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer, scheduler = _optimizer(
        options,
        plan,
        *network.grouped(options.network(), options.rates(), convolutions.sides(parts)),
    )
    latents = Encoder(
        parts.vae,
        where.device,
        vae_dtype(where),
        options.cache_latents or options.cache_latents_to_disk,
    )
    encode = partial(weighted_text.encode_text, family, parts, options=options)
    trained = any(part != "unet" for part in network.parts)
    texts = TextStates(encode, where.dtype, trained, together=where.device.type != "cpu")
    scaler = torch.amp.GradScaler(where.device.type, enabled=where.dtype == torch.float16)
    alphas = alphas_of(zero_terminal_snr=options.zero_terminal_snr)
    average = (
        WeightAverage.of(network.parameters(), options.ema_decay) if options.ema_decay else None
    )
    return TrainingSetup(
        options, plan, where, family, parts, network, latents, texts, optimizer, scheduler, scaler,
        alphas, average
    )  # fmt: skip
