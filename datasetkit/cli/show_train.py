"""What `dsk train` prints for people: the plan before the first step, and what the run made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasetkit.cli.console import counted, images, listed, say, table, warn
from datasetkit.cli.interruption import NextStep, dsk_line, shell_line
from datasetkit.cli.show import from_here, problems, size_of, typed_path
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.options.train import TrainOptions
    from datasetkit.verbs.shared.result_types import (
        BlockUse,
        BucketUse,
        CaptionUse,
        DiskEstimate,
        EarlierRun,
        MemoryEstimate,
        TrainedLora,
    )
    from datasetkit.verbs.shared.training_plan import PlanTrainingResult
    from datasetkit.verbs.train import TrainResult

_NAMED = 3
_NOTABLE = 0.1  # of the time of the steps: time beside them is shown from this share on
_PREDICTED = {"epsilon": "noise", "v_prediction": "velocity", "flow": "velocity (flow)"}


def plan(result: PlanTrainingResult, dry_run: bool) -> None:
    """Print a plan: its folders, buckets, captions, memory and steps.

    The steps come last, so that they stay in sight while the run goes on below them. A dry run
    lists what the memory is made of.
    """
    if result.read_as:
        say(f"read: {result.read_as}")
    resolutions = {block.number: _size(block.resolution) for block in result.blocks}
    _folders(result, resolutions)
    _held_out(result)
    _buckets(result.buckets, resolutions)
    _blocks(result.blocks)
    _network(result.options)
    _captions(result.captions)
    if result.model is not None:
        predicted = _PREDICTED[str(result.model.prediction)]
        say(f"base model: {result.model.title}, predicts {predicted}")
    for line in result.to_download:
        say(line)
    _memory(result.memory, in_parts=dry_run)
    for fit in result.fits if dry_run else ():
        changes = ", ".join(f"{name} = {_toml_value(value)}" for name, value in fit.options.items())
        say(f"a card of {fit.card} GB: fits with {changes}")
    _disk(result.disk)
    if result.ignored:
        keys = ", ".join(sorted(result.ignored))
        say(f"without an effect here (docs/from-sd-scripts.md says why): {keys}", "dim")
    if result.options.logging_dir:
        say(f"TensorBoard: {_tensorboard(result.options.logging_dir)}", "dim")
    problems(result.failed)
    _earlier_run(result.earlier_run)
    _steps(result)


def trained(result: TrainResult, dry_run: bool) -> None:
    """Print what a run made; of a dry run the plan alone is printed."""
    if result.lr_schedule_plot is not None:
        say(f"LR schedule: {display(result.lr_schedule_plot)}")
    if result.training is not None:
        _lora(result.training)
        _next_steps(result.training, result.plan)


def _tensorboard(logging_dir: str) -> str:
    """Return the command that opens TensorBoard on all runs of a folder."""
    return shell_line(["tensorboard", "--logdir", typed_path(Path(logging_dir))])


def _grid(lora: TrainedLora, plan: PlanTrainingResult) -> str:
    """Return the command that draws a grid of the run's files."""
    from datasetkit.options.toml import find

    options, folder = plan.options, Path(plan.options.output_dir)
    runs = list(folder.glob("*-run.json"))
    files = lora.in_one_format
    paths = [folder] if len(runs) == 1 else files
    words = [typed_path(path) for path in paths]
    words += ["--x", "epoch" if len(files) > 1 else "weight=0.6,0.8,1"]
    governing = find(folder).table("train")
    base = options.pretrained_model_name_or_path
    if Path(governing.get("pretrained_model_name_or_path", "")).name != Path(base).name:
        words += ["--base", base]
    if not options.sample_prompts:
        subject = next(use.subset.name for use in plan.subsets if not use.subset.is_reg)
        words += ["--prompt", subject]
    elif "sample_prompts" not in governing:
        words += ["--prompts", typed_path(Path(options.sample_prompts))]
    return dsk_line("grid", *words)


def _next_steps(lora: TrainedLora, plan: PlanTrainingResult) -> None:
    """Print the commands that look at what was trained."""
    if not lora.files:  # of another process than the one that writes
        return
    options = plan.options
    say("next:")
    say(f"  {_grid(lora, plan)}")
    say(f"  {dsk_line('lora', 'check', typed_path(lora.files[-1]))}")
    if options.logging_dir:
        say(f"  {_tensorboard(options.logging_dir)}")


