"""`dsk train`: read the options, plan the run, report on the plan, train.

Nothing heavy is loaded before the first step: a plan needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.captions.caption import caption_lines, parse
from datasetkit.captions.grammar import kept_and_free
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, LeftOut
from datasetkit.core.stopping import StopRequests, Terminated
from datasetkit.core.words import counted
from datasetkit.dataset.keep_tokens import ConceptCaptions, KeepTokens, keep_tokens
from datasetkit.dataset.repeats import Totals
from datasetkit.dataset.trigger import known_trigger
from datasetkit.options import toml
from datasetkit.options.train import TrainOptions
from datasetkit.project import jobs
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared.concept_folders import declared_at
from datasetkit.verbs.shared.recovery import recover_datasets
from trainer import config as train_config
from trainer import cpu_threads, precision
from trainer.config import Format, TranslatedConfig
from trainer.data.captions import CaptionOptions
from trainer.families import option_checks
from trainer.families.detect import DetectedModel
from trainer.files import run_files, run_lock
from trainer.files.run_files import EarlierRun
from trainer.optimizers import schedule_options
from trainer.plan import disk, memory, report, run_checks
from trainer.plan import resume as resuming
from trainer.plan.disk import DiskEstimate
from trainer.plan.memory import MemoryEstimate
from trainer.plan.model_shapes import ModelShapes
from trainer.plan.outputs import output_name
from trainer.plan.plan import Subset, TrainingPlan, find_subsets, make_plan
from trainer.plan.report import BlockUse, BucketUse, CaptionUse, SubsetUse

if TYPE_CHECKING:
    from trainer.run import TrainedLora


# How a plan alone is made: nothing is written.
LOOKING = RunContext(dry_run=True)
_STOPPING: Final = (
    "stopping after this optimizer step, with a training state; asked once more, the run ends at "
    "once"
)
_NOTHING_TO_SAVE: Final = "stopped before the first optimizer step: there is nothing to save"


@dataclass(frozen=True, slots=True)
class PlanTrainingResult:
    """A plan, and what a person should know of it before the first step.

    steps, epochs: of the whole run; totals: of an epoch. held_out: images that are validated, not
    trained. rates: part of the model -> learning rate, of the parts that are trained. lr_schedule:
    the name, or the class of lr_scheduler_type, which overrides it. memory_bytes: the sum of the
    estimate; disk: space for its files. model: None where the base is not a file that can be read
    now. ignored: keys of other trainers' files without an effect here -> why. read_as: those files,
    each with the format that it was read as. keep_tokens_lowered_by: the images
    whose captions do not begin with the trigger, which keep_tokens is to keep in place.
    earlier_run: of the same name in output_dir; its files are moved to `previous/` before step 1.
    resume: the run continues a training state, that of step `start`; extend: also where another
    number of steps changes the LR schedule.
    """

    options: TrainOptions
    plan: TrainingPlan = field(repr=False)  # every image with its caption: too long to print
    steps: int
    epochs: int
    totals: Totals
    subsets: tuple[SubsetUse, ...]
    held_out: tuple[Path, ...]
    buckets: tuple[BucketUse, ...]
    blocks: tuple[BlockUse, ...]
    captions: CaptionUse
    rates: Mapping[str, float]
    lr_schedule: str
    model: DetectedModel | None
    memory: MemoryEstimate
    memory_bytes: float
    disk: DiskEstimate
    ignored: Mapping[str, str]
    keep_tokens_lowered_by: tuple[Path, ...] = ()
    earlier_run: EarlierRun | None = None
    read_as: str = ""
    resume: bool = False
    extend: bool = False
    start: int = 0

    @property
    def failed(self) -> tuple[Failed, ...]:
        return self.plan.failed


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A plan and what training it made. training: None in a dry run. lr_schedule_plot: of a dry
    run that was asked for it.
    """

    plan: PlanTrainingResult
    training: TrainedLora | None = None
    lr_schedule_plot: Path | None = None

    @property
    def failed(self) -> tuple[Failed, ...]:
        return self.plan.failed

    @property
    def unused_files(self) -> tuple[LeftOut, ...]:
        return self.plan.plan.left_out


