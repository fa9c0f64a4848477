"""A run from start to end: load the model, encode the images, train, save, and check the LoRA.

What is logged, validated, previewed and saved after each step is decided here; the arithmetic of a
step is in `loop`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, require_writable, writing
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed
from datasetkit.core.words import counted
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from datasetkit.project.locks import lock
from trainer import loop, setup
from trainer.device import DTYPES, processes
from trainer.files import lora, lora_check, roundtrip, save_lora, training_state
from trainer.loop import StepLog, TrainingSetup
from trainer.monitor import loss_plot, metrics, preview, validation
from trainer.monitor.metrics import ValidationPoint
from trainer.monitor.preview_contact_sheet import PreviewContactSheet
from trainer.monitor.prompts import Prompt
from trainer.monitor.prompts import read as read_prompts
from trainer.monitor.validation import BEST, BestStep, Validator
from trainer.plan.outputs import output_name
from trainer.plan.plan import TrainingPlan

LATENTS = "latents.safetensors"
# Options that may change when a run is resumed: they decide where results go, not what is computed.
_MAY_CHANGE_ON_RESUME = frozenset(
    n for n, option in by_name(TrainOptions).items() if option.applies != "at start"
)


@dataclass(frozen=True, slots=True)
class TrainedLora:
    """The result of a run.

    files: the LoRA files, the final one last. steps: for the whole run; start: the step that a
    resumed run continued from, else 0. loss: mean over the last epoch's steps taken by this call.
    seconds: spent on the steps taken by this call; waited: the part of them spent waiting for
    images. modules: layers that the LoRA adapts. metrics, plot: metrics.jsonl and loss.png.
    remarks: of the LoRA check. samples: the contact sheet of the preview images. best, last: the
    best and the last validation, None without held-out images.
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
    best: BestStep | None = None
    last: ValidationPoint | None = None


def train(
    options: TrainOptions,
    plan: TrainingPlan,
    *,
    resume: bool = False,
    wait: bool = False,
    reporter: Reporter = SILENT,
) -> TrainedLora:
    """Train a LoRA as planned and save it to output_dir.

    resume: continue from the newest complete training state there. wait: wait for another run that
    writes to the folder. Raises LossDiverged; LoraCheckFailed for a LoRA that changes nothing or
    does not match what was trained; Locked while another run writes to the same folder.
    """
    folder = Path(options.output_dir)
    name = output_name(options, plan)
    prompts = read_prompts(options)
    with _output_folder(folder, wait), _explain_out_of_memory():
        if not resume:
            save_lora.require_own(folder, name)
        reporter.phase("loading the base model")
        parts = setup.load_parts(options)
        reporter.phase("preparing the network and the optimizer")
        run = setup.assemble(options, plan, parts, reporter=reporter)
        facts = resume_facts(options, plan)
        start = _restore(run, folder, name, facts, reporter) if resume else 0
        if not resume and (step := resumable_step(options, plan)) is not None:
            reporter.warn(
                f"{display(folder)} has a training state of step {step:,}: --resume would go on "
                "from it; this run starts at step 1"
            )
        _encode(run, folder, reporter)
        return _train(run, folder, name, start, facts, prompts, reporter)


