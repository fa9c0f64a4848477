"""`dsk reg`: lay out a regularisation set, balanced against the training folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.core.files import display
from datasetkit.core.packed import PackedList
from datasetkit.core.path_list import EVERY_PATH
from datasetkit.core.records import Failed, ImageRecord, LeftOut
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset.advice import advice
from datasetkit.dataset.layout import REG, TRAIN, Concept, LayoutFolder, LayoutImage
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.reg_prompts import reclassed
from datasetkit.dataset.repeats import ConceptImages
from datasetkit.images.scan import require_folder, scan, sizes
from datasetkit.options.dataset import PlanRepeatsOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.toml import Config, find
from datasetkit.project.plans import Plan
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
)
from datasetkit.verbs.shared.concept_folders import ConceptSet
from datasetkit.verbs.shared.concept_images import (
    batch_settings,
    measure,
    no_usable_image,
    train_options,
)
from datasetkit.verbs.shared.laid_out import (
    ImageStorage,
    class_triggers,
    existing_sets,
    image_storage,
    lay_out,
    linkable,
)
from datasetkit.verbs.shared.recovery import recover_dataset


@dataclass(frozen=True, slots=True)
class RegResult:
    """What reg did, or would do. used: images of an epoch; train_samples: that they are matched
    to.
    """

    folder: Path
    images: int
    repeats: int
    train_samples: int
    used: int
    advice: tuple[str, ...]
    changes: Plan
    storage: ImageStorage
    failed: tuple[Failed, ...]
    entry: int | None
    unused_files: tuple[LeftOut, ...] = ()


def reg(options: RegOptions, context: RunContext = DEFAULT_CONTEXT) -> RegResult:
    """Make `out/reg/<repeats>_<class>` from a folder of class images, balanced against `out/train`.

    Raises ConfigError without a class, DatasetError without images or without a training set.
    """
    config = find(Path())
    require_class(options)
    folder = require_folder(Path(options.folder))
    out = Path(options.out)
    require_names(out)
    for path in (folder, out):
        recover_dataset(path, context)
    train_sets = existing_sets(grammar.dataset_roots(out)[0])
    if not train_sets:
        raise DatasetError(
            f"{display(out / TRAIN)} has no training folders", hint="run dsk layout first"
        )
    with open_project(out, context, create_folder=True) as project:
        measured = measure(train_sets, project.store, context.reporter)
        train = measured.concepts
        if not train:
            raise no_usable_image(out / TRAIN, measured.failed)
        derives = options.captions == "derive"
        scanned = scan(
            folder, project.store,
            captions=derives, unique_on="any disk", reporter=context.reporter,
        )  # fmt: skip
        if not scanned.records:
            raise no_usable_image(folder, scanned.failed)
        samples = sum(c.images * (c.repeats or 1) for c in train)
        repeats = options.repeats or arithmetic.balance_reg(samples, len(scanned.records))
        target = out / REG / grammar.folder_name(Concept(repeats, options.class_name))
        texts: dict[Path, str] = {}
        if derives:
            texts = _derived_captions(scanned.records, train_sets, project, options, config)
        made = linkable(scanned.paths, project)
        links = EVERY_PATH if options.link else made
        sources = PackedList(LayoutImage(p, texts.get(p), link=p in links) for p in scanned.paths)
        entry, changes, kept, edited = lay_out(
            project, out / REG, [LayoutFolder(target, sources)], verb="reg"
        )
    for line in edited.warnings:
        context.reporter.warn(line)
    training = train_options(config, None)
    plan = arithmetic.plan(
        train,
        rules=training.all_bucket_rules(),
        batch_settings=batch_settings(PlanRepeatsOptions(), training),
        reg=[ConceptImages(options.class_name, sizes(scanned.records), repeats=repeats)],
    )
    return RegResult(
        folder=target,
        images=len(scanned.records),
        repeats=repeats,
        train_samples=samples,
        used=len(scanned.records) - (plan.reg.unused if plan.reg else 0),
        advice=tuple(line for line in advice(plan) if "regularisation" in line),
        changes=changes,
        storage=image_storage(changes, made),
        failed=(*scanned.failed, *kept),
        entry=entry,
        unused_files=scanned.left_out,
    )


def require_class(options: RegOptions) -> None:
    """Raise ConfigError unless there are a folder, and a class that is a valid folder name."""
    if not options.folder or not options.class_name:
        raise ConfigError(
            "reg needs a folder and a class",
            hint="dsk reg DIR --class 1girl, or folder and class_name in [reg]",
        )
    grammar.folder_name(Concept(options.repeats or 1, options.class_name))


def _derived_captions(
    records: Sequence[ImageRecord],
    train: Sequence[ConceptSet],
    project: Project,
    options: RegOptions,
    config: Config,
) -> dict[Path, str]:
    """Return the caption texts: of the image's caption, else of the training captions in turn, with
    the class instead of the trigger.
    """
    reporter = project.context.reporter
    scans = [scan(concept.folder, project.store, reporter=reporter) for concept in train]
    training = [record for scanned in scans for record in scanned.records]
    triggers = class_triggers(options.trigger, config, training)
    captions = [r.caption for r in training if r.caption and not r.caption.is_empty]
    texts: dict[Path, str] = {}
    for n, record in enumerate(records):
        caption = record.caption if record.caption and not record.caption.is_empty else None
        if caption is None:
            if not captions:
                raise DatasetError(
                    "the training folders have no captions to derive from",
                    hint="run dsk tag, then dsk layout",
                )
            caption = captions[n % len(captions)]
        texts[record.path] = file_text(reclassed(caption, triggers, options.class_name))
    return texts
