"""How the plan of a training run is shown before its first step: tables for people, one object for
programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.options.train import TrainOptions
    from trainer.families.detect import DetectedModel
    from trainer.plan.memory import MemoryEstimate
    from trainer.plan.plan import TrainingPlan
    from trainer.plan.report import BucketUse, CaptionUse, SubsetUse

_NAMED = 3
PREDICTED = {"epsilon": "noise", "v_prediction": "velocity"}


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan with what was found in it. ignored: keys of sd-scripts' files that do nothing here,
    and why.
    """

    options: TrainOptions
    plan: TrainingPlan
    ignored: Mapping[str, str]
    subsets: tuple[SubsetUse, ...]
    buckets: tuple[BucketUse, ...]
    captions: CaptionUse
    memory: MemoryEstimate
    rates: Mapping[str, float]
    model: DetectedModel | None


def look(options: TrainOptions, plan: TrainingPlan, ignored: Mapping[str, str]) -> PlanReport:
    """Look at a plan's folders, buckets and captions, and estimate what it takes; nothing heavy is
    loaded.
    """
    from trainer.families import option_checks
    from trainer.plan import memory, model_shapes, report

    buckets = report.bucket_use(plan)
    largest = max((use.size for use in buckets), key=lambda size: size[0] * size[1])
    anatomy = model_shapes.read(options.pretrained_model_name_or_path, options.vae)
    return PlanReport(
        options, plan, ignored, report.subset_use(plan), buckets,
        report.caption_use(plan, options.max_token_length, weighted=options.weighted_captions),
        memory.estimate(options, largest, anatomy),
        _rates(options, anatomy is not None and anatomy.lora_text_2 > 0),
        option_checks.of_base(options),
    )  # fmt: skip


def _rates(options: TrainOptions, two_encoders: bool) -> dict[str, float]:
    """Return the rate of each part that is trained. two_encoders: the model has a second text
    encoder.
    """
    two = two_encoders or isinstance(options.text_encoder_lr, tuple)
    return {
        part: rate
        for part, rate in options.rates().items()
        if rate and (two or part != "text_encoder_2")
    }


def as_json(shown: PlanReport) -> dict[str, Any]:
    """Return what a program reads of a plan."""
    return {
        "steps": shown.plan.steps,
        "epochs": shown.plan.epochs,
        "totals": shown.plan.totals,
        "subsets": shown.subsets,
        "held_out": [image.path for image in shown.plan.held_out],
        "buckets": shown.buckets,
        "captions": shown.captions,
        "model": shown.model,
        "memory": {"bytes": shown.memory.bytes, "estimate": shown.memory},
        "ignored": dict(shown.ignored),
    }


def show(shown: PlanReport) -> None:
    """Print a plan: its folders, its buckets, its steps, its captions and its memory."""
    _folders(shown.subsets)
    _held_out(shown.plan)
    _buckets(shown.buckets)
    _steps(shown.options, shown.plan, shown.rates)
    _network(shown.options)
    _captions(shown.captions, shown.options.max_token_length)
    if shown.model is not None:
        say(
            f"the base is one of {shown.model.title}, and predicts "
            f"{PREDICTED[str(shown.model.prediction)]}"
        )
    _memory(shown.memory)
    for key, why in shown.ignored.items():
        say(f"{key} is not needed: {why}", "dim")


def _folders(subsets: Sequence[SubsetUse]) -> None:
    rows = [
        (
            s.subset.folder.name,
            "reg" if s.subset.is_reg else "train",
            s.images,
            s.subset.repeats,
            s.samples,
        )
        for s in subsets
    ]
    table(
        "",
        ["folder", "set", "images", "repeats", "samples an epoch"],
        rows,
        right=["images", "samples an epoch"],
    )
    reg = [s for s in subsets if s.subset.is_reg]
    if reg:
        matched, unused = sum(s.samples for s in reg), sum(s.unused for s in reg)
        own = sum(s.samples for s in subsets) - matched
        never = f"; {images(unused)} {'is' if unused == 1 else 'are'} never seen" if unused else ""
        say(f"regularisation: {matched:,} samples are matched to {own:,} of training{never}")


