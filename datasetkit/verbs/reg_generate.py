"""`dsk reg generate`: generate a regularisation set with a base model, from the class or from the
training captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasetkit import __version__
from datasetkit.captions.caption import file_text, parse
from datasetkit.core.errors import ConfigError, DatasetError, PlanConflict
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    display,
    nearest_folder,
    read_existing,
    read_regular,
    reading,
    refuse_links,
    require_writable,
    sweep,
    write_atomic,
)
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import reg_prompts
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.buckets import Size, select
from datasetkit.dataset.layout import REG, TRAIN, Concept
from datasetkit.dataset.reg_prompts import RegImage, RegRecord, RegSettings
from datasetkit.images import pixels
from datasetkit.images.parameters import TEXT_KEY
from datasetkit.images.scan import scan
from datasetkit.options.reg import RegGenerateOptions, RegOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import TrainOptions
from datasetkit.project.journal import OpenEntry
from datasetkit.project.kept_edits import kept_edit
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
)
from datasetkit.project.store import Output
from datasetkit.verbs.shared import base_model
from datasetkit.verbs.shared.laid_out import class_triggers, existing_sets
from datasetkit.verbs.shared.recovery import recover_dataset

RECORD_SUFFIX = ".json"
_SUFFIX = ".png"
_LARGEST_RECORD = 100_000


@dataclass(frozen=True, slots=True)
class RegGenerateResult:
    """What reg generate did, or would do.

    generated: new images; kept: how many existed; count: both.
    sizes: of the requested images; prompts: the first different ones; train_samples: that they are
    matched to, 0 without a training set; used: how many an epoch uses. entry: in the history.
    failed: captions that somebody else wrote, which are kept.
    """

    folder: Path
    base: str
    count: int
    repeats: int
    train_samples: int
    used: int
    generated: tuple[Path, ...]
    kept: int
    sizes: Mapping[Size, int]
    prompts: tuple[str, ...]
    entry: int | None
    failed: tuple[Failed, ...] = ()


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    """The training set of a regularisation set. samples: per epoch; records: of its images."""

    samples: int
    records: tuple[ImageRecord, ...]


def generate_reg(
    folder: Path, options: RegGenerateOptions, context: RunContext = DEFAULT_CONTEXT
) -> RegGenerateResult:
    """Generate `out/reg/<repeats>_<class>`: images, captions, and a record of each image.

    folder: a dataset (with `train/`, now or later), or the folder of a dsk.toml. A second run
    generates the missing images. Raises ConfigError without a class or a base model, DatasetError
    without captions for prompts, PlanConflict if the folder has other files, or images of other
    settings, Locked while another run uses the GPU.
    """
    config = find(folder)
    name = options.class_name or config.build(RegOptions, "reg", only_read=True).class_name
    train = base_model.train_options(config, "reg-generate", options.base)
    _require(name, train)
    out = _out(folder, config)
    recover_dataset(out, context)
    if options.from_captions:
        _require_training_set(out)
    if not context.dry_run:
        require_writable(nearest_folder(out))
        base_model.require(train)
    with open_project(out, context, create_folder=True) as project:
        training = _training(grammar.dataset_roots(out)[0], project)
        images = _images(name, options, config, train, training)
        existing = _existing_folder(out / REG, name)
        _refuse_other_files(existing)
        count = len({image.stem for image in images} | _stems(existing))
        repeats = options.repeats or arithmetic.balance_reg(training.samples, count)
        target = out / REG / grammar.folder_name(Concept(repeats, name))
        refuse_links(target, out)
        missing = [image for image in images if not _is_finished(existing, image)]
        settings = _settings(name, options, train)
        if missing:
            _refuse_other_settings(existing, settings)
        generated = tuple(target / f"{image.stem}{_SUFFIX}" for image in missing)
        entry = None
        failed: tuple[Failed, ...] = ()
        if not context.dry_run:
            if missing:
                generated, failed, entry = _generate(
                    missing, existing, target, settings, train, project
                )
            elif existing != target:
                _rename(existing, target, project)
    return RegGenerateResult(
        folder=target,
        base=train.pretrained_model_name_or_path,
        count=count,
        repeats=repeats,
        train_samples=training.samples,
        used=_used(count, repeats, training),
        generated=generated,
        kept=count - len(missing),
        sizes=Counter(image.size for image in images),
        prompts=tuple(dict.fromkeys(image.prompt for image in images))[:3],
        entry=entry,
        failed=failed,
    )


def _used(count: int, repeats: int, training: _TrainingSet) -> int:
    """Return how many of `count` images an epoch uses; all without a training set."""
    if not training.samples:
        return count
    images = [(n, repeats) for n in range(count)]
    return len(arithmetic.reg_samples(training.samples, images).samples)


def _generate(
    missing: Sequence[RegImage],
    existing: Path | None,
    target: Path,
    settings: RegSettings,
    train: TrainOptions,
    project: Project,
) -> tuple[tuple[Path, ...], tuple[Failed, ...], int | None]:
    """Load the base model and generate the missing images. Return them, the captions that were
    kept, and the history entry.
    """
    with base_model.gpu(project.context):
        loaded = base_model.load(train, project.context.reporter)
        settings = replace(settings, model=base_model.name_of(loaded), hash=loaded.hash)
        _refuse_other_settings(existing, settings)
        _rename(existing, target, project)
        title = f"{display(target.name)}: {len(missing)} generated by {display(settings.model)}"
        with project.journal.recording("reg generate", title) as recording:
            generated, kept = _generate_images(
                loaded, missing, target, settings, project, recording
            )
            return generated, kept, recording.entry


def _require(name: str, train: TrainOptions) -> None:
    """Raise ConfigError unless there are a class that is a valid folder name and a base model."""
    if not name:
        raise ConfigError(
            "reg generate needs a class", hint="--class 1girl, or class_name in [reg]"
        )
    grammar.folder_name(Concept(1, name))
    if not train.pretrained_model_name_or_path:
        raise ConfigError(
            "reg generate needs a base model",
            hint="--base MODEL, or pretrained_model_name_or_path in [train]; `tiny` ships with the "
            "package",
        )


def _require_training_set(out: Path) -> None:
    if not existing_sets(grammar.dataset_roots(out)[0]):
        raise DatasetError(
            f"{display(out / TRAIN)} has no training folders", hint="run dsk layout first"
        )


def _out(folder: Path, config: Config) -> Path:
    """Return the folder of the dataset."""
    from trainer.config import data_folder

    out = data_folder(folder, config)
    config.require_inside(out, f"[layout] out = {out}", "name the dataset: dsk reg generate")
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{display(out)} is not a folder", hint="name the folder of the dataset")
    return out


def _training(root: Path, project: Project) -> _TrainingSet:
    samples = 0
    records: list[ImageRecord] = []
    for concept in existing_sets(root):
        scanned = scan(concept.folder, project.store, reporter=project.context.reporter).records
        samples += len(scanned) * (concept.repeats or 1)
        records += scanned
    return _TrainingSet(samples, tuple(records))


def _images(
    name: str,
    options: RegGenerateOptions,
    config: Config,
    train: TrainOptions,
    training: _TrainingSet,
) -> tuple[RegImage, ...]:
    """Return the images to generate: by default in the buckets of the training images."""
    rules = train.bucket_rules()
    sizes = [select(rules, record.width, record.height).bucket for record in training.records]
    if options.size is not None:
        sizes = [options.size]
    prompts = [name]
    if options.from_captions:
        prompts = _prompts(
            training.records, name, class_triggers(options.trigger, config, training.records)
        )
    return reg_prompts.images_to_generate(
        name, options.count, prompts, sizes or [rules.resolution], options.seed
    )


def _prompts(records: Sequence[ImageRecord], name: str, triggers: tuple[str, ...]) -> list[str]:
    """Return the training captions with the class instead of the triggers."""
    captions = [record.caption or Caption(()) for record in records]
    if all(caption.is_empty for caption in captions):
        raise DatasetError(
            "the training folders have no captions for prompts",
            hint="run dsk tag, then dsk layout",
        )
    return [reg_prompts.as_prompt(reg_prompts.reclassed(c, triggers, name)) for c in captions]


def _existing_folder(root: Path, name: str) -> Path | None:
    """Return the folder of the class in the regularisation set, with any repeats; None if there is
    none.
    """
    folders = (
        [f.path for f in grammar.read_tree(root).concepts if f.concept.name == name]
        if root.is_dir()
        else []
    )
    if len(folders) > 1:
        names = ", ".join(display(path.name) for path in folders)
        raise PlanConflict(
            f"{display(root)} has several folders for the class: {names}", hint="keep one of them"
        )
    return folders[0] if folders else None


def _refuse_other_files(folder: Path | None) -> None:
    """Raise PlanConflict if the folder has files that were not generated for it."""
    if folder is None:
        return
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    generated = {
        Path(name).stem
        for name in names
        if name.endswith(RECORD_SUFFIX) and _read_record(folder / name) is not None
    }
    others = [n for n in names if Path(n).stem not in generated or not _is_output_name(n)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise PlanConflict(
            f"{display(folder)} has other files: {', '.join(map(display, others[:3]))}{more}",
            hint="move them away, or give the class another name",
        )


def _stems(folder: Path | None) -> set[str]:
    """Return the stems of the existing images, also beyond the count: they are trained too."""
    return set() if folder is None else {path.stem for path in folder.glob(f"*{_SUFFIX}")}


def _is_output_name(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or suffix in (CAPTION_SUFFIX, RECORD_SUFFIX)


def _read_record(path: Path) -> Mapping[str, Any] | None:
    """Read a record; None for any other file."""
    data = read_regular(path, limit=_LARGEST_RECORD)
    return None if data is None else reg_prompts.parse(data.decode("utf-8", "replace"))


def _is_finished(folder: Path | None, image: RegImage) -> bool:
    """Tell whether an image exists, with a record of the same index and seed."""
    if folder is None or not (folder / f"{image.stem}{_SUFFIX}").is_file():
        return False
    record = _read_record(folder / f"{image.stem}{RECORD_SUFFIX}")
    expected = (image.index, image.seed)
    return record is not None and (record.get("index"), record.get("seed")) == expected


def _refuse_other_settings(folder: Path | None, settings: RegSettings) -> None:
    """Raise PlanConflict if existing images were generated with other settings."""
    for path in sorted(folder.glob(f"*{RECORD_SUFFIX}")) if folder is not None else ():
        record = _read_record(path)
        if record is not None and (difference := reg_prompts.difference(record, settings)):
            raise PlanConflict(
                f"{display(path.parent)} was generated with other settings: {difference}",
                hint="use the old setting, or remove the set first: dsk undo, or delete the folder",
            )


def _rename(existing: Path | None, target: Path, project: Project) -> None:
    """Rename the folder of an earlier run to the repeats that balance the set now."""
    if existing is not None and existing != target:
        project.apply(
            Plan((Move(existing, target),)),
            "reg generate",
            f"{display(existing.name)} -> {display(target.name)}",
        )


def _settings(name: str, options: RegGenerateOptions, train: TrainOptions) -> RegSettings:
    """Return the settings that all images share; model and hash are "" before it is loaded."""
    return RegSettings(
        name, "", "", options.from_captions, options.negative, options.steps, options.cfg,
        options.sampler, options.seed, train.clip_skip,
    )  # fmt: skip


def _generate_images(
    loaded: Any,
    missing: Sequence[RegImage],
    folder: Path,
    settings: RegSettings,
    project: Project,
    recording: OpenEntry,
) -> tuple[tuple[Path, ...], tuple[Failed, ...]]:
    """Generate images one by one; each is complete on disk, with caption and record, before the
    next one starts. Return them, and the captions that somebody else wrote, which are kept.
    """
    from trainer.monitor.prompts import Prompt

    recording.make_folder(folder)
    require_writable(folder)
    sweep(folder)
    written: list[Path] = []
    kept: list[Failed] = []
    reporter = project.context.reporter
    reporter.start("generating", len(missing))
    try:
        for request in missing:
            width, height = request.size
            image = loaded.generate(
                Prompt(
                    text=request.prompt,
                    negative=settings.negative,
                    width=width,
                    height=height,
                    seed=request.seed,
                    guidance=settings.cfg,
                    steps=settings.steps,
                    sampler=settings.sampler,
                )
            )
            record = RegRecord(request, settings, f"datasetkit {__version__}")
            path = folder / f"{request.stem}{_SUFFIX}"
            # The record comes first, as it marks the other files as generated; the image last: if
            # it exists, all do.
            contents = {
                path.with_suffix(RECORD_SUFFIX): record.text().encode("utf-8"),
                path.with_suffix(CAPTION_SUFFIX): file_text(parse(request.prompt)).encode("utf-8"),
                path: pixels.encode(image, "PNG", text={TEXT_KEY: record.parameters()}),
            }
            caption = path.with_suffix(CAPTION_SUFFIX)
            if read_existing(caption) not in (None, contents[caption]):
                kept.append(kept_edit(caption))
                del contents[caption]
            outputs = [Output(file, settings.hash, "reg-generate-1", path) for file in contents]
            project.store.put_pending(outputs)
            for file, data in contents.items():
                write_atomic(file, data)
            for output in outputs:
                recording.record(output)
            written.append(path)
            reporter.advance()
    finally:
        reporter.finish()
    return tuple(written), tuple(kept)