def plan_training(
    folder: Path,
    options: TrainOptions | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    dataset_config: Path | None = None,
    allow_import: bool = False,
    processes: int = 1,
    resume: bool = False,
    extend: bool = False,
    context: RunContext = LOOKING,
) -> PlanTrainingResult:
    """Plan a run: its images, buckets, steps and memory; load no model and write nothing.

    folder: a laid-out dataset, a dsk.toml, or its folder; or another trainer's file, as
    config_file. options: complete; without them they are read from [train] of the dsk.toml that
    governs the folder, or from other trainers' files (config_file, dataset_config), and settings
    override single ones. Files that name a dataset replace the folder. allow_import: the files
    may name classes of any package. processes: that train together. resume: continue the newest
    training state in output_dir; extend: also where another number of steps changes the LR
    schedule. context: unless it is a dry run, a command that was interrupted in the dataset is
    completed first; else HalfDone is raised: a run never uses a half-done dataset.

    Raises ConfigError for an option, a key or a prompt that is wrong, and for what a dsk.toml that
    was not named must not decide; DatasetError without images; ModelFileError for a base model that
    the run would refuse; with resume InputError without a state, ConfigError for one that does not
    fit.
    """
    folder, config_file = _foreign(folder, config_file)
    if config_file is None and dataset_config is None:
        here = folder.parent if folder.is_file() else folder
        folders = [here, train_config.data_folder(here, toml.named_or_found(folder))]
    else:
        folders = train_config.named_folders(config_file, dataset_config)
        folders = folders or [folder]
    recover_datasets(folders, context)
    context.reporter.phase("reading the dataset")
    read = _read(folder, options, settings or {}, config_file, dataset_config, allow_import)
    run_checks.check_options(read.options)
    if line := precision.notice(read.options):
        options = precision.decided(read.options)
        read = replace(read, options=options, notices=(*read.notices, line))
    plan = make_plan(
        read.subsets,
        read.options,
        processes=processes,
        notices=read.notices,
        reporter=context.reporter,
    )
    model = option_checks.detect_base(read.options)
    shapes = run_checks.base_shapes(read.options)
    run_checks.check_plan(read.options, plan, shapes, reporter=context.reporter)
    plan = replace(plan, notices=(*plan.notices, *run_checks.notices(read.options, model)))
    result = replace(
        _reported(read.options, plan, read.ignored, model, shapes), read_as=read.read_as
    )
    result = _with_earlier_run(result, resume=resume)
    result = _with_start(result, resume=resume, extend=extend, reporter=context.reporter)
    context.reporter.finish()
    return result


def _foreign(folder: Path, config_file: Path | None) -> tuple[Path, Path | None]:
    """Return the folder and the file of options: a file in the place of the folder that is not a
    dsk.toml is the file of options.
    """
    if not folder.is_file() or folder.name == CONFIG_NAME:
        return folder, config_file
    if folder.suffix.lower() not in train_config.SUFFIXES:
        raise ConfigError(
            f"{display(folder)} is not a file of options",
            hint="name a dataset's folder, a dsk.toml, or a .toml or .json of another trainer",
        )
    file = train_config.read_file(folder)
    if not file.data:
        raise ConfigError(
            f"{display(folder)} has no options", hint="write some into it, or name the dataset"
        )
    if file.format is Format.PROJECT:
        return folder, config_file  # refused: it is not called dsk.toml
    if config_file is not None:
        raise ConfigError(
            f"{display(folder)} and {display(config_file)} are both files of options",
            hint="name one of them, and the dataset's folder",
        )
    return Path(), folder


def _with_start(
    result: PlanTrainingResult, *, resume: bool, extend: bool, reporter: Reporter
) -> PlanTrainingResult:
    """Add to a plan the training state that the run continues, or would overwrite."""
    if extend and not resume:
        raise ConfigError("--extend is for a run that is resumed", hint="add --resume")
    options, plan = result.options, result.plan
    folder, name = Path(options.output_dir), output_name(options, plan)
    if not resume:
        state = resuming.unfinished(folder, name, options, plan)
        if state is None:
            return result
        notice = (
            f"{display(folder)} has a training state of step {state.step:,}: --resume would go on "
            "from it; this run starts at step 1"
        )
        return replace(result, plan=replace(plan, notices=(*plan.notices, notice)))
    point = resuming.resume_point(folder, name, options, plan, extend=extend, reporter=reporter)
    notices = (*point.notices, *_later_files(point.state.folder.parent, name, point.state.step))
    return replace(
        result,
        plan=replace(plan, notices=(*plan.notices, *notices)),
        resume=True,
        extend=extend,
        start=point.state.step,
    )


def _later_files(folder: Path, name: str, step: int) -> tuple[str, ...]:
    """Return a line about the files that a run wrote after the step that it goes on from."""
    later = run_files.written_later(folder, name, step)
    if not later:
        return ()
    more = f" and {len(later) - 1:,} more" if len(later) > 1 else ""
    return (
        f"what the run wrote after step {step:,} moves to previous/: "
        f"{display(later[0].name)}{more} in {display(folder)}",
    )


