"""`dsk export` and `dsk import`: datasets in other tools' formats, and their side-cars as
captions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import normal_form
from datasetkit.core.files import MASKS, display, find_root, mask_path
from datasetkit.core.records import Caption, Failed, ImageRecord
from datasetkit.dataset import exports
from datasetkit.dataset.exports import DatasetExport, DatasetSettings, ExportSubset, ImageText
from datasetkit.images.scan import scan
from datasetkit.options.dataset import ExportOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import OURS, TrainOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSets, find_sets, home
from datasetkit.verbs.shared.concept_images import no_usable_image

# Options that the dataset's file holds.
_NOT_IN_CONFIG = frozenset(
    "resolution enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso "
    "bucket_reso_steps shuffle_caption "
    "keep_tokens flip_aug train_batch_size".split()
)
# Where 0 is off and so is an option that is not there. sd-scripts divides by the first two: 0 would
# stop it.
_OFF_AT_ZERO = frozenset(
    "save_every_n_epochs save_every_n_steps noise_offset adaptive_noise_scale "
    "multires_noise_iterations ip_noise_gamma "
    "caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate "
    "network_dropout min_snr_gamma "
    "scale_weight_norms min_timestep lr_warmup_steps sample_every_n_epochs "
    "sample_every_n_steps".split()
)
# What sd-scripts does too where nothing is said.
_AS_THERE: Mapping[str, object] = {
    "loss_type": "l2",
    "huber_schedule": "snr",
    "huber_c": 0.1,
    "huber_scale": 1.0,
    "token_warmup_min": 1,
    "token_warmup_step": 0,
    "lr_decay_steps": 0,
}
# What says nothing without another option.
_PART_OF = {
    "multires_noise_discount": "multires_noise_iterations",
    "sample_sampler": "sample_prompts",
}


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
    options = {
        k: v
        for k, v in asdict(train).items()
        if k not in _NOT_IN_CONFIG | OURS and _says_something(k, v, train)
    }
    if with_state:
        options["save_state"] = True
    return {
        out / "dataset.toml": exports.kohya_dataset_toml(DatasetExport(general, subsets)),
        out / "config.toml": exports.kohya_config_toml(options | {"save_model_as": "safetensors"}),
    }


def _says_something(name: str, value: object, train: TrainOptions) -> bool:
    """Tell whether an option is written: not where sd-scripts does the same without it."""
    if (
        name == "save_state" or value in (None, "", ()) or value is False
    ):  # what is False is so there by default
        return False
    if name == "max_train_epochs":  # there they stand above the steps, here below
        return train.max_train_steps is None
    if name in _AS_THERE and value == _AS_THERE[name]:
        return False
    if name in _PART_OF:
        return bool(getattr(train, _PART_OF[name]))
    return not (name in _OFF_AT_ZERO and value == 0)


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