def next_step(result: PlanTrainingResult, command: str) -> NextStep:
    """Return what a training that ended early has left. command: the one that resumes it."""
    from datasetkit.verbs.train import saved_step

    step = saved_step(result)
    if step is None:
        return NextStep("no training state was saved: the same command starts again at step 1")
    return NextStep(f"the newest training state is of step {step:,}", command)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _folders(result: PlanTrainingResult, resolutions: Mapping[int, str]) -> None:
    """resolutions: number of a block -> its resolution; a column names it if there are several."""
    subsets = result.subsets
    several = len(resolutions) > 1
    rows = [
        (
            use.subset.folder.name,
            *([resolutions.get(use.subset.block.number, "-")] if several else []),
            "reg" if use.subset.is_reg else "train",
            use.images,
            use.subset.repeats,
            use.samples,
        )
        for use in subsets
    ]
    counts = ["images", "repeats", "samples/epoch"]
    columns = ["folder", *(["resolution"] if several else []), "set", *counts]
    table("", columns, rows, right=counts)
    reg = [use for use in subsets if use.subset.is_reg]
    if reg:
        reg_samples = sum(use.samples for use in reg)
        samples = [
            (image.path, n)
            for image, n in zip(result.plan.images, result.plan.samples, strict=True)
            if image.subset.is_reg
        ]
        unused = len({path for path, _ in samples} - {path for path, n in samples if n})
        train_samples = sum(use.samples for use in subsets) - reg_samples
        never = f"; {images(unused)} never used" if unused else ""
        say(f"regularisation: {reg_samples:,} samples for {train_samples:,} of training{never}")


def _held_out(result: PlanTrainingResult) -> None:
    if result.held_out:
        trained = len({image.path for image in result.plan.images if not image.subset.is_reg})
        total = trained + len(result.held_out)
        names = _names(result.held_out)
        held_out = f"{len(result.held_out):,} of {images(total)}"
        say(f"validation: {held_out} held out, not trained on: {names}")


def _buckets(buckets: Sequence[BucketUse], resolutions: Mapping[int, str]) -> None:
    several = len(resolutions) > 1
    rows = [
        (
            *([resolutions[use.block]] if several else []),
            _size(use.size),
            use.images,
            use.samples,
            f"{use.cut_mean:.1%}",
            f"{use.cut_worst:.1%}",
            use.enlarged or "-",
            f"x {use.enlarged_most:.2f}" if use.enlarged else "-",
        )
        for use in buckets
    ]
    counts = ["images", "samples", "cropped", "worst", "enlarged", "most"]
    columns = [*(["resolution"] if several else []), "bucket", *counts]
    table("", columns, rows, right=counts)


def _blocks(blocks: Sequence[BlockUse]) -> None:
    """Print what each of several resolutions adds to an epoch, and how many images it enlarges."""
    for block in blocks if len(blocks) > 1 else ():
        batches = counted(block.batches, "batch", "batches")
        say(
            f"{_size(block.resolution)}: {counted(block.samples, 'sample')} an epoch in "
            f"{batches} of {block.batch_size}; {block.enlarged:,} of {images(block.images)} "
            "enlarged"
        )


def _steps(result: PlanTrainingResult) -> None:
    options, totals, batch = result.options, result.totals, result.plan.batch_settings
    batches = counted(totals.batches, "batch", "batches")
    processes = f" on {batch.processes:,} processes" if batch.processes > 1 else ""
    parts = counted(len(totals.buckets), "bucket")
    if len(result.blocks) > 1:
        parts = f"{len(result.blocks):,} blocks"
    else:
        batches += f" of {batch.batch_size}"
    say(
        f"{counted(totals.samples, 'sample')} an epoch in {parts}, {batches}{processes}: "
        f"{counted(totals.steps_per_epoch, 'step')} an epoch, {counted(result.epochs, 'epoch')}"
    )
    rates = ", ".join(f"{part} {rate:g}" for part, rate in result.rates.items())
    if result.resume:
        say(f"resumed after step {result.start:,}: {result.steps - result.start:,} steps are left")
    say(
        f"{counted(result.steps, 'step')} of {options.optimizer_type}, {result.lr_schedule}: "
        f"{rates}",
        "bold",
    )


def _earlier_run(run: EarlierRun | None) -> None:
    if run is None:
        return
    how = "was interrupted" if run.status == "running" else run.status
    say(
        f"the run {display(run.name)} of {run.started} ({how}) has files in "
        f"{display(run.to.parent.parent)}: before step 1 "
        f"{counted(len(run.files), 'file')} move to {display(run.to)}"
    )
    folder = run.to.parent.parent
    listed([f"  {path.relative_to(folder).as_posix()}" for path in run.files])


def _network(options: TrainOptions) -> None:
    args = options.network()
    ranks = f"rank {options.network_dim}, alpha {options.network_alpha or options.network_dim:g}"
    if args.conv_dim is not None:
        # 1 is sd-scripts' default, 0 means the rank.
        alpha = 1.0 if args.conv_alpha is None else args.conv_alpha or args.conv_dim
        ranks += f"; 3x3 convolutions: rank {args.conv_dim}, alpha {alpha:g}"
    if args.block_dims or args.conv_block_dims or args.block_alphas:
        ranks += "; set by block"
    if options.ema_decay:
        ranks += f"; saved as a moving average ({options.ema_decay:g})"
    say(f"{args.title}, {ranks}")


