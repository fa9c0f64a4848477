"""A run: from options and a plan to LoRA files that passed the gate; what is logged and saved is
decided here.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display, require_writable, write_atomic, writing
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import Failed
from datasetkit.dataset.buckets import Size
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from datasetkit.project.locks import lock
from trainer import loop, setup
from trainer.device import DTYPES, processes
from trainer.files import lora, lora_check, metadata, roundtrip, training_state
from trainer.files.hashes import checkpoint_hashes
from trainer.loop import StepLog, TrainingSetup
from trainer.monitor import metrics, preview, validation
from trainer.monitor.metrics import ValidationPoint
from trainer.monitor.preview_contact_sheet import PreviewSheet
from trainer.monitor.prompts import Prompt
from trainer.monitor.prompts import read as read_prompts
from trainer.monitor.validation import BEST, BestStep, Validator
from trainer.optimizers import build_optimizer, build_scheduler
from trainer.plan.plan import TrainingPlan

LATENTS = "latents.safetensors"
# Options that may change when a run goes on: they say where things go, not what is computed.
_FREE = frozenset(n for n, option in by_name(TrainOptions).items() if option.applies != "at start")


@dataclass(frozen=True, slots=True)
class TrainedLora:
    """What a run made. files: the LoRA files that are there, the final one last; loss: mean of the
    last epoch's steps, of those taken now.

    seconds: of the steps taken now; start: the step that a resumed run went on from, 0 for a whole
    run. samples: the contact sheet of the preview images. waited: those of the seconds in which a
    step waited for images to be read. best, last: of the held-out images, the best step and how
    they do at the end; None where there are none.
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
    """Train a LoRA as planned, and save it to output_dir.

    resume: go on from the newest complete state there. Raises GateFailed for a run that diverged or
    a LoRA that would do nothing; Locked while another run writes to the same folder.
    """
    folder = Path(options.output_dir)
    name = output_name(options, plan)
    setup.check_optimizer(options, plan)
    prompts = read_prompts(options)
    preview.warn_of_long(prompts, options.max_token_length, reporter)
    with _prepared(folder, wait), _in_memory():
        reporter.phase("loading")
        parts = setup.load_parts(options)
        run = setup.assemble(options, plan, parts, reporter=reporter)
        state = training_state.newest(folder, name, reporter) if resume else None
        if resume and state is None:
            raise InputError(
                f"{display(folder)} holds no state of {display(name)}",
                hint="train without --resume",
            )
        facts = resume_facts(options, plan)
        if state is not None:
            training_state.restore(run, state, facts)
            processes().wait_for_everyone()  # all have read it
            if run.place.is_main:
                training_state.prune(folder, name)
        _encode(run, folder, reporter)
        return _train(run, folder, name, state.step if state else 0, facts, prompts, reporter)


def output_name(options: TrainOptions, plan: TrainingPlan) -> str:
    """Return the name of the LoRA's files: as configured, else that of the first concept."""
    name = options.output_name or plan.subsets[0].name or "lora"
    if re.search(r"[\\/\0]", name) or name in (".", ".."):
        raise InputError(f"output_name = {display(name)} is no file name", hint="give a plain name")
    return name


@contextmanager
def _prepared(folder: Path, wait: bool) -> Iterator[None]:
    """Make the output folder, prove that it can be written, and hold its lock; one process of
    several does it.
    """
    state = processes()
    if not state.is_main_process:
        state.wait_for_everyone()
        yield
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    require_writable(folder)
    with lock(folder, wait=wait):
        training_state.sweep(folder)
        state.wait_for_everyone()
        yield


