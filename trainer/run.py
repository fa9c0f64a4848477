"""A run from start to end: load the model, encode the images, train, save, and check the LoRA.

What is logged, validated, previewed and saved after each step is decided here; the arithmetic of a
step is in `loop`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.files import require_writable, writing
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed
from datasetkit.core.stopping import Action, RunPause, StopRequests
from datasetkit.core.words import counted
from datasetkit.options.train import TrainOptions
from trainer import loop, precision, setup
from trainer.data import latent_cache, run_captions
from trainer.data.latent_cache import LatentCache
from trainer.device import DTYPES, processes
from trainer.errors import LoraCheckFailed
from trainer.families.base import rates as part_rates
from trainer.files import (
    lora,
    lora_check,
    metadata,
    roundtrip,
    run_files,
    run_lock,
    run_manifest,
    save_lora,
    saved_states,
    training_state,
)
from trainer.files.lora_check import RAISE_RATE
from trainer.files.run_files import RunFiles
from trainer.files.run_manifest import PREVIEWS, RunFile, Status
from trainer.files.saved_states import TrainingState
from trainer.loop import StepLog, TrainingSetup
from trainer.monitor import loss_plot, metrics, preview, run_report, validation
from trainer.monitor.metrics import ValidationPoint
from trainer.monitor.preview_contact_sheet import PreviewContactSheet
from trainer.monitor.prompts import Prompt
from trainer.monitor.prompts import read as read_prompts
from trainer.monitor.validation import BEST, BestStep, Validator
from trainer.optimizers import schedule_options
from trainer.optimizers.optimizer_names import estimates_lr
from trainer.plan import report
from trainer.plan import resume as resuming
from trainer.plan.outputs import output_name
from trainer.plan.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class TrainedLora:
    """The result of a run.

    files: the LoRA files, the final one last. steps: for the whole run; start: the step that a
    resumed run continued from, else 0. loss: mean over the samples of the last epoch's steps taken
    by this call. seconds: spent on the steps taken by this call; waited: the part of them spent
    waiting for images; between_steps: the time beside them, for preview images, validation and
    saving. modules: layers that the LoRA adapts. metrics, plot: metrics.jsonl and loss.png.
    remarks: of the LoRA check. samples: the contact sheet of the preview images. best, last: the
    best and the last validation, None without held-out images. report: the page about the run.
    """

    files: tuple[Path, ...]
    steps: int
    start: int
    loss: float
    seconds: float
    modules: int
    metrics: Path
    plot: Path
    remarks: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    samples: Path | None = None
    waited: float = 0.0
    between_steps: float = 0.0
    best: BestStep | None = None
    last: ValidationPoint | None = None
    report: Path | None = None

    @property
    def in_one_format(self) -> tuple[Path, ...]:
        """Return the files with each LoRA once, if it was saved in several formats."""
        return tuple(run_manifest.in_one_format(self.files))


def train(
    options: TrainOptions,
    plan: TrainingPlan,
    *,
    resume: bool = False,
    extend: bool = False,
    wait: bool = False,
    reporter: Reporter = SILENT,
    stop: StopRequests | None = None,
) -> TrainedLora:
    """Train a LoRA as planned and save it to output_dir.

    resume: continue from the newest complete training state there; extend: also where another
    number of steps changes the LR schedule. wait: wait for another run that writes to the folder.
    stop: says whether to save and end after a step, or what else to do after it.

    Raises RunPause for a run that was asked to stop; LossDiverged; LoraCheckFailed for a LoRA that
    changes nothing or does not match what was trained; Locked while another run of the same name
    goes on there.
    """
    options = precision.decided(options)
    folder = Path(options.output_dir)
    name = output_name(options, plan)
    prompts = read_prompts(options)
    with _output_folder(folder, name, resume, wait), _explain_out_of_memory():
        state = None
        if resume:
            state = resuming.resume_point(
                folder, name, options, plan, extend=extend, reporter=reporter
            ).state
            torch.set_num_threads(state.threads)  # sums in another order round differently
        reporter.phase("loading the base model")
        wanted = chain(run_captions.of_run(options, plan, prompts), [roundtrip.CAPTION])
        parts, texts = setup.load_and_encode(options, wanted, folder, reporter)
        reporter.phase("preparing the network and the optimizer")
        run = setup.assemble(
            options, plan, parts, texts=texts, resumed=state is not None, reporter=reporter
        )
        if state is not None:
            reporter.phase("restoring the training state")
            training_state.restore(run, state)
            # Nothing is moved or pruned before every process has read it.
            processes().wait_for_everyone()
        _encode(run, folder, reporter)
        reporter.phase("reading the base model's hash")  # of a file of 7 GB it takes seconds
        files = _own_files(run, folder, name, state, reporter)
        with _recorded_end(files):
            start = 0 if state is None else state.step
            outputs = _RunOutputs(run, folder, name, start, files, prompts, reporter)
            return _train(run, outputs, start, reporter, stop or StopRequests())


@contextmanager
def _output_folder(folder: Path, name: str, resume: bool, wait: bool) -> Iterator[None]:
    """Create the output folder, check that the run may write there, and hold its lock.

    Only the main process does this; the others wait for it.
    """
    state = processes()
    if not state.is_main_process:
        state.wait_for_everyone()
        yield
        return
    with writing(folder):
        make_folders(folder)
    require_writable(folder)
    with run_lock.hold(folder, name, wait=wait):
        run_lock.sweep(folder, name)
        run_files.complete_move(folder, name)
        run_files.require_own(folder, name, resume=resume)
        state.wait_for_everyone()
        yield


def _own_files(
    run: TrainingSetup,
    folder: Path,
    name: str,
    state: TrainingState | None,
    reporter: Reporter,
) -> RunFiles | None:
    """Begin the record of a run's files; None in all processes but the main one, which wait for it.

    The files of an earlier run of the same name are moved to `previous/`; if a state there is
    resumed, its run is moved back. What a resumed run wrote after its state is moved there, too.
    """
    files = None
    if run.device_context.is_main:
        # Once more: loading and encoding may have taken minutes.
        run_files.require_own(folder, name, resume=state is not None)
        if state is None:
            run_files.move_to_previous(folder, name)
        elif state.folder.parent != folder:
            run_files.bring_back(folder, name, state.folder.parent)
        files = RunFiles.start(
            folder,
            name,
            run_manifest.utc(metadata.now()),
            {
                "options": asdict(run.options),
                "plan": _plan_summary(run),
                "versions": run_files.versions(),
            },
            warn=reporter.warn,
        )
        if state is not None and (later := run_files.written_later(folder, name, state.step)):
            files.set_aside(later)
        saved_states.prune(files)
    processes().wait_for_everyone()
    return files


def _plan_summary(run: TrainingSetup) -> dict[str, object]:
    """Return what the manifest of a run says of its plan."""
    plan = run.plan
    buckets: Counter[str] = Counter()
    for use in report.bucket_use(plan):  # two datasets may have the same bucket
        buckets["x".join(map(str, use.size))] += use.samples
    return {
        "images": len({p.path for p in plan.images if not p.subset.is_reg}),
        "samples": plan.count(is_reg=False),
        "regularisation_images": len({p.path for p in plan.images if p.subset.is_reg}),
        "regularisation_samples": plan.count(is_reg=True),
        "held_out_images": len({p.path for p in plan.held_out}),
        "samples_per_epoch": plan.totals.samples,
        "steps": plan.steps,
        "steps_per_epoch": plan.totals.steps_per_epoch,
        "epochs": plan.epochs,
        "processes": plan.batch_settings.processes,
        "buckets": dict(buckets),
        "base": run.options.pretrained_model_name_or_path,
    }


@contextmanager
def _recorded_end(files: RunFiles | None) -> Iterator[None]:
    """Record how the run ended; an error while doing so does not hide the run's own."""
    if files is None:
        yield
        return
    try:
        yield
    except BaseException as error:
        with suppress(DskError, OSError):
            status: Status = "failed" if isinstance(error, Exception) else "stopped"
            files.end(status, run_manifest.utc(metadata.now()))
        raise
    files.end("finished", run_manifest.utc(metadata.now()))


@contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    """Turn torch's out-of-memory error into a ConfigError with a next step."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the run does not fit into the GPU's memory: {str(error).splitlines()[0]}",
            hint='the plan shows how much memory each part needs; try mixed_precision = "bf16", '
            "gradient_checkpointing = true, or a smaller train_batch_size or resolution",
        ) from error


def _encode(run: TrainingSetup, folder: Path, reporter: Reporter) -> None:
    """Encode the latents of all images before the first step, if latents are cached."""
    encoder, options = run.encoder, run.options
    trained = [p for p, n in zip(run.plan.images, run.plan.samples, strict=True) if n]
    images = [*trained, *run.plan.held_out[: options.max_validation_steps]]
    cached = [p for p in images if not p.subset.random_crop]
    if len(cached) < len(images):
        reporter.warn("random_crop: latents are not cached; each sample is encoded")
    if not encoder.cache or not cached:
        return
    if options.cache_latents_to_disk:
        encoder.disk = LatentCache.open(folder / latent_cache.FOLDER, reporter)
    encoder.fill(cached, reporter)
    if len(cached) == len(images):
        encoder.vae.to("cpu")


# Why the work after a step has this order (`_RunOutputs.after_step`):
# - Metrics come first, so that they are complete when something later fails.
# - Validation comes before saving: the best LoRA is the one that was just measured.
# - The LoRA is saved before the preview images: a crash while generating them loses no training.
# - The training state comes last. A resumed run starts after it and repeats nothing, so the files
#   and preview images of that step must exist by then.
# - Every process validates, because the images are split between them; only the main one writes.
# - Saving, validation and preview images read the weights under `inference_weights`, which
#   puts the averaged weights in place for that time: training itself never sees them.
def _train(
    run: TrainingSetup, outputs: _RunOutputs, start: int, reporter: Reporter, stop: StopRequests
) -> TrainedLora:
    started = time.monotonic()
    last_epoch: list[StepLog] = []
    waited = in_steps = 0.0
    reporter.start("training", run.plan.steps)
    reporter.advance(start)
    with ExitStack() as until_the_end:
        try:
            if not start:
                outputs.before_first_step()
            reporter.phase("first step")  # it also encodes captions and sets up the device
            until_the_end.enter_context(stop.saving())
            for log in loop.steps(run, start=start):
                outputs.after_step(log, stop.take_actions())
                waited += log.waited
                in_steps += log.seconds
                if last_epoch and last_epoch[-1].epoch != log.epoch:
                    last_epoch.clear()
                last_epoch.append(log)
                reporter.advance()
                _pause_if_asked(run, outputs, log.step, stop)
        finally:
            reporter.finish()
            outputs.close()
        between_steps = time.monotonic() - started - in_steps
        loras, remarks = outputs.finish()  # all steps are taken: the run may as well end
        reporter.finish()
    return TrainedLora(
        files=loras,
        steps=run.plan.steps,
        start=start,
        loss=metrics.mean_loss((log.loss, log.samples) for log in last_epoch),
        seconds=in_steps,
        modules=len(run.lora.modules),
        metrics=outputs.metrics_path,
        plot=outputs.plot_path,
        remarks=remarks,
        failed=run.plan.failed,
        samples=outputs.previews.contact_sheet,
        waited=waited,
        between_steps=between_steps,
        best=outputs.validator.best if outputs.validator else None,
        last=outputs.last_validation,
        report=outputs.report_path,
    )


def _pause_if_asked(
    run: TrainingSetup, outputs: _RunOutputs, step: int, stop: StopRequests
) -> None:
    """End the run if it was asked to stop, in all processes after the same step."""
    steps = run.plan.steps
    if step < steps and run.device_context.in_any_process(stop.is_asked()):
        outputs.pause(step)
        raise RunPause(
            f"stopped after step {step:,} of {steps:,}; the training state is saved",
            stop.signum,
        )


class _RunOutputs:
    """What a run writes to its folder: metrics, validations, LoRA files, preview images, states."""

    def __init__(
        self,
        run: TrainingSetup,
        folder: Path,
        name: str,
        start: int,
        files: RunFiles | None,
        prompts: tuple[Prompt, ...],
        reporter: Reporter,
    ) -> None:
        self._run, self._folder, self._name = run, folder, name
        self._files = files  # of the main process, the only one that writes
        self._reporter = reporter
        self._resume_facts = resuming.facts(run.options, run.plan)
        self._state_step, self._state_time = start, time.monotonic()  # of the newest state
        self._run_facts = save_lora.run_facts(run, name)
        self.metrics_path = folder / f"{name}-metrics.jsonl"
        self.plot_path = folder / f"{name}-loss.png"
        self.report_path: Path | None = None
        if files is not None:
            files.add(*_changing_files(run, name, prompts))
            self.metrics_path = folder / files.claim(self.metrics_path.name)
        self._writers = _writers(run, self.metrics_path, start, files, reporter)
        replacing = files.replacing if files is not None else None
        sheet = PreviewContactSheet(folder, name, start, replacing)
        self.previews = Previews(run, prompts, sheet, files, self._writers, reporter)
        self.validator = (
            Validator(run, folder, name, start, replacing) if run.plan.held_out else None
        )
        self.last_validation: ValidationPoint | None = None

    def before_first_step(self) -> None:
        """Generate preview images and validate before any training: what the later ones are
        compared with.
        """
        if self._run.options.sample_at_first:
            self.previews.generate(0, 0, "000000")
        self._validate(0, 0)

    def after_step(self, log: StepLog, asked: frozenset[Action] = frozenset()) -> None:
        """Write what is due after a step, and what the run was asked for.

        Only the main process writes LoRA files, states and preview images, so that only its
        requests count.
        """
        run, options = self._run, self._run.options
        for writer in self._writers:
            writer.add(log)
        if validation.due(options, log, run.plan.steps):
            self._validate(log.step, log.epoch)
            self._save_if_best(log)
        stem = save_lora.save_name(run, self._name, log, now="save" in asked)
        if stem is not None and self._files is not None:
            self._reporter.phase("saving")
            save_lora.save(run, self._files, stem, self._run_facts, log)
            save_lora.prune(options, self._files)
        is_asked = "preview" in asked
        if is_asked and not self.previews.prompts:
            self._reporter.warn("no preview images: sample_prompts names no file with a prompt")
        preview_stem = preview.due(options, log, run.plan.steps, now=is_asked)
        if preview_stem is not None:
            self.previews.generate(log.step, log.epoch, preview_stem)
        if log.step < run.plan.steps:
            if stem is not None and options.save_state:
                self._save_state(log.step)
            elif "save" in asked or self._is_state_due():
                self._save_state(log.step, pause=True)

    def pause(self, step: int) -> None:
        """Save the state after a step, so that the run can end."""
        if step != self._state_step:
            self._reporter.phase("saving")
            self._save_state(step, pause=True)
        processes().wait_for_everyone()  # the first process that ends would end the others

    def _is_state_due(self) -> bool:
        minutes = self._run.options.save_state_every_minutes
        return minutes > 0 and time.monotonic() - self._state_time >= 60 * minutes

    def _save_state(self, step: int, *, pause: bool = False) -> None:
        if self._files is not None:
            training_state.save(self._run, self._files, step, self._resume_facts, pause=pause)
        self._state_step, self._state_time = step, time.monotonic()

    def close(self) -> None:
        """Close the metrics writers, also after an error."""
        for writer in self._writers:
            writer.close()

    def finish(self) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Plot the metrics and check the final files; return all LoRA files and the check's
        remarks.
        """
        if self._files is None:
            return (), ()
        self._reporter.phase("plotting the loss")
        rows = metrics.read_rows(self.metrics_path)
        files = save_lora.saved_files(self._folder, self._name)
        with self._files.replacing(self.plot_path.name) as self.plot_path:
            loss_plot.plot(
                rows,
                self.plot_path,
                title=self._name,
                facts=_plot_facts(self._run),
                per_epoch=self._run.plan.totals.steps_per_epoch,
                saved=save_lora.saved_steps(files, self._name, rows),
            )
        self._reporter.phase("checking the LoRA")
        try:
            with self._run.inference_weights():
                remarks = check_files(self._run, self._files)
        except LoraCheckFailed as error:
            raise self._refused(error, self._files) from error
        saved_states.discard_pauses(self._files)
        self._write_report(self._files, rows, remarks)
        return tuple(files), remarks

    def _write_report(
        self, files: RunFiles, rows: Sequence[Mapping[str, Any]], remarks: Sequence[str]
    ) -> None:
        """Write the page about the run. The LoRA is complete: an error is a warning."""
        if not self._run.options.save_report:
            return
        self._reporter.phase("writing the report")
        try:
            report = run_report.gathered(
                self._run.options,
                files,
                rows,
                plot=self.plot_path,
                samples=self.previews.contact_sheet,
                remarks=remarks,
                base_hash=self._run_facts.base_model.full_hash,
            )
            self.report_path = files.write(
                f"{self._name}-report.html", "report", run_report.page(report)
            )
        except (DskError, OSError) as error:
            self._reporter.warn(f"the report of the run could not be written: {error}")

    def _refused(self, error: LoraCheckFailed, files: RunFiles) -> LoraCheckFailed:
        """Rename the final files, which failed the check; return the error that names them."""
        kept = [path.name for path in save_lora.rename_failed(files)]
        raise_rate = f"{RAISE_RATE} ({_rates(self._run)})"
        if estimates_lr(self._run.options.optimizer_type):
            raise_rate = "train longer, or raise d0 in optimizer_args, where the rate starts"
        advice = error.hint.replace(RAISE_RATE, raise_rate)
        see = f"see {self.metrics_path.name} and {self.plot_path.name}"
        return LoraCheckFailed(
            f"{error.message}; kept as {', '.join(kept)}",
            hint=f"{advice}; {see}" if advice else see,
        )

    def _validate(self, step: int, epoch: int) -> None:
        if self.validator is None:
            return
        self._reporter.phase("validating")
        with self._run.inference_weights():
            point = self.validator.validate(step, epoch)
        for writer in self._writers:
            writer.add_validation(point)
        self.last_validation = point

    def _save_if_best(self, log: StepLog) -> None:
        validator, point = self.validator, self.last_validation
        if validator is None or point is None or not self._run.options.save_best:
            return
        if self._files is not None and validator.improved(point):
            stem = f"{self._name}-{BEST}"
            self._reporter.phase("saving")
            save_lora.save(self._run, self._files, stem, self._run_facts, log)
            validator.record_best(point)


