"""`dsk lora merge`: LoRAs into one, or into a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trainer.lora_files.merge as merging
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.words import counted
from datasetkit.options.lora import LoraMergeOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared.lora_groups import reported
from datasetkit.verbs.shared.lora_output import require_new, write_output
from datasetkit.verbs.shared.paths import AnyPath
from trainer.lora_files import block_weights, convert, lora_file, new_lora, tensor_file
from trainer.lora_files.base_weights import open_base
from trainer.lora_files.block_weights import BlockWeights
from trainer.lora_files.into_base import CheckpointMerge, merge_into
from trainer.lora_files.layer_names import LayerName
from trainer.lora_files.merge import MergedLayer, MergeMethod, MergeSource, WeightedLayer

# Rounding errors above this share of the change are worth a warning in any precision.
_LOSS = 0.05


@dataclass(frozen=True, slots=True)
class LoraMergeResult:
    """What a merge made, or would make.

    ranks: the greatest of each source; rank: the greatest of the result, 0 for a checkpoint. kept:
    the share of the sum's norm that it holds. at_rank, kept_at, size_at: what a cut to the greatest
    rank of the sources would keep, and its bytes. changed: tensors of a checkpoint that changed.
    missing: layers that the checkpoint does not have. lost, unmoved: see RoundingLoss, None where
    nothing was written.
    """

    sources: tuple[tuple[Path, float], ...]
    out: Path
    how: str
    layers: int
    ranks: tuple[int, ...]
    rank: int
    kept: float
    at_rank: int
    kept_at: float
    size_at: int
    size: int
    changed: int
    missing: tuple[str, ...]
    lost: float | None
    unmoved: float | None
    warnings: tuple[str, ...]
    entry: int | None
    merged: tuple[MergedLayer, ...] = field(default=())


def lora_merge(
    files: AnyPath | Sequence[AnyPath | tuple[AnyPath, float]],
    options: LoraMergeOptions,
    context: RunContext = DEFAULT_CONTEXT,
) -> LoraMergeResult:
    """Merge LoRAs: each `FILE:WEIGHT` as text, a Path of weight 1, or a pair of both.

    Raises ConfigError for options that do not fit, InputError for LoRAs that do not fit each other
    or the checkpoint, ModelFileError for another file.
    """
    pairs = [_weighted(f) for f in ([files] if isinstance(files, str | Path) else files)]
    for path, weight in pairs:
        if not math.isfinite(weight):
            raise ConfigError(f"the weight of {display(path)} is not a number", hint="e.g. 0.8")
    how = _method(options, len(pairs))
    if not options.out:
        raise ConfigError("no new file was given", hint="--out merged.safetensors")
    out = Path(options.out)
    require_new(
        out, [*(path for path, _ in pairs), *([Path(options.into)] if options.into else [])]
    )
    sources = [MergeSource(lora_file.read(path), weight) for path, weight in pairs]
    merging.require_mergeable(
        sources, products=bool(options.into) or how != "concat", into_lora=not options.into
    )
    blocks = block_weights.parse(options.blocks, sources[0].lora.family)
    gathered = merging.gather(sources, BlockWeights(blocks, options.unet, options.text))
    if options.into:
        return _into_checkpoint(sources, gathered, out, options, context)
    return _into_lora(sources, gathered, out, how, options, context)


def _weighted(file: AnyPath | tuple[AnyPath, float]) -> tuple[Path, float]:
    """Return a file and its weight."""
    if isinstance(file, str):
        return merging.split_weight(file)
    if isinstance(file, Path):
        return file, 1.0
    return Path(file[0]), float(file[1])


def _method(options: LoraMergeOptions, files: int) -> MergeMethod:
    """Return how to merge. Raises ConfigError for options that contradict each other."""
    if not files:
        raise ConfigError("no LoRA was given", hint="name at least one file")
    if options.into and (options.how is not None or options.rank is not None):
        raise ConfigError(
            "a checkpoint holds the exact sum, without a rank", hint="leave out --how and --rank"
        )
    how = options.how or ("svd" if options.rank else "concat")
    if how == "concat" and options.rank is not None:
        raise ConfigError("concat keeps every rank", hint="leave out --rank, or take --how svd")
    if how != "concat" and options.rank is None:
        raise ConfigError(f"--how {how} needs the rank of the new file", hint="give --rank 32")
    return how


def _into_lora(
    sources: Sequence[MergeSource],
    gathered: Mapping[LayerName, Sequence[WeightedLayer]],
    out: Path,
    how: MergeMethod,
    options: LoraMergeOptions,
    context: RunContext,
) -> LoraMergeResult:
    ranks = tuple(max((layer.rank for layer in s.lora.layers), default=0) for s in sources)
    at_rank = options.rank or max(1, *ranks)
    form = convert.formats(source.lora for source in sources)
    dtype = new_lora.output_dtype(options.precision, sources[0].lora.dtype, sources[0].lora.path)
    header = merging.merged_metadata(sources, how, out.stem)
    header.setdefault("ss_network_module", "networks.lora")
    header["modelspec.merged_from"] = merging.source_hashes(sources)
    merged: list[MergedLayer] = []
    context.reporter.start("merging", len(gathered))
    try:
        results = merging.merge(
            gathered, sources, how, form, rank=options.rank, density=options.density,
            seed=options.seed, report_rank=at_rank, advance=context.reporter.advance,
        )  # fmt: skip
        tensors, header = new_lora.finished(reported(results, merged), (), header, form, dtype)
    finally:
        context.reporter.finish()
    entry = write_output(
        out, tensors, header, verb="lora merge", source=sources[0].lora.path, context=context
    )
    size = tensor_file.file_size(tensors, header)
    share = sum(min(m.rank, at_rank) for m in merged) / max(1, sum(m.rank for m in merged))
    return LoraMergeResult(
        sources=tuple((source.lora.path, source.weight) for source in sources),
        out=out,
        how=how,
        layers=len(merged),
        ranks=ranks,
        rank=max(m.rank for m in merged),
        kept=_share(merged, [m.kept for m in merged]),
        at_rank=at_rank,
        kept_at=_share(merged, [m.kept_at for m in merged]),
        size_at=round(size * share),
        size=size,
        changed=0,
        missing=(),
        lost=None,
        unmoved=None,
        warnings=(),
        entry=entry,
        merged=tuple(merged),
    )


def _share(merged: Sequence[MergedLayer], kept: Sequence[float]) -> float:
    whole = sum(m.norm**2 for m in merged)
    part = sum((m.norm * share) ** 2 for m, share in zip(merged, kept, strict=True))
    return float((part / whole) ** 0.5) if whole else 1.0


def _into_checkpoint(
    sources: Sequence[MergeSource],
    gathered: Mapping[LayerName, Sequence[WeightedLayer]],
    out: Path,
    options: LoraMergeOptions,
    context: RunContext,
) -> LoraMergeResult:
    base = open_base(options.into)
    plan = merge_into(
        base, gathered, precision=options.precision, allow_missing=options.allow_missing
    )
    metadata = dict(base.files[0].metadata)
    metadata.pop("modelspec.hash_sha256", None)
    metadata["modelspec.merged_from"] = merging.source_hashes(sources)
    entry = write_output(
        out, plan.tensors, metadata, verb="lora merge", source=base.path, context=context
    )
    warnings = [*_loss_warnings(plan, sources[0])]
    if plan.missing:
        number = counted(len(plan.missing), "layer")
        warnings.append(f"{number} left out that the checkpoint does not have: {plan.missing[0]}")
    written = not context.dry_run
    return LoraMergeResult(
        sources=tuple((source.lora.path, source.weight) for source in sources),
        out=out,
        how="into a checkpoint",
        layers=len(gathered) - len(plan.missing),
        ranks=tuple(max((layer.rank for layer in s.lora.layers), default=0) for s in sources),
        rank=0,
        kept=1.0,
        at_rank=0,
        kept_at=1.0,
        size_at=0,
        size=tensor_file.file_size(plan.tensors, metadata),
        changed=plan.changed,
        missing=plan.missing,
        lost=plan.loss.error if written else None,
        unmoved=plan.loss.unmoved_share if written else None,
        warnings=tuple(warnings),
        entry=entry,
    )


def _loss_warnings(plan: CheckpointMerge, source: MergeSource) -> list[str]:
    """Return what the precision of the new checkpoint loses of the change, where it is bf16 or
    much.
    """
    loss = plan.loss
    stored = {tensor.dtype for tensor in plan.tensors}
    if not loss.changed or not ("BF16" in stored or loss.error > _LOSS):
        return []
    return [
        f"rounding loses {loss.error:.1%} of the change, and {loss.unmoved_share:.1%} of the "
        "weights that should change do not; --precision fp16 or float loses less"
    ]
