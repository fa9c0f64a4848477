"""`dsk lora resize`: lower the ranks of a LoRA."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trainer.lora_files.resize as resizing
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display
from datasetkit.options.lora import LoraResizeOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared.lora_groups import LayerGroup, groups_of, reported, share_kept
from datasetkit.verbs.shared.lora_output import require_new, write_output
from datasetkit.verbs.shared.paths import AnyPath
from trainer.lora_files import lora_file, new_lora, tensor_file
from trainer.lora_files.resize import RankRule, ResizedLayer, RuleKind


@dataclass(frozen=True, slots=True)
class LoraResizeResult:
    """What a resize did, or would do. kept: the share of the norm of all changes together; zero:
    layers without effect, which keep rank 1.
    """

    source: Path
    out: Path
    rule: str
    groups: tuple[LayerGroup, ...]
    kept: float
    size_before: int
    size: int
    zero: tuple[str, ...]
    warnings: tuple[str, ...]
    entry: int | None
    layers: tuple[ResizedLayer, ...] = field(default=())


def lora_resize(
    file: AnyPath,
    options: LoraResizeOptions,
    context: RunContext = DEFAULT_CONTEXT,
) -> LoraResizeResult:
    """Write a LoRA with lower ranks; alpha / rank stays, and so does the strength.

    Raises ConfigError unless one rule is given, InputError for a file that must be multiplied out
    first, ModelFileError for another file.
    """
    rule = rule_of(options)
    title = f"{rule.kind}{rule.value:g}"
    file = Path(file)
    lora = lora_file.read(file)
    out = Path(options.out) if options.out else file.with_name(f"{file.stem}-{title}.safetensors")
    require_new(out, [file])
    if lora.format == "peft":
        raise InputError(
            f"{display(file)} has peft's keys, and its ranks are in another file",
            hint="convert it first: dsk lora convert --to kohya",
        )
    resizing.require_plain(lora, as_lora=options.as_lora, force=options.force)
    dtype = new_lora.output_dtype(options.precision, lora.dtype, file)
    header = new_lora.with_comment(lora.metadata, f"resized by {title}")
    header["dsk_resized_from"] = new_lora.model_hash(lora)
    report: list[ResizedLayer] = []
    context.reporter.start("resizing", len(lora.layers))
    try:
        results = resizing.resize(lora, rule, context.reporter.advance)
        layers, kept = reported(results, report), resizing.kept_tensors(lora)
        tensors, header = new_lora.finished(layers, kept, header, lora.format, dtype)
    finally:
        context.reporter.finish()
    entry = write_output(out, tensors, header, verb="lora resize", source=file, context=context)
    zero = tuple(layer.key for layer in report if layer.is_zero)
    return LoraResizeResult(
        file, out, title, groups_of(report), share_kept(report), lora.file.size,
        tensor_file.file_size(tensors, header), zero, _warnings(lora, rule), entry, tuple(report),
    )  # fmt: skip


def rule_of(options: LoraResizeOptions) -> RankRule:
    """Return the rule that the options give. Raises ConfigError for none or several."""
    given: dict[RuleKind, float | None] = {
        "rank": options.rank,
        "fro": options.fro,
        "ratio": options.ratio,
        "cumulative": options.cumulative,
    }
    rules = [(kind, value) for kind, value in given.items() if value is not None]
    if len(rules) != 1:
        what = "no rule was given" if not rules else "several rules were given"
        raise ConfigError(
            f"{what} for the new rank", hint="give one of --rank, --fro, --ratio and --cumulative"
        )
    ((kind, value),) = rules
    return RankRule(kind, value, options.max_rank, options.conv_rank)


def _warnings(lora: lora_file.LoraFile, rule: RankRule) -> tuple[str, ...]:
    warnings = []
    if any(layer.is_dora for layer in lora.layers):
        warnings.append("DoRA's magnitudes were kept as they are: compare images with both files")
    ranks = [layer.rank for layer in lora.layers if layer.method != "norm"]
    if len(ranks) < len(lora.layers):
        warnings.append("norms have no rank: their changes were kept as they are")
    if rule.kind == "rank" and all(0 < rank <= rule.value for rank in ranks):
        warnings.append(f"every layer has rank {rule.value:g} or less already: nothing is lowered")
    return tuple(warnings)
