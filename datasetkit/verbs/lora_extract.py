"""`dsk lora extract`: the difference of two models as a LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trainer.lora_files.extract as extracting
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display
from datasetkit.core.words import counted
from datasetkit.options.lora import LoraExtractOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared.lora_groups import LayerGroup, groups_of, reported, share_kept
from datasetkit.verbs.shared.lora_output import require_new, write_output
from datasetkit.verbs.shared.paths import AnyPath
from trainer.families import registry
from trainer.families.detect import detect
from trainer.lora_files import new_lora, tensor_file
from trainer.lora_files.base_weights import BaseTensor, open_base
from trainer.lora_files.extract import UncapturedChange
from trainer.lora_files.resize import RankRule, ResizedLayer


@dataclass(frozen=True, slots=True)
class LoraExtractResult:
    """What was extracted. same: layers that do not differ, which are left out. kept: the share of
    the norm of all differences of layers; uncaptured: what differs elsewhere, None where it was not
    compared.
    """

    tuned: Path
    base: Path
    out: Path
    family: str
    groups: tuple[LayerGroup, ...]
    layers: int
    same: int
    kept: float
    size: int
    uncaptured: UncapturedChange | None
    warnings: tuple[str, ...]
    entry: int | None


def lora_extract(
    tuned: AnyPath,
    base: AnyPath,
    options: LoraExtractOptions,
    context: RunContext = DEFAULT_CONTEXT,
) -> LoraExtractResult:
    """Write the difference of two models, each a checkpoint, a diffusers folder or `tiny`.

    Raises ConfigError unless one rule is given, InputError for models that do not fit or do not
    differ, ModelFileError for other files.
    """
    rule = _rule(options)
    tuned, base = str(tuned), str(base)
    name = f"{Path(tuned).stem}-{rule.kind}{rule.value:g}.safetensors"
    out = Path(options.out or name)
    require_new(out, [Path(tuned), Path(base)])
    models = open_base(tuned), open_base(base)
    detected = detect(models[0].path)
    layers = extracting.shared_layers(*models)
    dtype = new_lora.output_dtype(
        options.precision, _dtype(models[0].layers[layers[0]]), models[0].path
    )
    names = registry.family(detected.family).metadata_names(detected.prediction or "epsilon")
    header = {
        "ss_network_module": "networks.lora",
        "ss_base_model_version": names.base_model_version,
        "ss_output_name": out.stem,
        "ss_sd_model_name": models[1].path.name,
        "ss_training_comment": f"extracted from {Path(tuned).name} by {rule.kind} {rule.value:g}",
    }
    report: list[ResizedLayer] = []
    context.reporter.start("extracting", len(layers))
    try:
        results = extracting.extract(
            *models, layers, detected.family, rule, context.reporter.advance
        )
        tensors, header = new_lora.finished(reported(results, report), (), header, "kohya", dtype)
    finally:
        context.reporter.finish()
    if not report:
        raise InputError(
            f"no layer of {display(tuned)} differs from {display(base)}",
            hint="name a model and the one that it was tuned from",
        )
    other = extracting.uncaptured(*models)
    entry = write_output(
        out, tensors, header, verb="lora extract", source=models[0].path, context=context
    )
    return LoraExtractResult(
        Path(tuned), Path(base), out, detected.title, groups_of(report), len(report),
        len(layers) - len(report), share_kept(report), tensor_file.file_size(tensors, header),
        other, _warnings(other), entry,
    )  # fmt: skip


def _rule(options: LoraExtractOptions) -> RankRule:
    if (options.rank is None) == (options.fro is None):
        what = "no rule was given" if options.rank is None else "two rules were given"
        raise ConfigError(f"{what} for the rank", hint="give --rank 32, or --fro 0.9")
    limits = (options.max_rank, options.conv_rank)
    if options.rank is not None:
        return RankRule("rank", options.rank, *limits)
    return RankRule("fro", options.fro or 1.0, *limits)


def _dtype(tensor: BaseTensor) -> str:
    return tensor.file.entries[tensor.key].dtype


def _warnings(other: UncapturedChange | None) -> tuple[str, ...]:
    warnings = []
    if other is not None and other.tensors:
        number = counted(other.tensors, "tensor")
        warnings.append(
            f"{number} differ that no LoRA holds (norms, biases, embeddings, ...), with a norm of "
            f"{other.norm:.3g}"
        )
    if other is not None and other.vae:
        warnings.append("the VAE differs, too: use that of the tuned model")
    return tuple(warnings)