def _read(
    folder: Path,
    options: TrainOptions | None,
    settings: Mapping[str, Any],
    config_file: Path | None,
    dataset_config: Path | None,
    allow_import: bool,
) -> TranslatedConfig:
    """Return the options and the subsets, from the one source that was named."""
    named = config_file is not None or dataset_config is not None
    if options is not None and (settings or named):
        raise ConfigError("options are complete: give no settings or files beside them")
    if named:
        return train_config.translate(
            config_file,
            dataset_config,
            settings,
            data_dir=None if folder == Path() else folder,
            allow_import=allow_import,
        )
    project = replace(toml.named_or_found(folder), allow_import=allow_import)
    if folder.is_file():
        folder = folder.parent
    notices: tuple[str, ...] = ()
    if options is None:
        options = train_config.of_project(project, settings)
        notices = (*train_config.outside_notices(project, settings), *_one_size(options))
    subsets, more = find_subsets(train_config.data_folder(folder, project), options)
    return TranslatedConfig(options, subsets, {}, (*notices, *more))


def _one_size(options: TrainOptions) -> tuple[str, ...]:
    """Return a line where a pair might have been meant as two resolutions, as other trainers read
    it.
    """
    size = options.resolution
    if options.resolutions or isinstance(size, int) or size[0] == size[1]:
        return ()
    return (
        f"resolution = {list(size)} is one size, {size[0]} wide and {size[1]} high; for two "
        f"resolutions write resolutions = {list(size)}",
    )


def _reported(
    options: TrainOptions,
    plan: TrainingPlan,
    ignored: Mapping[str, str],
    model: DetectedModel | None,
    shapes: ModelShapes | None,
) -> PlanTrainingResult:
    """Add to a plan its folders, buckets and captions, and an estimate of its memory."""
    buckets = report.bucket_use(plan)
    blocks = report.block_use(plan)
    # The block whose batches take the most memory decides.
    estimates = (
        memory.estimate(replace(options, train_batch_size=block.batch_size), block.largest, shapes)
        for block in blocks
    )
    estimate = max(estimates, key=lambda estimated: estimated.bytes)
    space = disk.estimate(options, plan, shapes)
    kept = _keep_tokens(options, plan)
    plan = replace(plan, notices=(*plan.notices, *kept.notes))
    return PlanTrainingResult(
        options=options,
        plan=plan,
        steps=plan.steps,
        epochs=plan.epochs,
        totals=plan.totals,
        subsets=report.subset_use(plan),
        held_out=tuple(dict.fromkeys(image.path for image in plan.held_out)),
        buckets=buckets,
        blocks=blocks,
        captions=report.caption_use(
            plan, options.max_token_length, weighted=options.weighted_captions
        ),
        lr_schedule=schedule_options.name(options),
        rates=_rates(options, two_encoders=shapes is not None and shapes.lora_text_2 > 0),
        model=model,
        memory=estimate,
        memory_bytes=estimate.bytes,
        disk=space,
        ignored=ignored,
        keep_tokens_lowered_by=kept.lowered_by,
    )


def _with_earlier_run(result: PlanTrainingResult, *, resume: bool) -> PlanTrainingResult:
    """Add to a plan the earlier run whose files would be moved. Raises InputError for files that
    the run would replace and that no run of dsk wrote.
    """
    output, name = Path(result.options.output_dir), output_name(result.options, result.plan)
    run_files.require_own(output, name, resume=resume)
    rejected = run_files.rejected_names(output, name)
    if rejected is not None:
        result = _noticed(result, rejected)
    if run_lock.is_held(output, name):
        return _noticed(result, f"another run is training {display(name)} in {display(output)} now")
    return result if resume else replace(result, earlier_run=run_files.earlier_run(output, name))


def _noticed(result: PlanTrainingResult, notice: str) -> PlanTrainingResult:
    plan = replace(result.plan, notices=(*result.plan.notices, notice))
    return replace(result, plan=plan)


def _keep_tokens(options: TrainOptions, plan: TrainingPlan) -> KeepTokens:
    """Return which captions do not begin with the trigger, where their order is not kept."""
    concepts = []
    subsets: dict[tuple[Path, CaptionOptions], Subset] = {}
    for subset in plan.subsets:  # a folder that several blocks train alike is judged once
        subsets.setdefault((subset.folder, subset.captions), subset)
    for subset in subsets.values():
        order = subset.captions
        if (
            subset.is_reg
            or order.caption_prefix
            or not (order.shuffle_caption or order.caption_tag_dropout_rate)
        ):
            continue
        first_lines = {
            image.path: _first_tags(image.caption, order)
            for image in plan.images
            if image.subset == subset and image.captioned == "written"
        }
        captions = {
            path: parse(line).tags
            for path, line in first_lines.items()
            if line and kept_and_free(line, order.keep_tokens_separator) is None
        }
        trigger = known_trigger(
            subset.folder,
            captions.values(),
            declared=declared_at(subset.folder),
            concept=subset.name,
        )
        concepts.append(ConceptCaptions(captions, trigger))
    return keep_tokens(concepts, given=options.keep_tokens)


