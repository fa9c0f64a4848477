"""`dsk reg`: a regularisation set beside the training folders, and its balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.core.files import display
from datasetkit.core.records import Failed
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.advice import advice
from datasetkit.dataset.layout import REG, TRAIN, Concept, LayoutFolder, LayoutImage
from datasetkit.dataset.reg_prompts import reclassed
from datasetkit.dataset.repeats import ConceptImages
from datasetkit.images.scan import require_folder, scan, sizes
from datasetkit.options.dataset import PlanRepeatsOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import TrainOptions
from datasetkit.project.plans import Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.verbs.shared.concept_folders import ConceptSet
from datasetkit.verbs.shared.concept_images import batch_settings, measure, no_usable_image
from datasetkit.verbs.shared.laid_out import existing_sets, lay_out


@dataclass(frozen=True, slots=True)
class RegResult:
    """What reg did, or would do. used: images that an epoch takes; train_samples: what they are
    matched to.
    """

    folder: Path
    images: int
    repeats: int
    train_samples: int
    used: int
    advice: tuple[str, ...]
    changes: Plan
    failed: tuple[Failed, ...]
    entry: int | None


def reg(options: RegOptions, context: RunContext = DEFAULT_CONTEXT) -> RegResult:
    """Make `out/reg/<repeats>_<class>` from a folder of class images, balanced against
    `out/train`.

    Raises ConfigError without a class, DatasetError without images or without a training set to
    balance against.
    """
    config = find(Path())
    require_class(options)
    folder = require_folder(Path(options.folder))
    out = Path(options.out)
    for place in (folder, out):
        finish_interrupted(place, context)
    train_sets = existing_sets(out / TRAIN)
    if not train_sets:
        raise DatasetError(
            f"{display(out / TRAIN)} holds no training folders", hint="dsk layout first"
        )
    with open_project(out, context) as project:
        train, train_failed = measure(train_sets, project.store)
        samples = sum(c.images * (c.repeats or 1) for c in train)
        found = scan(folder, project.store, captions=options.captions == "derive")
        if not train or not found.records:
            raise no_usable_image(
                folder if train else out / TRAIN, found.failed if train else train_failed
            )
        repeats = options.repeats or arithmetic.balance_reg(samples, len(found.records))
        target = out / REG / grammar.folder_name(Concept(repeats, options.class_name))
        texts = (
            _derived(found.records, train_sets, project, options, config)
            if options.captions == "derive"
            else {}
        )
        sources = tuple(LayoutImage(r.path, texts.get(r.path)) for r in found.records)
        entry, changes = lay_out(project, out / REG, [LayoutFolder(target, sources)], verb="reg")
    train_plan = arithmetic.plan(
        train,
        rules=config.build(TrainOptions, "train").bucket_rules(),
        batch_settings=batch_settings(PlanRepeatsOptions(), config.build(TrainOptions, "train")),
        reg=[ConceptImages(options.class_name, sizes(found.records), repeats=repeats)],
    )
    used = len(found.records) - (train_plan.reg.unused if train_plan.reg else 0)
    words = tuple(line for line in advice(train_plan) if "regularisation" in line)
    return RegResult(
        target, len(found.records), repeats, samples, used, words, changes, found.failed, entry
    )


def require_class(options: RegOptions) -> None:
    """Raise ConfigError unless the options name a folder and a class that a folder can be named
    after.
    """
    if not options.folder or not options.class_name:
        raise ConfigError(
            "reg needs a folder and a class",
            hint="dsk reg DIR --class 1girl, or folder and class_name in [reg]",
        )
    grammar.folder_name(Concept(options.repeats or 1, options.class_name))


def _derived(
    records: Sequence[object],
    train: Sequence[ConceptSet],
    project: Project,
    options: RegOptions,
    config: Config,
) -> dict[Path, str]:
    """Return captions for the images: their own, else the training captions in turn, with trigger
    -> class.
    """
    from datasetkit.core.records import ImageRecord

    triggers = options.trigger or config.build(TagOptions, "tag").trigger
    triggers = triggers or tuple(t for c in config.concepts for t in c.trigger)
    if not triggers:
        raise ConfigError(
            "no trigger to replace by the class", hint="--trigger NAME, or trigger in dsk.toml"
        )
    captions = [
        r.caption
        for c in train
        for r in scan(c.folder, project.store).records
        if r.caption and r.caption.tags
    ]
    texts: dict[Path, str] = {}
    for n, record in enumerate(r for r in records if isinstance(r, ImageRecord)):
        own = record.caption if record.caption is not None and record.caption.tags else None
        if own is None and not captions:
            raise DatasetError(
                "the training folders have no captions to derive from",
                hint="dsk tag, then dsk layout",
            )
        caption = own or captions[n % len(captions)]
        texts[record.path] = file_text(reclassed(caption, triggers, options.class_name))
    return texts
