"""`dsk reg generate`: a regularisation set that a base model draws, from the class or from the
training captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasetkit import __version__
from datasetkit.captions.caption import file_text, parse
from datasetkit.core.errors import ConfigError, DatasetError, MissingExtra, PlanConflict
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    display,
    nearest_folder,
    read_regular,
    reading,
    refuse_links,
    require_writable,
    sweep,
    write_atomic,
)
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import reg_prompts
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.buckets import Size, select
from datasetkit.dataset.layout import REG, TRAIN, Concept
from datasetkit.dataset.reg_prompts import RegImage, RegRecord, RegSettings
from datasetkit.images import pixels
from datasetkit.images.scan import scan
from datasetkit.options.reg import RegGenerateOptions, RegOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import TrainOptions
from datasetkit.project.journal import OpenEntry
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.project.store import Output, Store
from datasetkit.verbs.shared.laid_out import existing_sets

RECORD_SUFFIX = ".json"
_SUFFIX = ".png"
_LARGEST_RECORD = 100_000


@dataclass(frozen=True, slots=True)
class RegGenerateResult:
    """What reg generate did, or would do. drawn: now; kept: those that were there already.

    count: both together; sizes: of those that were asked for; prompts: the first few different
    ones; train_samples: what they are matched to, 0 without a training set; used: how many an epoch
    takes. entry: the images' number in the history.
    """

    folder: Path
    base: str
    count: int
    repeats: int
    train_samples: int
    used: int
    drawn: tuple[Path, ...]
    kept: int
    sizes: Mapping[Size, int]
    prompts: tuple[str, ...]
    entry: int | None


@dataclass(frozen=True, slots=True)
class _TrainingSet:
    """The training set that a regularisation set is for. samples: of an epoch; records: one image
    each.
    """

    samples: int
    records: tuple[ImageRecord, ...]


def generate_reg(
    folder: Path, options: RegGenerateOptions, context: RunContext = DEFAULT_CONTEXT
) -> RegGenerateResult:
    """Draw `out/reg/<repeats>_<class>` with the base model: images, captions, and a record of
    where each is from.

    folder: a dataset (train/ lies in it, or will), or the folder of a dsk.toml. A second run draws
    what is missing. Raises ConfigError without a class or a base model, DatasetError without
    captions to draw from, PlanConflict where the set's folder holds other things, or images of
    other settings.
    """
    config = find(folder)
    name = options.class_name or config.build(RegOptions, "reg").class_name
    train = _train_options(options, config)
    _require(name, train)
    out = _out(folder, config)
    if options.from_captions and not existing_sets(out / TRAIN):
        raise DatasetError(
            f"{display(out / TRAIN)} holds no training folders", hint="dsk layout first"
        )
    finish_interrupted(out, context)
    if not context.dry_run:
        require_writable(nearest_folder(out))
        _require_model(train)
    with open_project(out, context) as project:
        training = _training(out / TRAIN, project.store)
        images = _images(name, options, config, train, training)
        there = _existing(out / REG, name)
        _refuse_others(there)
        count = len({one.stem for one in images} | _stems(there))
        repeats = options.repeats or (
            arithmetic.balance_reg(training.samples, count) if training.samples else 1
        )
        target = out / REG / grammar.folder_name(Concept(repeats, name))
        refuse_links(target, out)
        missing = [one for one in images if not _is_finished(there, one)]
        drawn: tuple[Path, ...] = ()
        entry = None
        if missing:
            _refuse_other_settings(there, _settings(name, options, train))
        if not context.dry_run and (missing or there != target):
            artist = _artist(train, project) if missing else None
            settings = _settings(name, options, train, artist)
            _refuse_other_settings(there, settings)
            _rename(there, target, project)
            if artist is not None:
                title = (
                    f"{display(target.name)}: {len(missing)} drawn by "
                    f"{display(_model_name(artist))}"
                )
                with project.journal.recording("reg generate", title) as recording:
                    drawn = _draw(artist, missing, target, settings, project, recording)
                    entry = recording.entry
    reg = [(n, repeats) for n in range(count)]
    used = len(arithmetic.reg_samples(training.samples, reg).samples) if training.samples else count
    return RegGenerateResult(
        target, train.pretrained_model_name_or_path, count, repeats, training.samples, used,
        drawn if not context.dry_run else tuple(target / f"{one.stem}{_SUFFIX}" for one in missing),
        count - len(missing), Counter(one.size for one in images),
        tuple(dict.fromkeys(one.prompt for one in images))[:3], entry,
    )  # fmt: skip


def _train_options(options: RegGenerateOptions, config: Config) -> TrainOptions:
    """Return `[train]`, with the base that the command names; another base is not of its revision,
    nor has its VAE.
    """
    from trainer.config import of_project
    from trainer.tinybase import shipped

    base, root = options.base, config.root
    # A path of the dsk.toml is seen from its folder.
    if (
        root is not None
        and base
        and base == config.table("reg-generate").get("base")
        and base != shipped.NAME
    ):
        base = str(root / base) if (root / base).exists() else base
    return of_project(
        config, {"pretrained_model_name_or_path": base, "revision": "", "vae": ""} if base else {}
    )


def _require(name: str, train: TrainOptions) -> None:
    """Raise ConfigError unless there is a class that a folder can be named after, and a
    base model.
    """
    if not name:
        raise ConfigError(
            "reg generate needs a class", hint="--class 1girl, or class_name in [reg]"
        )
    grammar.folder_name(Concept(1, name))
    if not train.pretrained_model_name_or_path:
        raise ConfigError(
            "reg generate needs a base model that draws",
            hint="--base MODEL, or pretrained_model_name_or_path in [train]; `tiny` is part of "
            "the package",
        )


def _require_model(train: TrainOptions) -> None:
    """Raise what is wrong with the base model's files before anything is begun."""
    from trainer.families.detect import detect
    from trainer.families.source import find as find_model

    detect(find_model(train.pretrained_model_name_or_path, train.revision))