def _captions(captions: CaptionUse) -> None:
    long = (
        ", ".join(f"{n:,} over {tokens}" for tokens, n in captions.over.items() if n)
        or f"none over {min(captions.over)}"
    )
    total = captions.written + len(captions.missing) + len(captions.empty)
    say(
        f"captions: {captions.written:,} of {total:,} written, {len(captions.missing):,} missing, "
        f"{len(captions.empty):,} empty; {captions.token_kind}: {long}; {_sources(captions, total)}"
    )
    if captions.too_long:
        limit = f"{captions.limit} tokens"
        if captions.limit_option:
            limit = f"{captions.limit_option} = {captions.limit}"
        warn(f"cut off at {limit}: captions of {_names(captions.too_long)}")
    if captions.differing:
        warn(
            f"captions that differ from their source image's: {_names(captions.differing)}; dsk "
            "layout refreshes them"
        )


def _sources(captions: CaptionUse, total: int) -> str:
    """Compare the captions with those beside the source images, in words."""
    if captions.unknown == total:
        return "source unknown"
    unknown = f", source of {captions.unknown:,} unknown" if captions.unknown else ""
    return f"{len(captions.differing):,} differ from their source{unknown}"


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(display(path.name) for path in paths[:_NAMED]) + more


def _toml_value(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)


def _memory(memory: MemoryEstimate, *, in_parts: bool) -> None:
    assumed = (
        "; for a Stable Diffusion 1 model, the base is not on this machine"
        if memory.assumed
        else ""
    )
    sure = f"estimate, within {memory.margin:.0%}{assumed}"
    if not in_parts:
        say(
            f"memory: about {size_of(memory.bytes)} ({sure}; --dry-run lists the parts), "
            f"{size_of(memory.loading)} of main memory while loading{_with_captions(memory)}"
        )
        return
    rows = [(share.name, size_of(share.bytes), share.how) for share in memory.shares]
    rows.append(("total", size_of(memory.bytes), sure))
    if memory.captions is not None:
        captions = memory.captions
        rows.append((captions.name, size_of(captions.bytes), f"of main memory: {captions.how}"))
    loading = f"of main memory{_with_captions(memory)}"
    rows.append(("while loading", size_of(memory.loading), loading))
    table("", ["memory", "about", "made of"], rows, right=["about"])


def _with_captions(memory: MemoryEstimate) -> str:
    return "" if memory.captions is None else ", with the encoded captions"


def _disk(disk: DiskEstimate) -> None:
    files = f"{counted(disk.loras, 'LoRA file')} of {size_of(disk.lora)}"
    if disk.states:
        files += f", at most {counted(disk.states, 'training state')} of {size_of(disk.state)}"
    if disk.texts:
        files += f", at most {counted(disk.texts, 'encoded caption')} of {size_of(disk.text)}"
    free = "" if disk.free is None else f"; {size_of(disk.free)} free"
    say(f"disk: {files}: about {size_of(disk.bytes)} in {from_here(disk.folder)}{free}")
    fewer = "set text_wordings, or save fewer files" if disk.texts else "save fewer files"
    if disk.free is not None and disk.bytes > disk.free:
        warn(f"{from_here(disk.folder)} has less space than the run takes: {fewer}")


def _lora(lora: TrainedLora) -> None:
    new = lora.steps - lora.start
    pace = f", {lora.seconds / new:.2f} s each" if new else ""
    if lora.between_steps > max(1.0, _NOTABLE * lora.seconds):
        pace += f" and {lora.between_steps:.0f} s for previews, validation and saving"
    say(
        f"trained {counted(new, 'step')}{pace}; loss {lora.loss:.4f}; "
        f"{counted(lora.modules, 'module')} passed the LoRA check"
    )
    listed([str(file) for file in lora.files])
    say(f"loss by step: {lora.plot}, {lora.metrics}", "dim")
    if lora.report is not None:
        say(f"report: {lora.report}", "dim")
    if lora.samples is not None:
        say(f"preview images: {lora.samples}", "dim")
    _validation(lora)
    for remark in lora.remarks:
        warn(remark)


def _validation(lora: TrainedLora) -> None:
    """Print the loss on the held-out images, and the step with the lowest one."""
    if lora.last is not None:
        change = f", {lora.last.words()} against step 0" if lora.last.words() else ""
        trained = lora.last.trained_change
        gain = "" if trained is None else f" (trained images: {trained:+.4f})"
        say(f"held-out images: loss {lora.last.loss:.4f}{change}{gain}")
    best = lora.best
    if best is not None:
        say(f"lowest at step {best.step:,}, epoch {best.epoch:,}: loss {best.loss:.4f}")
        if best.change is not None and best.change >= 0:
            warn("no step improved the loss on the held-out images: check the learning rate")
