"""Set up a run: load the model, attach the LoRA, build optimizer and scheduler."""

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

# peft imports bitsandbytes if it is installed, which then warns of a missing package that is not
# used here.
logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def trained_parts(options: TrainOptions, parts: Parts) -> tuple[Part, ...]:
    """Return the parts of a model that the options train."""
    rates = options.rates()
    return tuple(part for part in parts.names if rates[part] > 0)


def check_optimizer(options: TrainOptions, plan: TrainingPlan) -> None:
    """Build optimizer and scheduler on dummy weights, so that errors come before the model is
    loaded.
    """
    all_rates = parameter_groups.possible_rates(options)
    first_of_rate = {rate: name for name, rate in reversed(all_rates.items())}
    rates = {name: rate for rate, name in first_of_rate.items()}
    # Some optimizers print remarks; they are shown when the real one is built.
    with redirect_stderr(StringIO()):
        _optimizer(
            options, plan, {name: [torch.nn.Parameter(torch.zeros(1))] for name in rates}, rates
        )


def _optimizer(
    options: TrainOptions, plan: TrainingPlan, parameters: Mapping[str, list[torch.nn.Parameter]],
    rates: Mapping[str, float],
) -> tuple[Optimizer, LRScheduler]:  # fmt: skip
    groups = build_optimizer.parameter_groups(parameters, rates)
    optimizer = build_optimizer.build(
        options.optimizer_type, groups, build_optimizer.literal_args(options.optimizer_args)
    )
    if options.ema_decay and build_optimizer.keeps_average(optimizer):
        raise ConfigError(
            f"{options.optimizer_type} already averages the weights", hint="set ema_decay = 0"
        )
    return optimizer, build_scheduler.build(optimizer, options, plan.steps)


def load_parts(options: TrainOptions) -> Parts:
    """Load the base model of any family. Raises ModelFileError, and ConfigError for options that
    contradict it.

    It is loaded in the precision of the training, because Stable Diffusion XL would take twice the
    memory in float32.
    """
    source = find(options.pretrained_model_name_or_path, options.revision)
    model = detect(source)
    prediction = option_checks.prediction_type(options, model)
    return registry.family(model.family).load(
        str(source),
        revision="",
        vae=options.vae,
        prediction=prediction,
        dtype=torch.float32
        if options.reads_float32()
        else device.select(options.mixed_precision)[0].dtype,
    )


def vae_dtype(context: device.DeviceContext) -> torch.dtype:
    """Return the VAE's precision: it overflows in fp16, but not in bfloat16, which has float32's
    range.
    """
    return torch.bfloat16 if context.dtype == torch.bfloat16 else torch.float32


def assemble(
    options: TrainOptions, plan: TrainingPlan, parts: Parts, *, reporter: Reporter = SILENT
) -> TrainingSetup:
    """Attach the LoRA to a loaded model and prepare everything for the first step."""
    context, remark = device.select(options.mixed_precision)
    family = registry.family(parts.family)
    for warning in (*filter(None, [remark]), *option_checks.remarks(options, parts.family)):
        reporter.warn(warning)
    network = lora.attach(
        family, parts, trained_parts(options, parts), dim=options.network_dim,
        alpha=options.network_alpha, dropout=options.network_dropout, seed=options.seed,
        args=options.network(),
    )  # fmt: skip
    if options.network_weights:
        lora.load_kohya(
            network, lora.read_kohya(options.network_weights), source=options.network_weights
        )
    _place_models(options, parts, network, context)
    if options.gradient_checkpointing:
        _enable_checkpointing(parts, network)
    optimizer, scheduler = _optimizer(
        options,
        plan,
        *network.grouped(options.network(), options.rates(), convolutions.sides(parts)),
    )
    latents = Encoder(
        parts.vae,
        context.device,
        vae_dtype(context),
        options.cache_latents or options.cache_latents_to_disk,
    )
    encode = partial(weighted_text.encode_text, family, parts, options=options)
    trained = any(part != "unet" for part in network.parts)
    texts = TextStates(encode, context.dtype, trained, together=context.device.type != "cpu")
    scaler = torch.amp.GradScaler(context.device.type, enabled=context.dtype == torch.float16)
    alphas = alphas_of(zero_terminal_snr=options.zero_terminal_snr)
    average = (
        WeightAverage.of(network.parameters(), options.ema_decay) if options.ema_decay else None
    )
    return TrainingSetup(
        options=options,
        plan=plan,
        device_context=context,
        family=family,
        parts=parts,
        lora=network,
        encoder=latents,
        texts=texts,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler,
        alphas=alphas,
        average=average,
    )


def _place_models(
    options: TrainOptions, parts: Parts, network: lora.Lora, context: device.DeviceContext
) -> None:
    """Quantize, cast and move the models; trained ones go into training mode."""
    for name in parts.names:
        model = parts.part(name)
        if options.fp8_base or (options.fp8_base_unet and name == "unet"):
            int8_base.quantize(model)
        device.cast_base(model, context.dtype)
        model.to(context.device)
        if name in network.parts:
            # The base has no dropout; checkpointing and the LoRA's dropout need training mode.
            model.train()


def _enable_checkpointing(parts: Parts, network: lora.Lora) -> None:
    parts.unet.enable_gradient_checkpointing()
    encoders: list[Any] = [parts.part(name) for name in network.parts if name != "unet"]
    for encoder in encoders:
        # transformers 5 renamed the method. In version 4 the default is the reentrant kind, which
        # loses the gradients of layers whose inputs need none.
        if hasattr(encoder, "activation_checkpointing_enable"):
            encoder.activation_checkpointing_enable()
        else:
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
