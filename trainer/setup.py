"""Set up a run: load the model, attach the LoRA, build optimizer and scheduler."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer import device
from trainer.data import text_cache, weighted_text
from trainer.data.latents import Encoder
from trainer.data.text_cache import TextCache
from trainer.data.text_encoding import TextStates
from trainer.families import int8_base, option_checks, registry
from trainer.families.base import Family, Part, Parts
from trainer.families.base import rates as part_rates
from trainer.families.detect import detect
from trainer.families.option_checks import frees_encoders
from trainer.families.source import find
from trainer.files import lora
from trainer.loop import TrainingSetup
from trainer.networks.ema import WeightAverage
from trainer.objective import process
from trainer.optimizers import trial
from trainer.plan import model_fingerprint
from trainer.plan.plan import TrainingPlan

_COMPILER = "inductor"  # a backend of torch.compile
# peft imports bitsandbytes if it is installed, which then warns of a missing package that is not
# used here.
logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def trained_parts(options: TrainOptions, parts: Parts) -> tuple[Part, ...]:
    """Return the parts of a model that the options train."""
    rates = part_rates(registry.family(parts.family), options)
    return tuple(part for part, rate in rates.items() if rate > 0)


def load_parts(
    options: TrainOptions,
    reporter: Reporter = SILENT,
    *,
    trains: bool = True,
    only: Collection[Part] = (),
) -> Parts:
    """Load the base model of any family. Raises ModelFileError, and ConfigError for options that
    contradict it. trains: it is loaded to be trained, not to generate images alone. only: the parts
    that are needed, all if it is empty; a family of small models may load more.

    It is loaded in the precision of the training, because Stable Diffusion XL would take twice the
    memory in float32.
    """
    source = find(options.pretrained_model_name_or_path, options.revision)
    model = detect(source)
    if trains:
        option_checks.check(options, model)
    prediction = option_checks.prediction_type(options, model)
    family = registry.family(model.family)
    # Large models are quantized while they are read, small ones afterwards, from float32.
    int8 = options.is_int8(denoiser=True) and family.DENOISER == "transformer"
    in_float32 = options.reads_float32() and not int8
    return family.load(
        str(source),
        revision="",
        vae=options.vae,
        folder=find(options.base_folder) if options.base_folder else None,
        prediction=prediction,
        dtype=torch.float32 if in_float32 else device.select(options.mixed_precision)[0].dtype,
        only=only,
        int8=int8,
        reporter=reporter,
    )


def vae_dtype(context: device.DeviceContext) -> torch.dtype:
    """Return the VAE's precision: it overflows in fp16, but not in bfloat16, which has float32's
    range.
    """
    return torch.bfloat16 if context.dtype == torch.bfloat16 else torch.float32


def family_of(options: TrainOptions) -> Family:
    """Return the family of the base model. Raises ModelFileError, ConfigError."""
    source = find(options.pretrained_model_name_or_path, options.revision)
    return registry.family(detect(source).family)


def load_and_encode(
    options: TrainOptions, texts: Iterable[str], folder: Path, reporter: Reporter = SILENT
) -> tuple[Parts, TextStates | None]:
    """Load the base model of a run; and encode its texts and free the text encoders, if the options
    ask for it. folder: of the files of texts.

    Large text encoders are freed before the denoiser is loaded.
    """
    family = family_of(options)
    if not frees_encoders(options, family):
        return load_parts(options, reporter), None
    if family.TRAINS_TEXT:
        parts = load_parts(options, reporter)
        return parts, encode_texts(options, parts, texts, folder, reporter)
    encoders = load_parts(options, reporter, only=family.ENCODERS)
    encoded = encode_texts(options, encoders, texts, folder, reporter)
    others = (family.DENOISER, "vae", *family.EXTRA)
    return load_parts(options, reporter, only=others), encoded


def encode_texts(
    options: TrainOptions,
    parts: Parts,
    texts: Iterable[str],
    folder: Path,
    reporter: Reporter = SILENT,
) -> TextStates:
    """Encode the texts of a run, and empty the text encoders. folder: of the files."""
    context, _ = device.select(options.mixed_precision)
    states = _text_states(options, parts, context, trained=False)
    states.device = context.device
    if options.cache_text_encoder_outputs_to_disk:
        states.files = TextCache(folder / text_cache.FOLDER, _text_identity(options, parts.family))
    missing = states.missing(texts)
    # Of several processes that share files, one encodes for all.
    is_encoding = bool(missing) and (states.files is None or context.is_main)
    if is_encoding:
        for name, model in parts.encoders.items():
            _place(options, parts, name, model, context)
    with context.autocast():
        states.encode_all(missing if is_encoding else [], reporter)
    device.processes().wait_for_everyone()
    for model in parts.encoders.values():
        model.to("meta")
    if context.device.type == "cuda":
        torch.cuda.empty_cache()
    return states


def _text_states(
    options: TrainOptions, parts: Parts, context: device.DeviceContext, *, trained: bool
) -> TextStates:
    family = registry.family(parts.family)
    encode = partial(weighted_text.encode_text, family, parts, options=options)
    return TextStates(encode, context.dtype, trained, together=context.device.type != "cpu")


def _text_identity(options: TrainOptions, family: str) -> dict[str, object]:
    """Return everything that the conditioning of a text depends on."""
    models = model_fingerprint.of_run(options)
    return {
        "models": {name: files for name, files in models.items() if name != "vae"},
        "family": family,
        "precision": [options.mixed_precision, options.is_int8(denoiser=False)],
        "clip_skip": options.clip_skip,
        "max_token_length": options.max_token_length,
        "weighted_captions": options.weighted_captions,
    }


def assemble(
    options: TrainOptions,
    plan: TrainingPlan,
    parts: Parts,
    *,
    texts: TextStates | None = None,
    resumed: bool = False,
    reporter: Reporter = SILENT,
) -> TrainingSetup:
    """Attach the LoRA to a loaded model and prepare everything for the first step.

    texts: those of the run, if they are encoded and the text encoders freed. resumed: all weights
    will be those of a training state, so that network_weights is not read.
    """
    context, remark = device.select(options.mixed_precision)
    family = registry.family(parts.family)
    warnings = [remark] if remark else []
    if option_checks.detect_base(options) is None:  # else the plan has them
        warnings += option_checks.remarks(options, parts.family)
    for warning in warnings:
        reporter.warn(warning)
    network = lora.attach(
        family, parts, trained_parts(options, parts), dim=options.network_dim,
        alpha=options.network_alpha, dropout=options.network_dropout, seed=options.seed,
        args=options.network(),
    )  # fmt: skip
    if options.network_weights and not resumed:
        lora.load_kohya(
            network, lora.read(options.network_weights, family), source=options.network_weights
        )
    _place_models(options, parts, network, context)
    if options.gradient_checkpointing:
        _enable_checkpointing(parts, network)
    if options.torch_compile:
        # The blocks only: they are alike, so the compiler sees one of them.
        parts.denoiser.compile_repeated_blocks(backend=_COMPILER)
    optimizer, scheduler = trial.build(
        options,
        plan.steps,
        *network.grouped(options.network(), part_rates(family, options), family.BLOCKS),
    )
    latents = Encoder(
        parts.vae,
        context.device,
        vae_dtype(context),
        options.cache_latents or options.cache_latents_to_disk,
        family.moments,
    )
    if texts is None:
        trained = any(part in parts.encoders for part in network.parts)
        texts = _text_states(options, parts, context, trained=trained)
    scaler = torch.amp.GradScaler(context.device.type, enabled=context.dtype == torch.float16)
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
        process=process.build(options, family, parts),
        average=average,
    )


def _place_models(
    options: TrainOptions, parts: Parts, network: lora.Lora, context: device.DeviceContext
) -> None:
    """Quantize, cast and move the models; trained ones go into training mode."""
    for name, model in parts.models.items():
        if any(parameter.is_meta for parameter in model.parameters()):
            continue  # a text encoder that was freed
        _place(options, parts, name, model, context)
        if name in network.parts:
            # The base has no dropout; checkpointing and the LoRA's dropout need training mode.
            model.train()


def _place(
    options: TrainOptions, parts: Parts, name: Part, model: Any, context: device.DeviceContext
) -> None:
    """Quantize, cast and move a model."""
    is_denoiser = name == parts.denoiser_name
    if options.is_int8(denoiser=is_denoiser):
        int8_base.quantize(model)
    if is_denoiser and options.blocks_to_swap:
        family = registry.family(parts.family)
        int8_base.stream(int8_base.last_blocks(model, family.block, options.blocks_to_swap))
    device.cast_base(model, context.dtype)
    model.to(context.device)
    if device.prefers_channels_last(context):
        model.to(memory_format=torch.channels_last)


def _enable_checkpointing(parts: Parts, network: lora.Lora) -> None:
    parts.denoiser.enable_gradient_checkpointing()
    encoders: list[Any] = [parts.part(name) for name in network.parts if name in parts.encoders]
    for encoder in encoders:
        # transformers 5 renamed the method. In version 4 the default is the reentrant kind, which
        # loses the gradients of layers whose inputs need none.
        if hasattr(encoder, "activation_checkpointing_enable"):
            encoder.activation_checkpointing_enable()
        else:
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