def _first_tags(caption: str, options: CaptionOptions) -> str:
    """Return the first line of a caption, of sentences only the tags that stand before them."""
    if options.kind == "tags":
        return caption.split("\n")[0]
    return ", ".join(caption_lines(parse(caption, options.syntax))[0].tags)


def _rates(options: TrainOptions, *, two_encoders: bool) -> dict[str, float]:
    """Return the learning rate of each part that is trained. two_encoders: the model has two text
    encoders.
    """
    two = two_encoders or isinstance(options.text_encoder_lr, tuple)
    return {
        part: rate
        for part, rate in options.rates().items()
        if rate and (two or part != "text_encoder_2")
    }


def train(
    plan: PlanTrainingResult,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    plot: bool = False,
    as_job: bool = True,
) -> TrainResult:
    """Train a LoRA as planned, and save it to the folder output_dir of the options.

    The first SIGINT, SIGTERM or SIGHUP, or `dsk jobs stop`, lets the run save a training state
    after the step. plot: in a dry run, write a plot of the LR schedule to output_dir, the only file
    that it writes. as_job: register the run, so that `dsk jobs` reaches it.

    Raises MissingExtra without the extra `train`, RunPause when it was stopped so, LossDiverged,
    LoraCheckFailed for a LoRA without an effect, Locked while another run of the same name
    goes on there.
    """
    for notice in plan.plan.notices:
        context.reporter.warn(notice)
    run_checks.check_machine(plan.options)
    if context.dry_run:
        return TrainResult(plan, lr_schedule_plot=_plot(plan, context) if plot else None)
    title = f"{output_name(plan.options, plan.plan)}, {counted(plan.steps, 'step')}"
    with jobs.registered("train", title) if as_job else jobs.unregistered() as job:
        if job.problem:
            context.reporter.warn(f"dsk jobs stop cannot reach this run: {job.problem}")
        stop = StopRequests(job.stop_request, partial(context.reporter.warn, _STOPPING))
        with stop.listening():
            try:
                return TrainResult(plan, _train(plan, context, stop))
            except (KeyboardInterrupt, Terminated):
                if not stop.could_save:
                    context.reporter.warn(_NOTHING_TO_SAVE)
                raise


def _plot(plan: PlanTrainingResult, context: RunContext) -> Path:
    context.reporter.phase("drawing the LR schedule")
    cpu_threads.set_environment()
    from trainer.monitor import lr_schedule_plot  # here: it loads torch

    name = output_name(plan.options, plan.plan)
    path = lr_schedule_plot.write(plan.options, plan.steps, list(plan.rates), name)
    context.reporter.finish()
    return path


def _train(plan: PlanTrainingResult, context: RunContext, stop: StopRequests) -> TrainedLora:
    context.reporter.phase("loading PyTorch")
    cpu_threads.set_environment()
    from trainer import run  # here: it loads torch

    return run.train(
        plan.options,
        plan.plan,
        resume=plan.resume,
        extend=plan.extend,
        wait=context.wait,
        reporter=context.reporter,
        stop=stop,
    )


def read_setting(text: str) -> tuple[str, Any]:
    """Read `name=value`; the value is written as in TOML, a bare word is a text."""
    return train_config.setting(text)


def launched_processes() -> Any:
    """Return accelerate's state of the processes that were launched to train together."""
    cpu_threads.set_environment()
    from trainer.device import processes  # here: it loads torch

    return processes()


def is_first_failure() -> bool:
    """Tell whether this process is the first of those launched together to fail, and record that
    it did.
    """
    from trainer import device  # here: it loads torch

    return device.is_first_failure()


def saved_step(plan: PlanTrainingResult) -> int | None:
    """Return the optimizer step of the newest training state that a run of this plan would resume,
    None if there is none.
    """
    options = plan.options
    folder, name = Path(options.output_dir), output_name(options, plan.plan)
    if not plan.resume:
        state = resuming.unfinished(folder, name, options, plan.plan)
        return None if state is None else state.step
    try:  # the state may still be below `previous/`, or need --extend
        point = resuming.resume_point(folder, name, options, plan.plan, extend=plan.extend)
    except DskError:
        return None
    return point.state.step