def _out(folder: Path, config: Config) -> Path:
    """Return the dataset's folder."""
    from trainer.config import data_folder

    out = data_folder(folder, config)
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{display(out)} is not a folder", hint="name the folder of the dataset")
    return out


def _training(root: Path, store: Store) -> _TrainingSet:
    samples = 0
    records: list[ImageRecord] = []
    for concept in existing_sets(root):
        found = scan(concept.folder, store).records
        samples += len(found) * (concept.repeats or 1)
        records += found
    return _TrainingSet(samples, tuple(records))


def _images(
    name: str,
    options: RegGenerateOptions,
    config: Config,
    train: TrainOptions,
    training: _TrainingSet,
) -> tuple[RegImage, ...]:
    rules = train.bucket_rules()
    own = [select(rules, record.width, record.height).bucket for record in training.records] or [
        rules.resolution
    ]
    if options.size is not None:
        own = [options.size]
    if not options.from_captions:
        return reg_prompts.images_to_generate(name, options.count, [name], own, options.seed)
    triggers = options.trigger or config.build(TagOptions, "tag").trigger
    triggers = triggers or tuple(t for concept in config.concepts for t in concept.trigger)
    if not triggers:
        raise ConfigError(
            "no trigger to replace by the class", hint="--trigger NAME, or trigger in dsk.toml"
        )
    captions = [
        r.caption if r.caption is not None and r.caption.tags else None for r in training.records
    ]
    if not any(captions):
        raise DatasetError(
            "the training folders have no captions to draw from", hint="dsk tag, then dsk layout"
        )
    prompts = [
        reg_prompts.reclassed(caption or Caption(()), triggers, name).text() for caption in captions
    ]
    return reg_prompts.images_to_generate(name, options.count, prompts, own, options.seed)


def _existing(root: Path, name: str) -> Path | None:
    """Return the folder that the class has in the regularisation set, with whatever repeats; None
    for none.
    """
    found = (
        [f.path for f in grammar.read_tree(root).concepts if f.concept.name == name]
        if root.is_dir()
        else []
    )
    if len(found) > 1:
        names = ", ".join(display(path.name) for path in found)
        raise PlanConflict(
            f"{display(root)} has several folders of the class: {names}", hint="keep one of them"
        )
    return found[0] if found else None


def _refuse_others(folder: Path | None) -> None:
    """Raise PlanConflict where the set's folder holds what was not drawn for it."""
    if folder is None:
        return
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    ours = {
        Path(name).stem
        for name in names
        if name.endswith(RECORD_SUFFIX) and _told(folder / name) is not None
    }
    others = [name for name in names if Path(name).stem not in ours or not _may_stand(name)]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise PlanConflict(
            f"{display(folder)} holds other things: {', '.join(map(display, others[:3]))}{more}",
            hint="move them away, or give the class another name",
        )


def _stems(folder: Path | None) -> set[str]:
    """Return the names of the images that are there, those beyond the count too: they are trained
    as well.
    """
    return set() if folder is None else {path.stem for path in folder.glob(f"*{_SUFFIX}")}


