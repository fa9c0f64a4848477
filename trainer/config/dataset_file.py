"""Read sd-scripts' dataset.toml: its `[[datasets]]`, each with its own options and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, display
from datasetkit.dataset.repeats import DatasetBlock
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.config.values import resolve, translated
from trainer.plan.plan import Subset, caption_options

_OPTIONS: Final = by_name(TrainOptions)
_OF_SUBSET: Final = [name for name, option in _OPTIONS.items() if option.level == "subset"]
_OF_DATASET: Final = [name for name, option in _OPTIONS.items() if option.level == "dataset"]


@dataclass(frozen=True, slots=True)
class DatasetTable:
    """One `[[datasets]]`: its own options, and its subsets with the options that they inherit."""

    options: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def read(data: Mapping[str, Any], where: str, ignored: dict[str, str]) -> list[DatasetTable]:
    """Return the `[[datasets]]` of a dataset.toml; one without subsets is left out."""
    general = data.get("general", {})
    sets = data.get("datasets", [])
    unknown = set(data) - {"general", "datasets"}
    if unknown or not sets:
        problem = f"unknown table [{min(unknown)}]" if unknown else "it has no [[datasets]]"
        raise ConfigError(
            f"{where}: {problem}", hint="write [general], [[datasets]] and [[datasets.subsets]]"
        )
    also = (
        "batch_size", "num_repeats", "image_dir", "is_reg", "class_tokens", "custom_attributes",
        "conditioning_data_dir",
    )  # fmt: skip
    tables: list[DatasetTable] = []
    for dataset in sets:
        base = {**general, **{k: v for k, v in dataset.items() if k != "subsets"}}
        inherited = translated(base, where, ignored, also)
        of_dataset = {k: inherited[k] for k in _OF_DATASET if k in inherited}
        if "batch_size" in inherited:
            of_dataset["train_batch_size"] = inherited["batch_size"]
        rows = [
            {**inherited, **translated(subset, where, ignored, also)}
            for subset in dataset.get("subsets", [])
        ]
        if rows:
            tables.append(DatasetTable(of_dataset, rows))
    if not tables:
        raise ConfigError(
            f"{where}: it has no [[datasets.subsets]]",
            hint="name at least one folder with image_dir",
        )
    return tables


def subsets(
    tables: Sequence[DatasetTable], options: Sequence[TrainOptions], file: Path
) -> tuple[tuple[Subset, ...], tuple[str, ...]]:
    """Return the subsets of each block, and notices about those that are left out. options: of each
    `[[datasets]]`, which has a block for each resolution.
    """
    read_subsets: list[Subset] = []
    notices: list[str] = []
    for table, table_options in zip(tables, options, strict=True):
        rows = [row for row in table.rows if _is_repeated(row, file, notices)]
        first = read_subsets[-1].block.number + 1 if read_subsets else 0
        read_subsets += [
            _subset(row, table_options, file, block)
            for block in table_options.blocks(first)
            for row in rows
        ]
    return tuple(read_subsets), tuple(notices)


def _is_repeated(row: Mapping[str, Any], file: Path, notices: list[str]) -> bool:
    """Tell whether a subset has at least one repeat; else sd-scripts leaves it out, and a notice is
    added.
    """
    repeats = row.get("num_repeats", 1)
    if not isinstance(repeats, int):
        raise ConfigError(f"{display(file.name)}: num_repeats = {repeats!r}", hint="give 1 or more")
    if repeats < 1:
        folder = display(str(row.get("image_dir", "a subset")))
        notices.append(f"{folder} is left out: num_repeats = {repeats}")
    return repeats >= 1


def common(tables: Sequence[DatasetTable]) -> dict[str, Any]:
    """Return the options that all subsets share; the LoRA's metadata has them for the run."""
    rows = [row for table in tables for row in table.rows]
    first = rows[0]
    shared = (k for k in _OF_SUBSET if k in first and all(r.get(k) == first[k] for r in rows))
    return {k: first[k] for k in shared}


def _subset(
    row: Mapping[str, Any], options: TrainOptions, file: Path, block: DatasetBlock
) -> Subset:
    if "image_dir" not in row:
        raise ConfigError(
            f"{display(file.name)}: a subset has no image_dir", hint="name its folder of images"
        )
    subset_options = replace(options, **{name: row[name] for name in _OF_SUBSET if name in row})
    folder = resolve(str(row["image_dir"]), file)
    _require_own_masks(row, folder, file)
    is_reg = bool(row.get("is_reg", False))
    return Subset(
        folder=folder,
        name=str(row.get("class_tokens", folder.name)),
        repeats=row.get("num_repeats", 1),
        captions=caption_options(subset_options),
        block=block,
        is_reg=is_reg,
        flip=subset_options.flip_aug,
        random_crop=subset_options.random_crop,
        color=subset_options.color_aug,
        preserved=_preserved(row, file) or (is_reg and subset_options.diff_output_preservation),
    )


def _require_own_masks(row: Mapping[str, Any], folder: Path, file: Path) -> None:
    """Raise ConfigError for masks outside the folder's own masks/."""
    mask_dir = row.get("conditioning_data_dir")
    if mask_dir and resolve(str(mask_dir), file).resolve() != (folder / MASKS).resolve():
        problem = f"{display(file.name)}: conditioning_data_dir = {mask_dir!r}"
        raise ConfigError(
            problem, hint=f"put the masks into {display(folder / MASKS)}, named like the images"
        )


def _preserved(row: Mapping[str, Any], file: Path) -> bool:
    """Return diff_output_preservation from a subset's custom_attributes, the only supported one."""
    attributes = row.get("custom_attributes", {})
    supported = isinstance(attributes, dict) and set(attributes) <= {"diff_output_preservation"}
    preserved = attributes.get("diff_output_preservation", False) if supported else None
    if not isinstance(preserved, bool):
        problem = f"{display(file.name)}: custom_attributes = {attributes!r}"
        raise ConfigError(
            problem, hint="only diff_output_preservation = true or false is supported"
        )
    return preserved
