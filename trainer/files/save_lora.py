"""Saving a LoRA: when, under which name, in which formats, and with which metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch

from datasetkit.captions.caption import parse
from datasetkit.options.train import TrainOptions
from trainer import finite
from trainer.device import DTYPES
from trainer.families.base import LoraFormat
from trainer.families.base import formats as family_formats
from trainer.files import lora, metadata, run_manifest
from trainer.files.hashes import checkpoint_hashes
from trainer.files.run_files import RunFiles
from trainer.files.safetensors_bytes import safetensors_bytes
from trainer.loop import StepLog, TrainingSetup
from trainer.optimizers import build_optimizer, schedule_options
from trainer.plan.plan import TrainImage, TrainingPlan, mean_ar_error

# The formats without alpha that have the metadata of the run.
_FOLDED: Final = ("comfy", "diffusers")


def save_name(run: TrainingSetup, name: str, log: StepLog, *, now: bool = False) -> str | None:
    """Return the stem of the file to save after a step, named as in sd-scripts; None: save
    nothing. now: the run was asked to save after this step.
    """
    options = run.options
    if log.step == run.plan.steps:
        return name
    every = options.save_every_n_epochs
    if every and log.last_of_epoch and log.epoch % every == 0:
        return f"{name}-{log.epoch:06d}"
    every_steps = options.save_every_n_steps
    if now or (every_steps and log.step % every_steps == 0):
        return f"{name}-step{log.step:08d}"
    return None


def save(
    run: TrainingSetup, files: RunFiles, stem: str, facts: metadata.RunFacts, log: StepLog
) -> None:
    """Write the LoRA as `stem`, in every format of `lora_format`. files: of the run."""
    with run.inference_weights():
        _write(run, files, stem, facts, log)


def _write(
    run: TrainingSetup, files: RunFiles, stem: str, facts: metadata.RunFacts, log: StepLog
) -> None:
    options = run.options
    dtype = DTYPES[options.save_precision]
    finite.require_finite(lora.kohya_tensors(run.lora, torch.float32), run, log.step)
    finite.require_in_range(lora.kohya_tensors(run.lora, dtype), dtype, log.step, options)
    for form in formats(run):
        tensors, header = run.family.export(run.lora, dtype, form)
        if header is None:
            is_folded = form in _FOLDED
            of_file = _with_alpha_in_tensors(facts, options) if is_folded else facts
            entries = metadata.final_metadata(
                tensors, of_file, metadata.SaveFacts(metadata.now(), log.step, log.epoch)
            )
            if is_folded:
                entries["dsk_alpha"] = str(options.network_alpha or float(options.network_dim))
            kept = metadata.minimal(entries) if options.no_metadata else entries
            header = {"format": "pt", **kept}
        name = f"{stem}{suffix(run, form)}"
        data = safetensors_bytes(tensors, header)
        files.write(name, "lora", data, step=log.step, epoch=log.epoch)


def _with_alpha_in_tensors(facts: metadata.RunFacts, options: TrainOptions) -> metadata.RunFacts:
    """Return the facts of a file whose second factors are multiplied with alpha / rank: there alpha
    is the rank.
    """
    return replace(facts, options={**facts.options, "network_alpha": float(options.network_dim)})


def formats(run: TrainingSetup) -> tuple[LoraFormat, ...]:
    """Return the formats that a run saves its LoRA in."""
    return family_formats(run.family, run.options.lora_format)


def suffix(run: TrainingSetup, form: LoraFormat) -> str:
    """Return the end of a file's name: only formats other than the family's first are named."""
    return ".safetensors" if form == run.family.FORMATS[0] else f".{form}.safetensors"


def saved_files(folder: Path, name: str) -> list[Path]:
    """Return the LoRA files that a run saved to a folder, the final ones last."""
    files = run_manifest.own_files(folder, name)
    names = [file.name for file in files if file.kind == "lora"]
    names.sort(key=lambda n: (run_manifest.unmarked(name, n).startswith(f"{name}."), n))
    return [folder / file for file in names]


def rename_failed(files: RunFiles) -> list[Path]:
    """Give the final files of a run, which failed the LoRA check, a name that says so; return their
    paths.
    """
    kept = []
    for ending in run_manifest.ENDINGS:
        current = files.path(files.name + ending).name
        final = next((f for f in files.listed("lora") if f.name == current), None)
        if final is not None:
            name = f"{files.name}-failed-check{ending}"
            kept.append(files.rename(final.name, replace(final, name=name, kind="failed lora")))
    return kept


def saved_steps(
    files: Sequence[Path], name: str, rows: Sequence[Mapping[str, Any]]
) -> dict[int, str]:
    """Return the steps after which the files of a run were saved, each with the epoch or step that
    its name has; the last step is the final file's.

    rows: of metrics.jsonl.
    """
    ends = {int(row["epoch"]): int(row["step"]) for row in rows if "loss" in row}
    steps: dict[int, str] = {}
    for file in files:
        usual = run_manifest.unmarked(name, file.name)
        epoch, step = (
            re.fullmatch(re.escape(name) + number + run_manifest.ENDING, usual)
            for number in (r"-(\d{6})", r"-step(\d{8})")
        )
        if epoch is not None and int(epoch[1]) in ends:
            steps[ends[int(epoch[1])]] = f"epoch {int(epoch[1])}"
        elif step is not None:
            steps[int(step[1])] = f"step {int(step[1])}"
    return steps | ({max(ends.values()): "end"} if ends else {})


def prune(options: TrainOptions, files: RunFiles) -> None:
    """Delete the oldest numbered files of a run beyond save_last_n_epochs and save_last_n_steps."""
    for number, keep in (
        (r"-(\d{6,})", options.save_last_n_epochs),
        (r"-step(\d{8,})", options.save_last_n_steps),
    ):
        if keep is None:
            continue
        pattern = re.compile(re.escape(files.name) + number + run_manifest.ENDING)
        usual = {f: run_manifest.unmarked(files.name, f.name) for f in files.listed("lora")}
        numbers = {f: int(m[1]) for f, name in usual.items() if (m := pattern.fullmatch(name))}
        kept = sorted(set(numbers.values()))[-keep:]
        files.delete([file for file, n in numbers.items() if n not in kept])


def run_facts(run: TrainingSetup, name: str) -> metadata.RunFacts:
    """Return the facts of the run that go into the LoRA's metadata."""
    names = run.family.metadata_names(run.parts.prediction or "epsilon")
    options, plan = run.options, run.plan
    return metadata.RunFacts(
        options=_metadata_options(options, run),
        output_name=name,
        optimizer=build_optimizer.describe(options.optimizer_type, options.optimizer_args),
        resolution=options.bucket_rules().resolution,
        started_at=metadata.now(),
        num_train_images=plan.count(is_reg=False),
        num_reg_images=plan.count(is_reg=True),
        num_validation_images=len(plan.held_out),
        num_batches_per_epoch=plan.totals.batches,
        num_epochs=plan.epochs,
        max_train_steps=plan.steps,
        lr_warmup_steps=schedule_options.warmup_steps(options.lr_warmup_steps, plan.steps),
        batch_size=options.train_batch_size,
        processes=plan.batch_settings.processes,
        subsets=_subset_facts(plan.images),
        buckets=plan.totals.buckets,
        mean_ar_error=mean_ar_error(plan.images),
        blocks=block_facts(plan),
        base_model=_model_file(run.parts.source, options.pretrained_model_name_or_path),
        vae=_model_file(Path(options.vae), options.vae) if options.vae else None,
        base_model_version=names.base_model_version,
        architecture=names.architecture,
        implementation=names.implementation,
        v2=names.v2,
        prediction=run.process.prediction,
        process=run.process.facts(),
        timesteps=(options.min_timestep, options.max_timestep),
        network_args={
            pair.partition("=")[0].strip(): pair.partition("=")[2].strip()
            for pair in options.network_args
        },
    )