def _may_stand(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or suffix in (CAPTION_SUFFIX, RECORD_SUFFIX)


def _told(path: Path) -> Mapping[str, Any] | None:
    """Read a record; None for a file that is none."""
    data = read_regular(path, limit=_LARGEST_RECORD)
    return None if data is None else reg_prompts.parse(data.decode("utf-8", "replace"))


def _is_finished(folder: Path | None, one: RegImage) -> bool:
    """Tell whether an image was drawn: it stands there, and its record tells of the same place and
    seed.
    """
    if folder is None or not (folder / f"{one.stem}{_SUFFIX}").is_file():
        return False
    told = _told(folder / f"{one.stem}{RECORD_SUFFIX}")
    return told is not None and (told.get("index"), told.get("seed")) == (one.index, one.seed)


def _refuse_other_settings(folder: Path | None, settings: RegSettings) -> None:
    """Raise PlanConflict where images are there that were drawn in another way."""
    for path in sorted(folder.glob(f"*{RECORD_SUFFIX}")) if folder is not None else ():
        told = _told(path)
        if told is not None and (difference := reg_prompts.difference(told, settings)):
            raise PlanConflict(
                f"{display(path.parent)} was drawn with other settings: {difference}",
                hint="set it back, or take the set away first: dsk undo, or delete the folder",
            )


def _rename(there: Path | None, target: Path, project: Project) -> None:
    """Give the folder of an earlier run the repeats that balance the set now."""
    if there is not None and there != target:
        project.apply(
            Plan((Move(there, target),)),
            "reg generate",
            f"{display(there.name)} -> {display(target.name)}",
        )


def _artist(train: TrainOptions, project: Project) -> Any:
    """Load the base model. Raises MissingExtra, ModelFileError."""
    try:
        from trainer.monitor import image_generator
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"drawing needs the package {error.name}", hint='pip install "datasetkit[train]"'
        ) from error
    return image_generator.hire(train, project.context.reporter)


def _settings(
    name: str, options: RegGenerateOptions, train: TrainOptions, artist: Any = None
) -> RegSettings:
    """Return what all images have in common. artist: None before the base model is loaded."""
    model, known = ("", "") if artist is None else (_model_name(artist), artist.hash)
    return RegSettings(
        name, model, known, options.from_captions, options.negative, options.steps, options.cfg,
        options.sampler, options.seed, train.clip_skip,
    )  # fmt: skip


def _model_name(artist: Any) -> str:
    """Return a base model's name without the folders of this machine."""
    said = artist.options.pretrained_model_name_or_path
    return str(artist.source.name) if Path(said).exists() else str(said)


def _draw(
    artist: Any,
    missing: Sequence[RegImage],
    folder: Path,
    settings: RegSettings,
    project: Project,
    recording: OpenEntry,
) -> tuple[Path, ...]:
    """Draw images one by one; each is whole on the disk, with its caption and record, before the
    next is begun.
    """
    from trainer.monitor.prompts import Prompt

    recording.make_folder(folder)
    require_writable(folder)
    sweep(folder)
    drawn: list[Path] = []
    reporter = project.context.reporter
    reporter.start("drawing", len(missing))
    try:
        for one in missing:
            width, height = one.size
            image = artist.draw(
                Prompt(
                    text=one.prompt,
                    negative=settings.negative,
                    width=width,
                    height=height,
                    seed=one.seed,
                    guidance=settings.cfg,
                    steps=settings.steps,
                    sampler=settings.sampler,
                )
            )
            record = RegRecord(one, settings, f"datasetkit {__version__}")
            path = folder / f"{one.stem}{_SUFFIX}"
            # The record comes first, which says whose the rest is; the image last: where it
            # stands, all does.
            contents = {
                path.with_suffix(RECORD_SUFFIX): record.text().encode("utf-8"),
                path.with_suffix(CAPTION_SUFFIX): file_text(parse(one.prompt)).encode("utf-8"),
                path: pixels.encode(image, "PNG", text={reg_prompts.TEXT_KEY: record.parameters()}),
            }
            outputs = [Output(file, settings.hash, "reg-generate-1", path) for file in contents]
            project.store.put_pending(outputs)
            for file, data in contents.items():
                write_atomic(file, data)
            for output in outputs:
                recording.record(output)
            drawn.append(path)
            reporter.advance()
    finally:
        reporter.finish()
    return tuple(drawn)
