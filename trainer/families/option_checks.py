"""Check a run's options against its base model. Needs no torch, so that a plan can do it."""

from __future__ import annotations

from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.families import source
from trainer.families.detect import TITLES, DetectedModel, FamilyName, Predicts, detect

_SMALL: Final = 768 * 768  # pixels; below this Stable Diffusion XL generates poor images


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
    return DetectedModel(model.family, prediction_type(options, model))


def prediction_type(options: TrainOptions, model: DetectedModel) -> Predicts:
    """Return what the UNet is trained to predict. Raises ConfigError for options that contradict
    the model.

    The model's scheduler config (or a file's metadata) and v_parameterization have to agree. If
    neither is given, Stable Diffusion 1 and XL predict noise; for Stable Diffusion 2 it has to be
    given.
    """
    if options.v2 not in (None, model.family == "sd2"):
        raise ConfigError(
            f"v2 = {_word(options.v2)}, but the model is {model.title}",
            hint="remove v2 (the family is detected from the files), or name another model",
        )
    if isinstance(options.text_encoder_lr, tuple) and model.family != "sdxl":
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
    prediction = wanted or model.prediction
    if prediction is None and model.family == "sd2":
        raise ConfigError(
            "the model does not state whether it predicts noise or velocity",
            hint="set v_parameterization = true for a 768-pixel model (2.0-v, 2.1), false for a "
            "512-pixel base",
        )
    options.check_prediction(v=prediction == "v_prediction")
    return prediction or "epsilon"


def remarks(options: TrainOptions, name: FamilyName) -> tuple[str, ...]:
    """Return warnings about options that have little or another effect in a family."""
    warnings = []
    if options.clip_skip != 1 and name == "sdxl":
        warnings.append(
            f"clip_skip = {options.clip_skip} has no effect: {TITLES[name]} always uses the same "
            "layer"
        )
    if options.clip_skip != 1 and name == "sd2":
        warnings.append(
            f"clip_skip = {options.clip_skip}: {TITLES[name]} was trained with 1, the last of its "
            "23 layers"
        )
    if options.mixed_precision == "fp16" and name == "sdxl":
        warnings.append(f"{TITLES[name]}'s VAE overflows in fp16: it computes in float32")
    width, height = options.bucket_rules().resolution
    if name == "sdxl" and width * height < _SMALL:
        warnings.append(
            f"resolution = {options.resolution}: {TITLES[name]} was trained at 1024, and generates "
            "poor images at small sizes"
        )
    return tuple(warnings)


def _word(value: bool | None) -> str:
    return str(value).lower()
