"""`dsk export` and `dsk import`: datasets in other tools' formats, and their side-cars as
captions.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import normal_form
from datasetkit.core.files import MASKS, display, find_root, mask_path
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.dataset import exports
from datasetkit.dataset.exports import DatasetExport, DatasetSettings, ExportSubset, ImageText
from datasetkit.images.scan import scan
from datasetkit.options.dataset import ExportOptions
from datasetkit.options.declare import Option, by_name
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import SAVING, SECTIONS, TrainOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSets, find_sets, home
from datasetkit.verbs.shared.concept_images import no_usable_image

# Options that are written into dataset.toml.
_IN_DATASET_TOML = frozenset({f.name for f in fields(DatasetSettings)} | {"train_batch_size"})


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What export wrote: its files, and how many fixed leading tags the captions have (sd-scripts'
    keep_tokens).

    changed: those of the files that did not hold the same before.
    """

    files: tuple[Path, ...]
    changed: tuple[Path, ...]
    images: int
    keep_tokens: int
    failed: tuple[Failed, ...]
    entry: int | None


def export(
    folder: Path, options: ExportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ExportResult:
    """Write the dataset of a folder in another tool's format; images and captions stay as they
    are.
    """
    config = find(folder)
    sets = find_sets(folder)
    with Store.open_copy(find_root(folder)) as store:
        scans = [
            (c, scan(c.folder, store, recursive=c.recursive)) for c in (*sets.train, *sets.reg)
        ]
    in_train = scans[: len(sets.train)]
    if not any(found.records for _, found in in_train):
        raise no_usable_image(
            folder, [problem for _, found in in_train for problem in found.failed]
        )
    captions = [
        r.caption for _, found in in_train for r in found.records if r.caption and r.caption.tags
    ]
    keep = options.keep_tokens
    if keep is None:
        keep = leading_fixed(captions, _declared(config, sets))
    out = Path(options.out) if options.out else folder
    if options.format == "kohya":
        train = config.build(TrainOptions, "train", {"keep_tokens": keep})
        # sd-scripts leaves one more state on the disk at every save: only who asks for them gets
        # them.
        masked = (
            train.masked_loss
            and not sets.reg
            and all(map(_has_mask, (r for _, f in in_train for r in f.records)))
        )
        if train.masked_loss and not masked:
            context.reporter.warn(
                "masked_loss is not exported: sd-scripts takes masks where every image has "
                "one, and with no reg set"
            )
        files = _kohya(
            sets,
            replace(train, masked_loss=masked),
            out,
            with_state=bool(config.table("train").get("save_state")),
        )
    else:
        items = [
            ImageText(r.path.absolute(), r.caption)
            for _, found in in_train
            for r in found.records
            if r.caption is not None and r.caption.tags
        ]
        if options.format == "imagefolder":
            files = {out / "metadata.jsonl": exports.imagefolder_metadata(items, out.absolute())}
        else:
            files = {out / "meta.json": exports.meta_json(items, out.absolute())}
    with open_project(home(folder, out), context) as project:
        plan = Plan(tuple(WriteText(path, text) for path, text in files.items()))
        changed = project.changed(plan)
        entry = project.apply(plan, "export", f"{options.format} {display(folder.name)}".strip())
    failed = tuple(f for _, found in scans for f in found.failed)
    return ExportResult(
        tuple(files), changed, sum(len(found.records) for _, found in in_train), keep, failed, entry
    )


def _has_mask(record: ImageRecord) -> bool:
    return mask_path(record.path).is_file()


def _kohya(
    sets: ConceptSets, train: TrainOptions, out: Path, *, with_state: bool
) -> dict[Path, str]:
    """Word `dataset.toml` and `config.toml` with the numbers that the plan and the trainer use."""
    rules = train.bucket_rules()
    general = DatasetSettings(
        resolution=train.resolution,
        shuffle_caption=train.shuffle_caption,
        keep_tokens=train.keep_tokens or 0,
        flip_aug=train.flip_aug,
        enable_bucket=train.enable_bucket,
        bucket_reso_steps=rules.step,
        bucket_no_upscale=rules.no_upscale,
        min_bucket_reso=rules.min_reso,
        max_bucket_reso=rules.max_reso,
        batch_size=train.train_batch_size,
    )
    masks = [_below(c.folder / MASKS, out) if train.masked_loss else None for c in sets.train]
    subsets = (
        *(
            # sd-scripts takes folders with masks without class_tokens only.
            ExportSubset(
                _below(c.folder, out),
                c.repeats or 1,
                class_tokens=None if own else c.name,
                conditioning_data_dir=own,
            )
            for c, own in zip(sets.train, masks, strict=True)
        ),
        *(
            ExportSubset(_below(c.folder, out), c.repeats or 1, is_reg=True, class_tokens=c.name)
            for c in sets.reg
        ),
    )
    declared = by_name(TrainOptions)
    options = {
        k: v
        for k, v in asdict(train).items()
        if declared[k].section and k not in _IN_DATASET_TOML and _is_written(k, declared[k], train)
    }
    if with_state:
        options["save_state"] = True
    layout = {s: [name for name, o in declared.items() if o.section == s] for s in SECTIONS}
    layout[SAVING].append("save_model_as")
    options["save_model_as"] = "safetensors"
    return {
        out / "dataset.toml": exports.kohya_dataset_toml(DatasetExport(general, subsets)),
        out / "config.toml": exports.kohya_config_toml(options, layout),
    }


def _is_written(name: str, declared: Option, train: TrainOptions) -> bool:
    """Tell whether an option is written: not where sd-scripts does the same without it."""
    value = getattr(train, name)
    if name == "save_state" or value in (None, "", ()) or value is False:
        return False  # what is False is so there by default
    if name == "max_train_epochs":  # there they stand above the steps, here below
        return train.max_train_steps is None
    if declared.needs and not getattr(train, declared.needs):
        return False
    # sd-scripts divides by some of them: 0 would stop it.
    return declared.off is None or value != declared.off


def _below(folder: Path, out: Path) -> str:
    """Return a folder as seen from the exported file, with slashes: the dataset can be moved as a
    whole.
    """
    return Path(os.path.relpath(folder.absolute(), out.absolute())).as_posix()


def _declared(config: Config, sets: ConceptSets) -> tuple[str, ...]:
    tag = config.build(TagOptions, "tag")
    return (
        *sets.triggers,
        *tag.trigger,
        *tag.additional,
        *(a for c in config.concepts for a in c.additional),
    )


def leading_fixed(captions: list[Caption], declared: tuple[str, ...] = ()) -> int:
    """Return how many tags lead every caption and are fixed: the declared triggers and additional
    tags.

    Where none are declared, they are what all captions have in common from the front (which needs
    two captions to tell), up to the last one that no tagger gives: `sks, 1girl, solo` in all
    captions is one fixed tag, not three.
    """
    if not captions:
        return 0
    forms = {normal_form(tag) for tag in declared}
    shortest = min(len(c.tags) for c in captions)
    first = [normal_form(tag) for tag in captions[0].tags]
    n = 0
    while n < shortest:
        if forms:
            fixed = all(normal_form(c.tags[n]) in forms for c in captions)
        else:
            fixed = len(captions) > 1 and all(normal_form(c.tags[n]) == first[n] for c in captions)
        if not fixed:
            break
        n += 1
    while n and not forms and first[n - 1] in vocabulary.load():
        n -= 1
    return n
