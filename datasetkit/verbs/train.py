"""`dsk train`: read the options, plan the run, report on the plan, train.

Nothing heavy is loaded before the first step: a plan needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import display
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, LeftOut
from datasetkit.core.stopping import StopRequests, Terminated
from datasetkit.core.words import counted
from datasetkit.options.train import TrainOptions
from datasetkit.project import jobs
from datasetkit.project.job_progress import JobReporter
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared import gpus
from datasetkit.verbs.shared.job import registered_job
from datasetkit.verbs.shared.training_plan import LOOKING, PlanTrainingResult, plan_run
from trainer import config as train_config
from trainer import cpu_threads
from trainer.files import run_files, run_lock
from trainer.plan import resume as resuming
from trainer.plan import run_checks
from trainer.plan.outputs import output_name

if TYPE_CHECKING:
    from trainer.run import TrainedLora


_STOPPING: Final = (
    "stopping after this optimizer step, with a training state; asked once more, the run ends at "
    "once"
)
_NOTHING_TO_SAVE: Final = "stopped before the first optimizer step: there is nothing to save"


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
    result = plan_run(
        folder, options, settings=settings, config_file=config_file,
        dataset_config=dataset_config, allow_import=allow_import, processes=processes,
        resume=resume, context=context,
    )  # fmt: skip
    result = _with_earlier_run(result, resume=resume)
    result = _with_start(result, resume=resume, extend=extend, reporter=context.reporter)
    context.reporter.finish()
    return result


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
    goes on there, or another one uses the GPU.
    """
    for notice in plan.plan.notices:
        context.reporter.warn(notice)
    if not context.dry_run and not plan.plan.is_whole:
        raise ConfigError(
            "the plan was made without reading the images as a whole",
            hint="plan a run with plan_training(..., context=RunContext())",
        )
    run_checks.check_machine(plan.options)
    if context.dry_run:
        return TrainResult(plan, lr_schedule_plot=_plot(plan, context) if plot else None)
    title = f"{output_name(plan.options, plan.plan)}, {counted(plan.steps, 'step')}"
    with registered_job("train", title) if as_job else jobs.unregistered() as job:
        if job.problem:
            context.reporter.warn(f"dsk jobs stop cannot reach this run: {job.problem}")
        job.name_run(Path(plan.options.output_dir), output_name(plan.options, plan.plan))
        context = replace(context, reporter=JobReporter(context.reporter, job))
        tell = partial(context.reporter.warn, _STOPPING)
        stop = StopRequests(job.stop_request, tell, job.take_actions)
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

    with gpus.held(context):
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