def _held_out(plan: TrainingPlan) -> None:
    if plan.held_out:
        own = sum(not image.subset.is_reg for image in plan.images) + len(plan.held_out)
        names = _names([image.path for image in plan.held_out])
        say(
            f"validation: {len(plan.held_out):,} of {images(own)} are held out and not "
            f"trained: {names}"
        )


def _buckets(buckets: Sequence[BucketUse]) -> None:
    rows = [
        (
            "x".join(map(str, use.size)),
            use.images,
            use.samples,
            f"{use.cut_mean:.1%}",
            f"{use.cut_worst:.1%}",
            use.enlarged or "-",
            f"x {use.enlarged_most:.2f}" if use.enlarged else "-",
        )
        for use in buckets
    ]
    columns = ["bucket", "images", "samples", "cut off", "worst", "enlarged", "most"]
    table("", columns, rows, right=columns[1:])


def _steps(options: TrainOptions, plan: TrainingPlan, trained: Mapping[str, float]) -> None:
    totals = plan.totals
    batches = f"{totals.batches:,} batch" + ("" if totals.batches == 1 else "es")
    shared = (
        f" on {plan.batch_settings.processes:,} processes"
        if plan.batch_settings.processes > 1
        else ""
    )
    say(
        f"{counted(totals.samples, 'sample')} an epoch in "
        f"{counted(len(totals.buckets), 'bucket')}, "
        f"{batches} of {plan.batch_settings.batch_size}{shared}: "
        f"{counted(totals.steps_per_epoch, 'step')} an epoch, {counted(plan.epochs, 'epoch')}"
    )
    rates = ", ".join(f"{part} {rate:g}" for part, rate in trained.items())
    say(
        f"{counted(plan.steps, 'step')} of {options.optimizer_type}, {options.lr_scheduler}: "
        f"{rates}",
        "bold",
    )


def _network(options: TrainOptions) -> None:
    args = options.network()
    ranks = f"rank {options.network_dim}, alpha {options.network_alpha or options.network_dim:g}"
    if args.conv_dim is not None:
        # 1 is sd-scripts' default, 0 means the rank.
        alpha = 1.0 if args.conv_alpha is None else args.conv_alpha or args.conv_dim
        ranks += f"; of 3x3 convolutions rank {args.conv_dim}, alpha {alpha:g}"
    blocks = "; by block" if args.block_dims or args.conv_block_dims or args.block_alphas else ""
    average = f"; saved as a moving average ({options.ema_decay:g})" if options.ema_decay else ""
    say(f"{args.title} of {ranks}{blocks}{average}")


def _captions(captions: CaptionUse, limit: int) -> None:
    longer = (
        ", ".join(f"{n:,} over {tokens}" for tokens, n in captions.over.items() if n)
        or "none over 75"
    )
    total = captions.written + len(captions.missing) + len(captions.empty)
    if captions.unknown == total:
        sources = "source unknown"
    else:
        sources = f"{len(captions.differing):,} differing from their source"
        sources += f", source of {captions.unknown:,} unknown" if captions.unknown else ""
    say(
        f"captions: {captions.written:,} of {total:,} written, {len(captions.missing):,} missing, "
        f"{len(captions.empty):,} empty; CLIP tokens: {longer}; {sources}"
    )
    if captions.too_long:
        warn(
            f"longer than max_token_length = {limit}, their end is cut off: "
            f"{_names(captions.too_long)}"
        )
    if captions.differing:
        warn(
            f"not the caption of their source image: {_names(captions.differing)}; dsk "
            "layout refreshes them"
        )


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(display(path.name) for path in paths[:_NAMED]) + more


def _memory(memory: MemoryEstimate) -> None:
    rows = [(share.name, _size(share.bytes), share.how) for share in memory.shares]
    guess = "; its files are not here: of a Stable Diffusion 1 model" if memory.assumed else ""
    rows.append(("in all", _size(memory.bytes), f"an estimate, within {memory.margin:.0%}{guess}"))
    rows.append(("while loading", _size(memory.loading), "of main memory"))
    table("", ["memory", "about", "made of"], rows, right=["about"])


def _size(count: float) -> str:
    """Return bytes in GB of 10^9, small ones in MB."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{count / 1e6:.0f} MB"