@contextmanager
def _output_folder(folder: Path, wait: bool) -> Iterator[None]:
    """Create the output folder, check that it is writable, and hold its lock while the run lasts.

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
    with lock(folder, wait=wait):
        training_state.sweep(folder)
        state.wait_for_everyone()
        yield


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


def resume_facts(options: TrainOptions, plan: TrainingPlan) -> dict[str, object]:
    """Return what must match for a run to be resumed."""
    images = [
        [
            p.id,
            p.bucket.bucket,
            n,
            [p.subset.block.number, p.subset.block.batch_size],
            p.caption,
            p.subset.is_reg,
            asdict(p.subset.captions),
            p.mask is not None,
            p.subset.color,
            p.subset.preserved,
        ]
        for p, n in [
            *zip(plan.images, plan.samples, strict=True),
            *((p, 0) for p in plan.held_out),
        ]
    ]
    digest = hashlib.sha256(json.dumps(sorted(images, key=json.dumps)).encode()).hexdigest()[:16]
    fixed = {k: v for k, v in asdict(options).items() if k not in _MAY_CHANGE_ON_RESUME}
    return {
        **fixed,
        "images and captions": digest,
        "steps": plan.steps,
        "processes": plan.batch_settings.processes,
    }


def resumable_step(options: TrainOptions, plan: TrainingPlan) -> int | None:
    """Return the step of the newest complete state that this run could resume, None without one."""
    state = training_state.newest(Path(options.output_dir), output_name(options, plan))
    if state is None or not training_state.fits(state, resume_facts(options, plan)):
        return None
    return state.step


def _restore(
    run: TrainingSetup, folder: Path, name: str, facts: dict[str, object], reporter: Reporter
) -> int:
    """Restore the newest training state and return its step."""
    state = training_state.newest(folder, name, reporter)
    if state is None:
        raise InputError(
            f"{display(folder)} has no training state of {display(name)}",
            hint="train without --resume",
        )
    training_state.restore(run, state, facts)
    processes().wait_for_everyone()  # nothing is pruned before every process has read it
    if run.device_context.is_main:
        training_state.prune(folder, name)
    return state.step


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
    path = folder / LATENTS
    if options.cache_latents_to_disk:
        encoder.read(path, reporter)
    new = encoder.fill(cached, reporter)
    if options.cache_latents_to_disk and new and run.device_context.is_main:
        encoder.write(path)
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
    run: TrainingSetup,
    folder: Path,
    name: str,
    start: int,
    facts: dict[str, object],
    prompts: tuple[Prompt, ...],
    reporter: Reporter,
) -> TrainedLora:
    started = time.monotonic()
    outputs = _RunOutputs(run, folder, name, start, facts, prompts, reporter)
    last_epoch: list[StepLog] = []
    waited = 0.0
    reporter.start("training", run.plan.steps)
    reporter.advance(start)
    try:
        if not start:
            outputs.before_first_step()
        for log in loop.steps(run, start=start):
            outputs.after_step(log)
            waited += log.waited
            if last_epoch and last_epoch[-1].epoch != log.epoch:
                last_epoch.clear()
            last_epoch.append(log)
            reporter.advance()
    finally:
        reporter.finish()
        outputs.close()
    seconds = time.monotonic() - started
    files, remarks = outputs.finish()
    return TrainedLora(
        files=files,
        steps=run.plan.steps,
        start=start,
        loss=sum(log.loss for log in last_epoch) / len(last_epoch),
        seconds=seconds,
        modules=len(run.lora.modules),
        metrics=outputs.metrics_path,
        plot=outputs.plot_path,
        remarks=remarks,
        failed=run.plan.failed,
        samples=outputs.previews.contact_sheet,
        waited=waited,
        best=outputs.validator.best if outputs.validator else None,
        last=outputs.last_validation,
    )


class _RunOutputs:
    """What a run writes to its folder: metrics, validations, LoRA files, preview images, states."""

    def __init__(
        self,
        run: TrainingSetup,
        folder: Path,
        name: str,
        start: int,
        facts: dict[str, object],
        prompts: tuple[Prompt, ...],
        reporter: Reporter,
    ) -> None:
        self._run, self._folder, self._name = run, folder, name
        self._resume_facts, self._reporter = facts, reporter
        self._is_main = run.device_context.is_main
        self._run_facts = save_lora.run_facts(run, name)
        self.metrics_path = folder / f"{name}-metrics.jsonl"
        self.plot_path = folder / f"{name}-loss.png"
        self._writers = _writers(run, self.metrics_path, start, reporter)
        sheet = PreviewContactSheet(folder, name, start)
        self.previews = Previews(run, prompts, sheet, self._writers, reporter)
        if not start and self._is_main:
            validation.remove_earlier_run(folder, name)
        self.validator = Validator(run, folder, name, start) if run.plan.held_out else None
        self.last_validation: ValidationPoint | None = None

    def before_first_step(self) -> None:
        """Generate preview images and validate before any training: what the later ones are
        compared with.
        """
        if self._run.options.sample_at_first:
            self.previews.generate(0, 0, "000000")
        self._validate(0, 0)

    def after_step(self, log: StepLog) -> None:
        """Write what is due after a step."""
        run, options = self._run, self._run.options
        for writer in self._writers:
            writer.add(log)
        if validation.due(options, log, run.plan.steps):
            self._validate(log.step, log.epoch)
            self._save_if_best(log)
        stem = save_lora.save_name(run, self._name, log)
        if stem is not None and self._is_main:
            self._reporter.phase("saving")
            save_lora.save(run, self._folder, stem, self._run_facts, log)
            save_lora.prune(options, self._folder, self._name)
        if (preview_stem := preview.due(options, log, run.plan.steps)) is not None:
            self.previews.generate(log.step, log.epoch, preview_stem)
        resumable = stem is not None and log.step < run.plan.steps
        if resumable and options.save_state and self._is_main:
            training_state.save(run, self._folder, self._name, log.step, self._resume_facts)

    def close(self) -> None:
        """Close the metrics writers, also after an error."""
        for writer in self._writers:
            writer.close()

    def finish(self) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Plot the metrics and check the final files; return all LoRA files and the check's
        remarks.
        """
        if not self._is_main:
            return (), ()
        rows = metrics.read_rows(self.metrics_path)
        files = save_lora.saved_files(self._folder, self._name)
        loss_plot.plot(
            rows,
            self.plot_path,
            title=self._name,
            facts=_plot_facts(self._run),
            per_epoch=self._run.plan.totals.steps_per_epoch,
            saved=save_lora.saved_steps(files, self._name, rows),
        )
        with self._run.inference_weights():
            remarks = check_files(self._run, self._folder, self._name)
        return tuple(save_lora.saved_files(self._folder, self._name)), remarks

    def _validate(self, step: int, epoch: int) -> None:
        if self.validator is None:
            return
        with self._run.inference_weights():
            point = self.validator.validate(step, epoch)
        for writer in self._writers:
            writer.add_validation(point)
        self.last_validation = point

    def _save_if_best(self, log: StepLog) -> None:
        validator, point = self.validator, self.last_validation
        if validator is None or point is None or not self._run.options.save_best:
            return
        if self._is_main and validator.improved(point):
            stem = f"{self._name}-{BEST}"
            self._reporter.phase("saving")
            save_lora.save(self._run, self._folder, stem, self._run_facts, log)
            validator.record_best(point)


