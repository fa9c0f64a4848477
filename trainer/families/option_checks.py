"""Whether the options of a run agree with what its base model is; no torch is needed, so that a
plan can say it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from trainer.families.detect import TITLES, DetectedModel, FamilyName, Predicts, detect
from trainer.tinybase import shipped

_SMALL: Final = 768 * 768  # pixels, under which Stable Diffusion XL no longer draws well


def of_base(options: TrainOptions) -> DetectedModel | None:
    """Tell what the base model is and will be trained to predict; None for one that is not on this
    machine.

    Raises ModelFileError for what cannot be trained on, ConfigError for options that the model
    contradicts.
    """
    path = Path(shipped.located(options.pretrained_model_name_or_path)).expanduser()
    if not options.pretrained_model_name_or_path or not (
        path.is_dir() or path.suffix.lower() == ".safetensors"
    ):
        return None
    if not path.exists():
        return None
    found = detect(path)
    return DetectedModel(found.family, settle(options, found))


def settle(options: TrainOptions, found: DetectedModel) -> Predicts:
    """Return what the UNet is trained to predict. Raises ConfigError for options that the model
    contradicts.

    The model's scheduler file (or a file's own remarks) and v_parameterization have to agree; where
    both are silent, Stable Diffusion 1 and XL predict noise, and of Stable Diffusion 2 nobody can
    tell.
    """
    if options.v2 not in (None, found.family == "sd2"):
        raise ConfigError(
            f"v2 = {_word(options.v2)}, and the model is one of {found.title}",
            hint="take v2 out, or name another model: what it is is found in its files",
        )
    if isinstance(options.text_encoder_lr, tuple) and found.family != "sdxl":
        raise ConfigError(
            f"text_encoder_lr has two rates, and {found.title} has one text encoder",
            hint="give one number",
        )
    given = options.v_parameterization
    wanted: Predicts | None = None if given is None else "v_prediction" if given else "epsilon"
    if wanted and found.prediction not in (None, wanted):
        raise ConfigError(
            f"the model's scheduler says {found.prediction}, v_parameterization = {_word(given)}",
            hint=f"set v_parameterization = {_word(not given)}, or take it out",
        )
    settled = wanted or found.prediction
    if settled is None and found.family == "sd2":
        raise ConfigError(
            "the model does not say whether it predicts noise or velocity",
            hint="set v_parameterization = true for a model of 768 pixels (2.0-v, 2.1), false "
            "for a base of 512",
        )
    options.check_prediction(v=settled == "v_prediction")
    return settled or "epsilon"


def remarks(options: TrainOptions, name: FamilyName) -> tuple[str, ...]:
    """Return what should be said of options that do little or something else in a family."""
    said = []
    if options.clip_skip != 1 and name == "sdxl":
        said.append(
            f"clip_skip = {options.clip_skip} changes nothing: {TITLES[name]} has its own "
            "layer, always"
        )
    if options.clip_skip != 1 and name == "sd2":
        said.append(
            f"clip_skip = {options.clip_skip}: {TITLES[name]} was made with 1, the last of its "
            "23 layers"
        )
    if options.mixed_precision == "fp16" and name == "sdxl":
        said.append(f"{TITLES[name]}'s VAE overflows in fp16: it computes in float32")
    width, height = options.bucket_rules().resolution
    if name == "sdxl" and width * height < _SMALL:
        said.append(
            f"resolution = {options.resolution}: {TITLES[name]} was made for 1024, and draws "
            "badly when small"
        )
    return tuple(said)


def _word(value: bool | None) -> str:
    return str(value).lower()