def _changing_files(run: TrainingSetup, name: str, prompts: Sequence[Prompt]) -> Iterator[RunFile]:
    """Yield the files that a run writes again and again, or at its end."""
    yield RunFile(f"{name}-metrics.jsonl", "metrics")
    yield RunFile(f"{name}-loss.png", "loss plot")
    if run.plan.held_out:
        yield RunFile(f"{name}-validation.jsonl", "validation")
        yield RunFile(f"{name}-{BEST}.json", "best")
    if prompts:
        yield RunFile(f"{name}-samples.png", "contact sheet")
        yield RunFile(f"{PREVIEWS}/{name}.jsonl", "previews")


@dataclass(slots=True)
class Previews:
    """Generates a run's preview images: none without prompts, and only in the main process, which
    has the run's files.
    """

    run: TrainingSetup
    prompts: tuple[Prompt, ...]
    sheet: PreviewContactSheet
    files: RunFiles | None
    writers: list[metrics.Writer]
    reporter: Reporter

    def generate(self, step: int, epoch: int, stem: str) -> None:
        """Generate one image per prompt, for the contact sheet and the metrics.

        Running out of memory here does not stop the training: it warns once, and no more preview
        images are generated.
        """
        if not self.prompts or self.files is None:
            return
        try:
            with self.run.inference_weights():
                images = preview.generate(self.run, self.prompts, self.reporter)
        except torch.OutOfMemoryError:
            self.prompts = ()
            self.reporter.warn(
                "out of memory while generating preview images: no more are generated; try "
                "smaller ones"
            )
            return
        names = self.sheet.file_names(stem, len(images))
        self.files.add(*(RunFile(file, "preview", step, epoch) for file in names))
        self.sheet.add(step, epoch, stem, list(zip(self.prompts, images, strict=True)))
        for writer in self.writers:
            writer.add_images(step, images)

    @property
    def contact_sheet(self) -> Path | None:
        """Return the contact sheet, if there is one."""
        return self.sheet.path if self.prompts and self.sheet.path.is_file() else None