@contextmanager
def _in_memory() -> Iterator[None]:
    """Say what to do where a GPU's memory is not enough."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the run does not fit into the GPU's memory: {str(error).splitlines()[0]}",
            hint='the plan says what takes how much; try mixed_precision = "bf16", '
            "gradient_checkpointing = true, or a "
            "smaller train_batch_size or resolution",
        ) from error


def resume_facts(options: TrainOptions, plan: TrainingPlan) -> dict[str, object]:
    """Return what a run must have in common with the one that it continues."""
    images = [
        [
            p.id,
            p.bucket.bucket,
            n,
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
    given = {k: v for k, v in asdict(options).items() if k not in _FREE}
    return {
        **given,
        "images and captions": digest,
        "steps": plan.steps,
        "processes": plan.batch_settings.processes,
    }


def _encode(run: TrainingSetup, folder: Path, reporter: Reporter) -> None:
    """Encode all images before the first step, where latents are kept."""
    encoder = run.encoder
    trained = [p for p, n in zip(run.plan.images, run.plan.samples, strict=True) if n]
    images = [*trained, *run.plan.held_out[: run.options.max_validation_steps]]
    fixed = [p for p in images if not p.subset.random_crop]
    if len(fixed) < len(images):
        reporter.warn("random_crop: latents are encoded anew at each sample")
    if not encoder.remember or not fixed:
        return
    path = folder / LATENTS
    if run.options.cache_latents_to_disk:
        encoder.read(path, reporter)
    new = encoder.fill(fixed, reporter)
    if run.options.cache_latents_to_disk and new and run.place.is_main:
        encoder.write(path)
    if len(fixed) == len(images):
        encoder.vae.to("cpu")


def _train(
    run: TrainingSetup,
    folder: Path,
    name: str,
    start: int,
    facts: dict[str, object],
    prompts: tuple[Prompt, ...],
    reporter: Reporter,
) -> TrainedLora:
    told = run_facts(run, name)
    started = time.monotonic()
    files: list[Path] = []
    last: list[StepLog] = []
    waited = 0.0
    record = folder / f"{name}-metrics.jsonl"
    writers = _writers(run, record, start, reporter)
    easel = _Previews(run, prompts, PreviewSheet(folder, name, start), writers, reporter)
    if not start and run.place.is_main:
        validation.forget(folder, name)
    validator = Validator(run, folder, name, start) if run.plan.held_out else None
    checked: ValidationPoint | None = None
    reporter.start("step", run.plan.steps)
    reporter.advance(start)
    try:
        if run.options.sample_at_first and not start:
            easel.draw(0, 0, "000000")
        if validator is not None and not start:
            with run.given():
                checked = _checked(validator.look(0, 0), writers)
        for log in loop.steps(run, start=start):
            for writer in writers:
                writer.add(log)
            if validator is not None and validation.due(run.options, log, run.plan.steps):
                with run.given():
                    checked = _checked(validator.look(log.step, log.epoch), writers)
                if run.options.save_best and run.place.is_main and validator.improved(checked):
                    reporter.phase("saving")
                    _save(run, folder, f"{name}-{BEST}", told, log)
                    validator.keep(checked)
            stem = save_name(run, name, log)
            if stem is not None and run.place.is_main:
                reporter.phase("saving")
                _save(run, folder, stem, told, log)
                _forget(run.options, folder, name)
            if (moment := preview.due(run.options, log, run.plan.steps)) is not None:
                easel.draw(log.step, log.epoch, moment)
            # Behind the images: a run that goes on from here has them.
            if (
                stem is not None
                and run.place.is_main
                and run.options.save_state
                and log.step < run.plan.steps
            ):
                training_state.save(run, folder, name, log.step, facts)
            waited += log.waited
            last = [*(last if last and last[-1].epoch == log.epoch else []), log]
            reporter.advance()
    finally:
        reporter.finish()
        for writer in writers:
            writer.close()
    seconds = time.monotonic() - started
    plot = folder / f"{name}-loss.png"
    remarks: tuple[str, ...] = ()
    if run.place.is_main:
        metrics.plot(metrics.rows(record), plot)
        with run.given():
            remarks = _judge(run, folder, name)
        files = saved_files(folder, name)
    loss = sum(log.loss for log in last) / len(last)
    return TrainedLora(
        tuple(files), run.plan.steps, start, loss, seconds, len(run.lora.modules), record, plot,
        remarks, run.plan.failed,
        easel.sheet.path if prompts and easel.sheet.path.is_file() else None, waited,
        validator.best if validator is not None else None, checked,
    )  # fmt: skip


def _checked(found: ValidationPoint, writers: Sequence[metrics.Writer]) -> ValidationPoint:
    """Record how the held-out images do, and return it."""
    for writer in writers:
        writer.check(found)
    return found


@dataclass(slots=True)
class _Previews:
    """Where a run draws its preview images; without prompts, and in all processes but one, nothing
    is drawn.
    """

    run: TrainingSetup
    prompts: tuple[Prompt, ...]
    sheet: PreviewSheet
    writers: list[metrics.Writer]
    reporter: Reporter

    def draw(self, step: int, epoch: int, stem: str) -> None:
        """Draw every prompt after `step`, into the sheet and the metrics.

        What does not fit into memory costs no training: that is said, and nothing more is drawn.
        """
        if not self.prompts or not self.run.place.is_main:
            return
        try:
            with self.run.given():
                images = preview.draw(self.run, self.prompts, self.reporter)
        except torch.OutOfMemoryError:
            self.prompts = ()
            self.reporter.warn(
                "no memory is left for preview images: none are drawn from now on; try smaller ones"
            )
            return
        self.sheet.add(step, epoch, stem, list(zip(self.prompts, images, strict=True)))
        for writer in self.writers:
            writer.show(step, images)


def _writers(
    run: TrainingSetup, record: Path, start: int, reporter: Reporter
) -> list[metrics.Writer]:
    if not run.place.is_main:
        return []
    made: list[metrics.Writer] = [metrics.JsonLines(record, start=start)]
    before = [float(line["loss"]) for line in metrics.rows(record) if "loss" in line]
    per_epoch = run.plan.totals.steps_per_epoch
    made.append(
        metrics.ProgressLine(reporter, run.place.device, per_epoch=per_epoch, before=before)
    )
    if run.options.logging_dir:
        made.append(
            metrics.TensorBoard(
                Path(run.options.logging_dir), start=start, per_epoch=per_epoch, before=before
            )
        )
    return made


def save_name(run: TrainingSetup, name: str, log: StepLog) -> str | None:
    """Return the stem of the file that is saved after a step, as sd-scripts names it; None for
    none.
    """
    options = run.options
    if log.step == run.plan.steps:
        return name
    every = options.save_every_n_epochs
    if every and log.last_of_epoch and log.epoch % every == 0:
        return f"{name}-{log.epoch:06d}"
    if options.save_every_n_steps and log.step % options.save_every_n_steps == 0:
        return f"{name}-step{log.step:08d}"
    return None


def _save(
    run: TrainingSetup, folder: Path, stem: str, told: metadata.RunFacts, log: StepLog
) -> None:
    with run.given():
        _write(run, folder, stem, told, log)


def _write(
    run: TrainingSetup, folder: Path, stem: str, told: metadata.RunFacts, log: StepLog
) -> None:
    options = run.options
    dtype = DTYPES[options.save_precision]
    if options.lora_format != "diffusers":
        tensors = run.family.as_kohya(lora.kohya_tensors(run.lora, dtype))
        said = metadata.final_metadata(
            tensors, told, metadata.SaveFacts(metadata.now(), log.step, log.epoch)
        )
        header = metadata.minimal(said) if options.no_metadata else said
        write_atomic(
            folder / f"{stem}.safetensors",
            save_tensors(tensors, metadata={"format": "pt", **header}),
        )
    if options.lora_format != "kohya":
        tensors = lora.diffusers_tensors(run.lora, dtype)
        data = save_tensors(tensors, metadata=lora.diffusers_metadata(run.lora))
        write_atomic(folder / f"{stem}.diffusers.safetensors", data)


def saved_files(folder: Path, name: str) -> list[Path]:
    """Return the LoRA files of a run in a folder, the final ones last."""
    pattern = re.compile(
        re.escape(name) + rf"(-\d{{6}}|-step\d{{8}}|-{BEST})?(\.diffusers)?\.safetensors"
    )
    found = [p for p in folder.iterdir() if pattern.fullmatch(p.name)]
    return sorted(found, key=lambda p: (p.name.startswith(f"{name}."), p.name))


def _forget(options: TrainOptions, folder: Path, name: str) -> None:
    """Remove the oldest numbered files beyond what save_last_n_epochs and save_last_n_steps
    keep.
    """
    for number, keep in (
        (r"-(\d{6})", options.save_last_n_epochs),
        (r"-step(\d{8})", options.save_last_n_steps),
    ):
        if keep is not None:
            pattern = re.compile(re.escape(name) + number + r"(\.diffusers)?\.safetensors")
            numbers = {p: int(m[1]) for p in folder.iterdir() if (m := pattern.fullmatch(p.name))}
            kept = sorted(set(numbers.values()))[-keep:]
            for path in [p for p, n in numbers.items() if n not in kept]:
                with writing(path):
                    path.unlink()


def _judge(run: TrainingSetup, folder: Path, name: str) -> tuple[str, ...]:
    """Pass the final files through the gate."""
    dtype = DTYPES[run.options.save_precision]
    idle = run.family.idle(run.parts, run.options.clip_skip)
    kohya, diffusers = folder / f"{name}.safetensors", folder / f"{name}.diffusers.safetensors"
    if run.options.lora_format == "diffusers":
        tensors = lora.kohya_tensors(run.lora, dtype)
        verdict = lora_check.check_tensors(
            tensors, run.lora, name=diffusers.name, idle=idle, dtype=dtype
        )
    else:
        verdict = lora_check.check(kohya, run.lora, idle=idle, dtype=dtype)
        roundtrip.check(kohya, run, dtype)
    if run.options.lora_format != "kohya":
        roundtrip.check(diffusers, run, dtype)
    return verdict.remarks


def run_facts(run: TrainingSetup, name: str) -> metadata.RunFacts:
    """Return what the LoRA's metadata tells of the run."""
    published = run.family.published("v_prediction" if run.prediction == "v" else "epsilon")
    options, plan = run.options, run.plan
    buckets: Counter[Size] = Counter()
    for image, n in zip(plan.images, plan.samples, strict=True):
        buckets[image.bucket.bucket] += n
    return metadata.RunFacts(
        options=_told(options, run),
        output_name=name,
        optimizer=build_optimizer.described(options.optimizer_type, options.optimizer_args),
        resolution=options.bucket_rules().resolution,
        started_at=metadata.now(),
        num_train_images=plan.count(is_reg=False),
        num_reg_images=plan.count(is_reg=True),
        num_validation_images=len(plan.held_out),
        num_batches_per_epoch=plan.totals.batches,
        num_epochs=plan.epochs,
        max_train_steps=plan.steps,
        lr_warmup_steps=build_scheduler.warmup_steps(options.lr_warmup_steps, plan.steps),
        batch_size=options.train_batch_size,
        processes=plan.batch_settings.processes,
        subsets=[
            metadata.SubsetFacts(
                str(s.folder),
                s.repeats,
                len(own := [p for p in plan.images if p.subset == s]),
                s.is_reg,
                tuple(p.caption.replace("\n", ", ") for p in own),
            )
            for s in plan.subsets
        ],
        buckets={size: n for size, n in buckets.items() if n},
        mean_ar_error=plan.mean_ar_error,
        base_model=_base(run.parts.source, options.pretrained_model_name_or_path),
        vae=_base(Path(options.vae), options.vae) if options.vae else None,
        base_model_version=published.base_model_version,
        architecture=published.architecture,
        implementation=published.implementation,
        v2=published.v2,
        prediction=run.prediction,
        timesteps=(options.min_timestep, options.max_timestep),
        network_args={
            pair.partition("=")[0].strip(): pair.partition("=")[2].strip()
            for pair in options.network_args
        },
    )


def _told(options: TrainOptions, run: TrainingSetup) -> dict[str, object]:
    """Return the options as sd-scripts writes them: two rates are a list, and what a family has not
    is not given.
    """
    told: dict[str, object] = asdict(options)
    if isinstance(options.text_encoder_lr, tuple):
        told["text_encoder_lr"] = list(options.text_encoder_lr)
    if options.lr_scheduler_type:
        told["lr_scheduler"] = options.lr_scheduler_type
    return told if run.family.CLIP_SKIP else {**told, "clip_skip": None}


def _base(source: Path, said: str) -> metadata.BaseFacts:
    if not source.is_file():
        return metadata.BaseFacts(said)
    return metadata.BaseFacts(said, *checkpoint_hashes(source))