def _subset_facts(images: Sequence[TrainImage]) -> list[metadata.SubsetFacts]:
    """Return the facts of the folders of some images."""
    facts = []
    for subset in dict.fromkeys(image.subset for image in images):
        subset_images = [image for image in images if image.subset == subset]
        captions = subset.captions
        settings = {
            "color_aug": subset.color,
            "flip_aug": subset.flip,
            "random_crop": subset.random_crop,
            "shuffle_caption": captions.shuffle_caption,
            "keep_tokens": captions.keep_tokens,
            "keep_tokens_separator": captions.keep_tokens_separator or None,
            "secondary_separator": captions.secondary_separator or None,
            "enable_wildcard": captions.enable_wildcard,
            "caption_prefix": captions.caption_prefix or None,
            "caption_suffix": captions.caption_suffix or None,
            "class_tokens": subset.name or None,
        }
        texts = tuple(_tags_text(image) for image in subset_images)
        facts.append(
            metadata.SubsetFacts(
                str(subset.folder),
                subset.repeats,
                len(subset_images),
                subset.is_reg,
                texts,
                settings,
            )
        )
    return facts


def _tags_text(image: TrainImage) -> str:
    """Return the tags of a caption, separated by commas; sentences are no tags."""
    syntax = image.subset.captions.syntax
    if syntax.kind == "tags":
        return image.caption.replace("\n", ", ")
    return ", ".join(parse(image.caption, syntax).tags)


def block_facts(plan: TrainingPlan) -> list[metadata.BlockFacts]:
    """Return the facts of each block of a run."""
    facts = []
    for block, totals in zip(plan.blocks, plan.totals.blocks, strict=True):
        used = [
            (image, n)
            for image, n in zip(plan.images, plan.samples, strict=True)
            if image.subset.block == block
        ]
        reg = sum(n for image, n in used if image.subset.is_reg)
        images = [image for image, _ in used]
        facts.append(
            metadata.BlockFacts(
                resolution=block.rules.resolution,
                batch_size=block.batch_size,
                sides=block.rules.sides if block.rules.enabled else None,
                num_train_images=totals.samples - reg,
                num_reg_images=reg,
                subsets=_subset_facts(images),
                buckets=totals.buckets,
                mean_ar_error=mean_ar_error(images),
            )
        )
    return facts


def _metadata_options(options: TrainOptions, run: TrainingSetup) -> dict[str, object]:
    """Return the options as sd-scripts writes them: two learning rates are a list; clip_skip is
    None for a family without it.
    """
    values: dict[str, object] = asdict(options)
    if isinstance(options.text_encoder_lr, tuple):
        values["text_encoder_lr"] = list(options.text_encoder_lr)
    values["lr_scheduler"] = schedule_options.name(options)
    return values if run.family.CLIP_SKIP else {**values, "clip_skip": None}


def _model_file(source: Path, name: str) -> metadata.BaseFacts:
    """Return a model's name, with its hashes if it is a single file."""
    if not source.is_file():
        return metadata.BaseFacts(name)
    return metadata.BaseFacts(name, *checkpoint_hashes(source))
