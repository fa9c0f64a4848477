"""`dsk export`: a dataset in the format of another tool."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, display, find_root, mask_path, read_existing
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, ImageRecord, LeftOut
from datasetkit.core.words import counted
from datasetkit.dataset import exports, tool_datasets
from datasetkit.dataset.exports import (
    BlockSettings,
    DatasetExport,
    DatasetSettings,
    ExportSubset,
)
from datasetkit.dataset.keep_tokens import keep_tokens
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.tool_datasets import Tool, ToolConcept, ToolDataset
from datasetkit.options.dataset import ExportOptions
from datasetkit.options.declare import Option, by_name
from datasetkit.options.toml import Config, find
from datasetkit.options.train import SAVING, SECTIONS, TrainOptions
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, Project, RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    ConceptSets,
    find_sets,
    history_folder,
)
from datasetkit.verbs.shared.concept_images import (
    ConceptRecord,
    ConceptRecords,
    image_text,
    no_usable_image,
    scan_all,
)
from datasetkit.verbs.shared.export_shards import WrittenFiles, shards_of, write_shards
from datasetkit.verbs.shared.recovery import recover_dataset
from datasetkit.verbs.shared.triggers import concept_captions

_TextFormat = Literal["kohya", "imagefolder", "meta"] | Tool
# The files of the formats that are written to one folder.
_FILES: dict[str, tuple[str, ...]] = {
    "kohya": ("dataset.toml", "config.toml"),
    "meta": ("meta.json",),
    "webdataset": (),
    **{tool: (name,) for tool, name in tool_datasets.FILES.items()},
}
_METADATA = "metadata.jsonl"
# Words between separators or digits from which the `datasets` library infers a split.
_SPLIT_NAME = re.compile(
    r"(?:^|[-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
    r"(?:[-._ 0-9]|$)",
    re.IGNORECASE,
)
# The options of dataset.toml.
_IN_DATASET_TOML = frozenset({f.name for f in fields(DatasetSettings)} | {"train_batch_size"})


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The files of an export, and how many leading tags are fixed (sd-scripts' keep_tokens).

    changed: the files whose content is new. keep_tokens_lowered_by: the images whose captions lower
    keep_tokens.
    """

    files: tuple[Path, ...]
    changed: tuple[Path, ...]
    images: int
    keep_tokens: int
    failed: tuple[Failed, ...]
    entry: int | None
    keep_tokens_lowered_by: tuple[Path, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()


# Export writes what sd-scripts needs to repeat the training of `dsk train` on the same folders:
#
# 1. dataset.toml has the folders with their repeats, relative to the file, so that the dataset can
#    be moved, and the bucket settings that plan-repeats and the trainer use.
# 2. config.toml has the options of [train], except those of dataset.toml and those whose default
#    in sd-scripts is the same: a short file shows what was chosen. `Option.section`, `off` and
#    `needs` say which (options/declare.py).
# 3. keep_tokens protects the triggers from shuffling (`dataset/keep_tokens.py`); the captions that
#    lower it are named.
def export(
    folder: Path, options: ExportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ExportResult:
    """Write the dataset of a folder in the format of another tool; images and captions are not
    changed.
    """
    recover_dataset(folder, context)
    out = Path(options.out) if options.out else folder
    require_names(out)
    config = find(folder)
    sets = find_sets(folder)
    if options.format == "imagefolder":
        _require_beside_images(sets, out, folder)
    over = {path: read_existing(path) for path in _paths(options.format, sets, out)}
    with Store.open_copy(find_root(folder)) as store:
        train, failed, left_out = scan_all(sets.train, store, context.reporter)
        reg, reg_failed, reg_left_out = scan_all(sets.reg, store, context.reporter)
    if not train:
        raise no_usable_image(folder, failed)
    kept = keep_tokens(
        [concept_captions(c, train.of(c), config) for c in sets.train],
        given=options.keep_tokens,
    )
    for note in (*kept.notes, *misnamed_warnings(misnamed_captions(r.path for _, r in train))):
        context.reporter.warn(note)
    title = f"{options.format} {display(folder.resolve().name)}".strip()
    write: Callable[[Project], WrittenFiles]
    if options.format == "webdataset":
        shards = shards_of(sets, train, reg, out, options.shard_size)
        write = partial(write_shards, shards=shards, out=out, title=title)
    else:
        files = _files(
            options.format, config, sets, (train, reg), kept.value, out, context.reporter
        )
        write = partial(_write_texts, files=files, over=over, title=title)
    with open_project(history_folder(folder, out), context, create_folder=True) as project:
        written = write(project)
    return ExportResult(
        written.files,
        written.changed,
        len(train),
        kept.value,
        (*failed, *reg_failed),
        written.entry,
        kept.lowered_by,
        (*sets.unused_files, *left_out, *reg_left_out),
    )


def _write_texts(
    project: Project, files: Mapping[Path, str], over: dict[Path, bytes | None], title: str
) -> WrittenFiles:
    """Write files with their texts. over: what they held when the texts were decided."""
    over |= {path: read_existing(path) for path in files if path not in over}
    plan = Plan(tuple(WriteText(path, text, over[path]) for path, text in files.items()))
    changed = project.changed(plan)
    return WrittenFiles(tuple(files), changed, project.apply(plan, "export", title))


def _files(
    format: _TextFormat,
    config: Config,
    sets: ConceptSets,
    images: tuple[ConceptRecords, ConceptRecords],
    keep_tokens: int,
    out: Path,
    reporter: Reporter,
) -> dict[Path, str]:
    """Return the files of a format with their texts. images: for training, for regularisation."""
    train, reg = images
    if format == "kohya":
        return _kohya_files(config, sets, train + reg, keep_tokens, out, reporter)
    if format == "imagefolder":
        _warn_of_split_names(train + reg, reporter)
        return _imagefolder_files(sets, train + reg)
    if format == "meta":
        return {out / "meta.json": exports.meta_json(map(image_text, train), out.absolute())}
    _warn_of_tool(format, sets, train + reg, reporter)
    [path] = _paths(format, sets, out)
    return {path: tool_datasets.write(format, _tool_dataset(config, sets, keep_tokens))}


def _paths(format: str, sets: ConceptSets, out: Path) -> list[Path]:
    """Return the files that an export writes."""
    if format == "imagefolder":
        return [root / _METADATA for root in _metadata_folders(sets)]
    return [out / name for name in _FILES[format]]


# The `datasets` library takes `train/` for the name of a split and reads no metadata above it. An
# image without a line is left out by some of its versions and an error in others.
def _imagefolder_files(sets: ConceptSets, images: Sequence[ConceptRecord]) -> dict[Path, str]:
    """Return the `metadata.jsonl` of the training folders, and of the regularisation folders."""
    return {
        root / _METADATA: exports.imagefolder_metadata(
            (
                image_text((concept, record))
                for concept, record in images
                if _metadata_folder(sets, concept) == root
            ),
            root.absolute(),
        )
        for root in _metadata_folders(sets)
    }


def _warn_of_split_names(images: Sequence[ConceptRecord], reporter: Reporter) -> None:
    """Warn of names that the `datasets` library takes for those of splits: it would read such
    images apart, and without their text.
    """
    parts = (part for concept, r in images for part in (concept.folder.name, r.path.name))
    names = dict.fromkeys(part for part in parts if _SPLIT_NAME.search(part))
    if names:
        example = display(next(iter(names)))
        reporter.warn(
            f"{example}: the datasets library takes this name for a split; load the images with "
            'data_files="DIR/train/**"'
        )


def _metadata_folder(sets: ConceptSets, concept: ConceptSet) -> Path:
    return concept.folder.parent if sets.origin == "laid out" else concept.folder


def _metadata_folders(sets: ConceptSets) -> list[Path]:
    return list(dict.fromkeys(_metadata_folder(sets, c) for c in (*sets.train, *sets.reg)))


def _require_beside_images(sets: ConceptSets, out: Path, folder: Path) -> None:
    """Raise ConfigError for another output folder: an imagefolder holds its images."""
    if out.resolve() != folder.resolve():
        names = " and ".join(display(path / _METADATA) for path in _metadata_folders(sets))
        raise ConfigError(
            f"an imagefolder has its metadata beside the images: {names}",
            hint="leave out --out (or out in [export])",
        )


def _kohya_files(
    config: Config,
    sets: ConceptSets,
    images: Sequence[ConceptRecord],
    keep_tokens: int,
    out: Path,
    reporter: Reporter,
) -> dict[Path, str]:
    """Return the text of `dataset.toml` and `config.toml` for sd-scripts, and of the captions that
    it cannot read as they are.
    """
    # Whoever trains with the exported file has named it: it must not hold what was only found.
    config.refuse_imports(
        TrainOptions,
        "train",
        hint="take it out of [train] and write it into the exported config.toml if you trust it",
    )
    train = config.build(TrainOptions, "train", {"keep_tokens": keep_tokens}, only_read=True)
    if train.masked_loss and (
        sets.reg or not all(mask_path(record.path).is_file() for _, record in images)
    ):
        reporter.warn(
            "masked_loss is not exported: sd-scripts supports it only if every image has a mask "
            "and there is no regularisation set"
        )
        train = replace(train, masked_loss=False)
    blocks = _block_settings(train)
    dataset = DatasetExport(_dataset_settings(train), _subsets(sets, train, out), blocks)
    if any(subset.caption_extension for subset in dataset.subsets):
        reporter.warn(
            f"sd-scripts reads one line of a caption: mixed captions are also written on one line, "
            f"as {exports.ONE_LINE_EXTENSION} files beside the images; export again after edits"
        )
    # sd-scripts never deletes its training states: export save_state only if dsk.toml sets it.
    with_state = bool(config.table("train").get("save_state"))
    options, layout = _config_options(train, with_state=with_state)
    return {
        out / "dataset.toml": exports.kohya_dataset_toml(dataset),
        out / "config.toml": exports.kohya_config_toml(options, layout),
        **_one_line_captions(images, train),
    }


def _warn_of_tool(
    format: str,
    sets: ConceptSets,
    images: Sequence[ConceptRecord],
    reporter: Reporter,
) -> None:
    """Warn of what another trainer does not read as `dsk train` does."""
    if format == "diffusion-pipe" and sets.reg:
        reporter.warn("diffusion-pipe has no regularisation sets: it is left out")
    if format == "onetrainer" and (split := sum(_is_split(record) for _, record in images)):
        reporter.warn(
            f"OneTrainer takes one line of a caption at random, the tags or a sentence, of "
            f"{counted(split, 'image')}: to train all of it, run dsk layout with --one-line and "
            "another --out, and export that folder"
        )


def _is_split(record: ImageRecord) -> bool:
    """Tell whether a caption has several lines that `dsk train` takes together."""
    caption = record.caption
    if caption is None or caption.syntax.kind != "mixed" or caption.syntax.enable_wildcard:
        return False
    return "\n" in caption.text()


def _tool_dataset(config: Config, sets: ConceptSets, keep_tokens: int) -> ToolDataset:
    """Return the dataset in the terms that the other tools share."""
    train = config.build(TrainOptions, "train", {}, only_read=True)
    concepts = [
        ToolConcept(
            concept.folder.absolute().as_posix(),
            concept.name,
            repeats=concept.repeats or 1,
            is_reg=is_reg,
            trigger=concept.trigger,
            recursive=concept.recursive,
            has_masks=(concept.folder / MASKS).is_dir(),
            has_sentences=syntax_of(concept.folder).kind != "tags",
        )
        for is_reg, concepts in ((False, sets.train), (True, sets.reg))
        for concept in concepts
    ]
    return ToolDataset(
        tuple(concepts),
        resolutions=train.resolutions or (_side(train.resolution),),
        shuffle_caption=train.shuffle_caption,
        keep_tokens=keep_tokens,
        flip_aug=train.flip_aug,
    )


def _side(resolution: int | tuple[int, int]) -> int:
    """Return the side of the square with the area of a resolution."""
    if isinstance(resolution, int):
        return resolution
    return round(math.sqrt(resolution[0] * resolution[1]))


def _one_line_captions(images: Sequence[ConceptRecord], train: TrainOptions) -> dict[Path, str]:
    """Return the mixed captions as sd-scripts has to read them."""
    separator = _separator(train)
    return {
        record.path.with_suffix(exports.ONE_LINE_EXTENSION): exports.sd_scripts_text(
            record.caption, keep_tokens=train.keep_tokens or 0, separator=separator
        )
        for _, record in images
        if record.caption is not None
        and record.caption.syntax.kind == "mixed"
        and not record.caption.is_empty
    }


def _orders_tags(train: TrainOptions) -> bool:
    return bool(train.shuffle_caption or train.caption_tag_dropout_rate or train.token_warmup_step)


def _separator(train: TrainOptions) -> str:
    """Return what separates kept tags in captions on one line; "" if no tag changes its place."""
    return (train.keep_tokens_separator or exports.SEPARATOR) if _orders_tags(train) else ""


def _block_settings(train: TrainOptions) -> tuple[BlockSettings, ...]:
    """Return the settings of each `[[datasets]]`, () for one resolution."""
    if len(train.resolutions) < 2:
        return ()
    return tuple(
        BlockSettings(resolution, rules.min_reso, rules.max_reso)
        for resolution, rules in zip(train.resolutions, train.all_bucket_rules(), strict=True)
    )


def _dataset_settings(train: TrainOptions) -> DatasetSettings:
    rules = train.bucket_rules()
    several = len(train.resolutions) > 1
    return DatasetSettings(
        resolution=None if several else (*train.resolutions, train.resolution)[0],
        shuffle_caption=train.shuffle_caption,
        keep_tokens=train.keep_tokens or 0,
        flip_aug=train.flip_aug,
        enable_bucket=train.enable_bucket,
        bucket_reso_steps=rules.step,
        bucket_no_upscale=rules.no_upscale,
        min_bucket_reso=None if several else rules.min_reso,
        max_bucket_reso=None if several else rules.max_reso,
        batch_size=train.train_batch_size,
    )


def _subsets(sets: ConceptSets, train: TrainOptions, out: Path) -> tuple[ExportSubset, ...]:
    # sd-scripts supports masks only for folders without class_tokens.
    return (
        *(
            ExportSubset(
                _below(c.folder, out),
                c.repeats or 1,
                class_tokens=None if train.masked_loss else c.name,
                conditioning_data_dir=_below(c.folder / MASKS, out) if train.masked_loss else None,
                **_of_kind(c.folder, train),
            )
            for c in sets.train
        ),
        *(
            ExportSubset(
                _below(c.folder, out),
                c.repeats or 1,
                is_reg=True,
                class_tokens=c.name,
                **_of_kind(c.folder, train),
            )
            for c in sets.reg
        ),
    )


def _of_kind(folder: Path, train: TrainOptions) -> dict[str, Any]:
    """Return what makes sd-scripts leave the sentences of a folder whole."""
    kind = syntax_of(folder).kind
    if kind == "mixed":
        separator = _separator(train) or None
        return {
            "caption_extension": exports.ONE_LINE_EXTENSION,
            "keep_tokens_separator": separator,
        }
    if kind == "tags" or not _orders_tags(train):
        return {}
    return {
        "shuffle_caption": False if train.shuffle_caption else None,
        "caption_tag_dropout_rate": 0.0 if train.caption_tag_dropout_rate else None,
        "token_warmup_step": 0 if train.token_warmup_step else None,
    }


def _config_options(
    train: TrainOptions, *, with_state: bool
) -> tuple[dict[str, object], dict[str, list[str]]]:
    """Return the options of config.toml, and its sections with the names of their options."""
    declared = by_name(TrainOptions)
    options = {
        name: value
        for name, value in asdict(train).items()
        if declared[name].section
        and name not in _IN_DATASET_TOML
        and _is_written(name, declared[name], train)
    }
    if with_state:
        options["save_state"] = True
    layout = {s: [name for name, o in declared.items() if o.section == s] for s in SECTIONS}
    layout[SAVING].append("save_model_as")
    return options | {"save_model_as": "safetensors"}, layout


def _is_written(name: str, declared: Option, train: TrainOptions) -> bool:
    """Tell whether sd-scripts would do something else without the option."""
    value = getattr(train, name)
    if name == "save_state" or value in (None, "", ()) or value is False:
        return False  # False is the default of every switch there
    if name == "max_train_epochs":  # it overrides max_train_steps there; here it is the reverse
        return train.max_train_steps is None
    if declared.needs and not getattr(train, declared.needs):
        return False
    # sd-scripts divides by some of them: 0 would be an error.
    return declared.off is None or value != declared.off


def _below(folder: Path, out: Path) -> str:
    """Return a folder relative to the exported file, with slashes."""
    return Path(os.path.relpath(folder.absolute(), out.absolute())).as_posix()