@dataclass(slots=True)
class Previews:
    """Generates a run's preview images: none without prompts, and only in the main process."""

    run: TrainingSetup
    prompts: tuple[Prompt, ...]
    sheet: PreviewContactSheet
    writers: list[metrics.Writer]
    reporter: Reporter

    def generate(self, step: int, epoch: int, stem: str) -> None:
        """Generate one image per prompt, for the contact sheet and the metrics.

        Running out of memory here does not stop the training: it warns once, and no more preview
        images are generated.
        """
        if not self.prompts or not self.run.device_context.is_main:
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
    rates = ", ".join(
        f"{part} {rate:g}"
        for part, rate in options.rates().items()
        if rate and getattr(run.parts, part) is not None
    )
    schedule = options.lr_scheduler_type or options.lr_scheduler
    return (
        f"{plan.image_count:,} images, {plan.steps:,} steps in {counted(plan.epochs, 'epoch')}; "
        f"{options.optimizer_type}, {schedule}: {rates}"
    )


def _writers(
    run: TrainingSetup, path: Path, start: int, reporter: Reporter
) -> list[metrics.Writer]:
    """Return the metrics writers of this process; only the main process has any."""
    if not run.device_context.is_main:
        return []
    writers: list[metrics.Writer] = [metrics.JsonLines(path, start=start)]
    before = [float(line["loss"]) for line in metrics.read_rows(path) if "loss" in line]
    per_epoch = run.plan.totals.steps_per_epoch
    device = run.device_context.device
    writers.append(metrics.ProgressLine(reporter, device, per_epoch=per_epoch, before=before))
    if run.options.logging_dir:
        logs = Path(run.options.logging_dir)
        writers.append(metrics.TensorBoard(logs, start=start, per_epoch=per_epoch, before=before))
    return writers


def check_files(run: TrainingSetup, folder: Path, name: str) -> tuple[str, ...]:
    """Run the LoRA check and the round-trip check on the final files; return the remarks."""
    dtype = DTYPES[run.options.save_precision]
    unreachable = run.family.unreachable(run.parts, run.options.clip_skip)
    kohya, diffusers = folder / f"{name}.safetensors", folder / f"{name}.diffusers.safetensors"
    if run.options.lora_format == "diffusers":
        result = lora_check.check_tensors(
            lora.kohya_tensors(run.lora, dtype), run.lora, name=diffusers.name,
            unreachable=unreachable, dtype=dtype,
        )  # fmt: skip
    else:
        result = lora_check.check(kohya, run.lora, unreachable=unreachable, dtype=dtype)
        roundtrip.check(kohya, run, dtype)
    if run.options.lora_format != "kohya":
        roundtrip.check(diffusers, run, dtype)
    return result.remarks
