"""What a run can refuse before it loads a model: a plan, and so a dry run, refuses it too.

Every check that needs no weights belongs here, or into the plan itself. What depends on the machine
(packages, the base model's files) is in `check_machine`, for a plan can be looked at on another
machine than the one that trains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, MissingExtra
from datasetkit.core.files import display
from datasetkit.core.install import install_command
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.words import counted
from datasetkit.options.train import TrainOptions
from trainer import cpu_threads
from trainer.families import detect, model_files, option_checks, registry, source
from trainer.families.base import Family
from trainer.families.detect import DetectedModel
from trainer.files import hub_model
from trainer.monitor import prompts
from trainer.networks import blocks, file_check
from trainer.optimizers import trial
from trainer.plan import model_shapes, outputs, token_limit
from trainer.plan.model_shapes import ModelShapes
from trainer.plan.plan import TrainingPlan

PACKAGES: tuple[str, ...] = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
)
_MANY_PREVIEWS: Final = 1000
_TEXT_LAYER: Final = re.compile(r"lora_te_text_model_encoder_layers_(\d+)_")


def check_options(options: TrainOptions) -> None:
    """Raise what the run would raise about its options alone, before any image is read.

    Raises ConfigError, MissingExtra, ModelFileError, StorageError.
    """
    for base in filter(None, (options.pretrained_model_name_or_path, options.vae)):
        source.require_safe(base)
    prompts.read(options)
    outputs.check_folders(options)
    if options.logging_dir:
        _require("tensorboard")


def base_shapes(options: TrainOptions) -> ModelShapes | None:
    """Return the shapes of the base model, also of one in the hub's cache; None if it is not on
    this machine.
    """
    base = options.pretrained_model_name_or_path
    folder = source.local(options.base_folder) if options.base_folder else None
    return model_shapes.read(str(source.local(base, options.revision) or base), options.vae, folder)


def check_plan(
    options: TrainOptions,
    plan: TrainingPlan,
    shapes: ModelShapes | None,
    *,
    resume: bool = False,
    reporter: Reporter = SILENT,
) -> None:
    """Raise what the run would raise about its options, now that its length is known. shapes: of
    the base model; resume: network_weights is not read, and may be gone.

    Raises ConfigError, InputError, MissingExtra.
    """
    outputs.output_name(options, plan)
    outputs.require_apart(options, plan)
    dimensions = {2}
    if shapes is not None:
        _check_clip_skip(options, shapes)
        blocks.check(options.network(), shapes.blocks)
        file_check.expected(options, shapes)
        dimensions = file_check.dimensions(options, shapes)
    if trial.needs_torch(options):
        reporter.phase("loading PyTorch")
        _require("torch")
        cpu_threads.set_environment()
    trial.check(options, plan.steps, dimensions)
    if options.network_weights and not resume:
        file_check.check_file(options, shapes)


def _check_clip_skip(options: TrainOptions, shapes: ModelShapes) -> None:
    """Raise ConfigError if clip_skip leaves no layer of the text encoder. It is of families with
    one encoder alone.
    """
    names = [layer.name for layer in shapes.layers.get("text_encoder", ())]
    numbers = [int(match[1]) for name in names if (match := _TEXT_LAYER.match(name))]
    if numbers and options.clip_skip > (depth := max(numbers) + 1):
        raise ConfigError(
            f"clip_skip = {options.clip_skip}: the text encoder has {counted(depth, 'layer')}",
            hint=f"set clip_skip to a number from 1 to {depth}; 1 and 2 are usual",
        )


def check_machine(options: TrainOptions) -> None:
    """Raise what the run would raise about this machine: a missing package or base model.

    Raises ConfigError without a base model, MissingExtra, ModelFileError.
    """
    for name in PACKAGES:
        _require(name)
    source.require(options.pretrained_model_name_or_path, options.revision)
    base = source.local(options.pretrained_model_name_or_path, options.revision)
    family = None if base is None else registry.family(detect.detect(base).family)
    if base is not None and family is not None:
        model_files.require_whole(base, family)
        if not base.is_dir() and not family.FILE_PARTS:
            _require_other_parts(options, base, family)
    if options.vae:
        source.require(options.vae, layouts=hub_model.VAE)
        vae = source.local(options.vae, layouts=hub_model.VAE)
        if vae is not None and family is not None:
            model_files.require_vae(vae, family)


def _require_other_parts(options: TrainOptions, base: Path, family: Family) -> None:
    """Raise what the run would raise about the folder with the other parts of a transformer."""
    if not options.base_folder:
        raise model_files.transformer_alone(base)
    source.require(options.base_folder)
    folder = source.local(options.base_folder)
    if folder is not None:
        if folder.is_dir() and registry.family(detect.detect(folder).family) is not family:
            raise ConfigError(
                f"base_folder = {display(options.base_folder)} is not a folder of {family.TITLE}",
                hint="name a diffusers folder of the same family as the base model",
            )
        model_files.require_whole(folder, family)


def notices(options: TrainOptions, model: DetectedModel | None) -> tuple[str, ...]:
    """Return what a person should know of the options before the first step. model: None where it
    is not known yet.
    """
    lines = prompts.too_long(prompts.read(options), token_limit.of_base(options))
    if options.zero_terminal_snr and options.min_snr_gamma:
        lines.append(
            f"min_snr_gamma = {options.min_snr_gamma:g} weighs the last timesteps with almost 0, "
            "and zero_terminal_snr adds them: leave one of the two out"
        )
    if options.lora_format in ("diffusers", "both") and (model is None or model.saves_kohya):
        lines.append(
            "lora_format: a .diffusers.safetensors is for diffusers alone; other programs read a "
            "part of it"
        )
    if model is not None:
        lines += option_checks.remarks(options, model.family)
        lines += [model.note] if model.note else []
    return tuple(lines)


def to_download(options: TrainOptions) -> Iterator[str]:
    """Yield a line for each model that the run downloads: only then can it be checked."""
    base = options.pretrained_model_name_or_path
    for what, name, revision, layouts in (
        ("base model", base, options.revision, hub_model.MODEL),
        ("VAE", options.vae, "", hub_model.VAE),
    ):
        on_hub = hub_model.parse(name, revision)
        if on_hub is not None and source.local(name, revision, layouts=layouts) is None:
            yield (
                f"{what}: {display(on_hub.repo)} is not on this machine: the run downloads it, and "
                "checks it then, with the options that depend on it"
            )


def preview_notices(options: TrainOptions, plan: TrainingPlan) -> tuple[str, ...]:
    """Return a line where a run generates so many preview images that they take
    most of its time.
    """
    count = len(prompts.read(options))
    epochs, steps = options.sample_every_n_epochs, options.sample_every_n_steps
    times = 1 + options.sample_at_first  # the last step always has some
    times += (plan.epochs - 1) // epochs if epochs else 0
    times += (plan.steps - 1) // steps if steps else 0
    if count * times <= _MANY_PREVIEWS:
        return ()
    return (
        f"the run generates {count * times:,} preview images, {count:,} at a time: fewer prompts, "
        "or a larger sample_every_n_epochs or sample_every_n_steps, save time",
    )


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise MissingExtra(f"training needs the package {package}", hint=install_command("train"))