def _plot_facts(run: TrainingSetup) -> str:
    """Return what the plot says of a run below its name."""
    options, plan = run.options, run.plan
    schedule = schedule_options.name(options)
    return (
        f"{plan.image_count:,} images, {plan.steps:,} steps in {counted(plan.epochs, 'epoch')}; "
        f"{options.optimizer_type}, {schedule}: {_rates(run)}"
    )


def _rates(run: TrainingSetup) -> str:
    """Return the learning rate of each part that is trained, as text."""
    return ", ".join(
        f"{part} {rate:g}" for part, rate in part_rates(run.family, run.options).items() if rate
    )


def _writers(
    run: TrainingSetup, path: Path, start: int, files: RunFiles | None, reporter: Reporter
) -> list[metrics.Writer]:
    """Return the metrics writers of this process; only the main process has any."""
    if files is None:
        return []
    device = run.device_context.device
    writers: list[metrics.Writer] = [metrics.JsonLines(path, start=start, device=device)]
    before = metrics.read_rows(path)
    per_epoch = run.plan.totals.steps_per_epoch
    writers.append(metrics.ProgressLine(reporter, device, per_epoch=per_epoch, before=before))
    if run.options.logging_dir:
        # A folder for each run: TensorBoard draws all files of one as one curve.
        prefix = run.options.log_prefix or f"{files.name}-"
        logs = Path(run.options.logging_dir) / f"{prefix}{run_files.stamp(files.started)}"
        writers.append(metrics.TensorBoard(logs, start=start, per_epoch=per_epoch, before=before))
    return writers


def check_files(run: TrainingSetup, files: RunFiles) -> tuple[str, ...]:
    """Run the LoRA check and the round-trip check on the final files; return the remarks."""
    dtype = DTYPES[run.options.save_precision]
    unreachable = run.family.unreachable(run.parts, run.options.clip_skip)
    forms = save_lora.formats(run)
    paths = {form: files.path(f"{files.name}{save_lora.suffix(run, form)}") for form in forms}
    first = paths.get(run.family.FORMATS[0])
    if first is None:
        result = lora_check.check_tensors(
            lora.kohya_tensors(run.lora, dtype), run.lora, name=paths[forms[0]].name,
            unreachable=unreachable, dtype=dtype,
        )  # fmt: skip
    else:
        result = lora_check.check(
            first, run.lora, unreachable=unreachable, dtype=dtype, restore=run.family.restore
        )
    for path in paths.values():
        roundtrip.check(path, run, dtype)
    return result.remarks
