"""Check a run's options against its base model. Needs no torch, so that a plan can do it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.families import registry, source
from trainer.families.base import Family, FamilyName, Predicts, formats
from trainer.families.detect import DetectedModel, detect

_DEFAULTS: Final = {f.name: f.default for f in fields(TrainOptions)}


def detect_base(options: TrainOptions) -> DetectedModel | None:
    """Return the base model's family and what it will be trained to predict; None if it is not on
    this machine.

    Raises ModelFileError for a model that cannot be trained, ConfigError for options that
    contradict it.
    """
    path = source.local(options.pretrained_model_name_or_path, options.revision)
    if path is None or not (path.is_dir() or path.suffix.lower() == ".safetensors"):
        return None
    model = detect(path)
    check(options, model)
    return replace(model, prediction=prediction_type(options, model))


def check(options: TrainOptions, model: DetectedModel) -> None:
    """Raise ConfigError for options that have no meaning in the model's family, and for a distilled
    model.
    """
    family = registry.family(model.family)
    for name, reason in family.REFUSES.items():
        value = getattr(options, name)
        if value and value != _DEFAULTS[name]:
            raise ConfigError(
                f"{name} = {_toml(value)} has no meaning for {model.title}: {reason}",
                hint=f"remove {name}",
            )
    family.check_network(options.network())
    unknown = [form for form in formats(family, options.lora_format) if form not in family.FORMATS]
    if unknown:
        raise ConfigError(
            f"lora_format = {unknown[0]!r} is not a format of {model.title}",
            hint=f'set "auto", or one of {", ".join(family.FORMATS)}',
        )
    for rules in options.all_bucket_rules():
        lengths = [rules.step] if rules.enabled else [*rules.resolution]
        if any(length % family.DIVISOR for length in lengths):
            name = "bucket_reso_steps" if rules.enabled else "resolution"
            raise ConfigError(
                f"{name} = {_toml(getattr(options, name))}: the sides of an image are "
                f"multiples of {family.DIVISOR} in {model.title}",
                hint=f"set a multiple of {family.DIVISOR}",
            )
    if model.distilled and not options.base_is_distilled:
        raise ConfigError(
            "the base model is distilled to few steps, and a LoRA trained on it drifts",
            hint=f"train on {model.distilled}: its LoRA also works with this model; "
            "--base-is-distilled, or base_is_distilled = true in [train], goes on",
        )


def prediction_type(options: TrainOptions, model: DetectedModel) -> Predicts:
    """Return what the UNet is trained to predict. Raises ConfigError for options that contradict
    the model.

    The model's scheduler config (or a file's metadata) and v_parameterization have to agree. If
    neither is given, the family says it; in a family with both kinds it has to be given.
    """
    family = registry.family(model.family)
    if options.v2 not in (None, family.metadata_names("epsilon").v2):
        raise ConfigError(
            f"v2 = {_word(options.v2)}, but the model is {model.title}",
            hint="remove v2 (the family is detected from the files), or name another model",
        )
    if isinstance(options.text_encoder_lr, tuple) and len(family.ENCODERS) == 1:
        raise ConfigError(
            f"text_encoder_lr has two rates, but {model.title} has one text encoder",
            hint="give one number",
        )
    v = options.v_parameterization
    wanted: Predicts | None = None if v is None else "v_prediction" if v else "epsilon"
    if wanted and model.prediction not in (None, wanted):
        raise ConfigError(
            f"the model's scheduler has {model.prediction}, but v_parameterization = {_word(v)}",
            hint=f"set v_parameterization = {_word(not v)}, or remove it",
        )
    prediction = wanted or model.prediction or family.PREDICTION
    if prediction is None:
        raise ConfigError(
            "the model does not state whether it predicts noise or velocity",
            hint="set v_parameterization = true for a 768-pixel model (2.0-v, 2.1), false for a "
            "512-pixel base",
        )
    options.check_prediction(v=prediction == "v_prediction")
    return prediction


def frees_encoders(options: TrainOptions, family: Family) -> bool:
    """Tell whether a run encodes all captions before its first step and frees the text encoders."""
    if options.cache_text_encoder_outputs is None:
        return not family.TRAINS_TEXT
    return options.cache_text_encoder_outputs


def remarks(options: TrainOptions, name: FamilyName) -> tuple[str, ...]:
    """Return warnings about options that have little or another effect in a family."""
    family = registry.family(name)
    lines = list(family.remarks(options))
    if family.PROCESS == "flow" and options.sample_sampler != _DEFAULTS["sample_sampler"]:
        lines.append(
            f"sample_sampler = {options.sample_sampler!r} has no effect: {family.TITLE} generates "
            "its preview images by Euler steps"
        )
    return tuple(lines)


def _toml(value: object) -> str:
    """Return a value as dsk.toml has it."""
    if isinstance(value, bool):
        return _word(value)
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _word(value: bool | None) -> str:
    return str(value).lower()
