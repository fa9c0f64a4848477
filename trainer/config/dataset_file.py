"""Read sd-scripts' dataset.toml: its `[[datasets]]`, each with its own options and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, display
from datasetkit.dataset.repeats import DatasetBlock
from datasetkit.options.toml import wrong_values
from datasetkit.options.train import TrainOptions
from trainer.config.findings import Findings, shown
from trainer.config.keys import FLAT
from trainer.config.values import OF_DATASET, OF_SUBSET, VALIDATION, resolve, translated
from trainer.plan.plan import Subset, captions_in

_SHAPE: Final = "write [general], [[datasets]] and [[datasets.subsets]]"


@dataclass(frozen=True, slots=True)
class DatasetTable:
    """One `[[datasets]]`: its own options, and its subsets with the options that they inherit."""

    options: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


def read(data: Mapping[str, Any], file: str, findings: Findings) -> list[DatasetTable]:
    """Return the `[[datasets]]` of a dataset.toml; one without subsets is left out. Keys and values
    that are wrong are added to the findings.

    Raises ConfigError for tables that are not as they have to be.
    """
    _require_shape(data, file)
    general = translated(data.get("general", {}), file, findings, FLAT, "[general]")
    tables: list[DatasetTable] = []
    for dataset in data["datasets"]:
        table = {key: value for key, value in dataset.items() if key != "subsets"}
        inherited = general | translated(table, file, findings, FLAT, "[[datasets]]")
        of_dataset = {k: inherited[k] for k in inherited if k in OF_DATASET | VALIDATION}
        if "batch_size" in inherited:
            of_dataset["train_batch_size"] = inherited["batch_size"]
        rows = [
            inherited | translated(row, file, findings, FLAT, "[[datasets.subsets]]")
            for row in dataset.get("subsets", [])
        ]
        if rows:
            tables.append(DatasetTable(of_dataset, rows))
    if not tables:
        raise ConfigError(
            f"{file}: it has no [[datasets.subsets]]",
            hint="name at least one folder with image_dir",
        )
    _check_tables(tables, file, findings)
    return tables


def _check_tables(tables: Sequence[DatasetTable], file: str, findings: Findings) -> None:
    """Add what is wrong with the values of all `[[datasets]]`."""
    for name in VALIDATION:
        if any(table.options.get(name) != tables[0].options.get(name) for table in tables):
            text = f"{name} differs between the [[datasets]]"
            findings.refuse(file, name, text, "write it once, in [general]")
    seen: list[Mapping[str, Any]] = []  # most rows have the same values
    for table in tables:
        for row in table.rows:
            _check(row, file, findings)
            values = {**table.options, **{k: row[k] for k in row if k in OF_SUBSET}}
            if values in seen[-1:]:
                continue
            seen.append(values)
            for name, (text, hint) in wrong_values(TrainOptions, values).items():
                findings.refuse(file, name, text, hint)


def folders(data: Mapping[str, Any]) -> list[str]:
    """Return the folders that a dataset.toml names, also where something else is wrong."""
    sets = data.get("datasets")
    tables = [d for d in sets if isinstance(d, dict)] if isinstance(sets, list) else []
    subsets = [s for d in tables if isinstance(d.get("subsets"), list) for s in d["subsets"]]
    names = [s.get("image_dir") for s in subsets if isinstance(s, dict)]
    return [name for name in names if isinstance(name, str) and name]


def _require_shape(data: Mapping[str, Any], file: str) -> None:
    """Raise ConfigError if the tables are not those of a dataset.toml."""
    unknown = set(data) - {"general", "datasets"}
    if unknown:
        raise ConfigError(f"{file}: unknown table [{display(min(unknown))}]", hint=_SHAPE)
    if not data.get("datasets"):
        raise ConfigError(f"{file}: it has no [[datasets]]", hint=_SHAPE)
    if not isinstance(data.get("general", {}), dict):
        raise ConfigError(f"{file}: general is not a table", hint=_SHAPE)
    _require_tables(data["datasets"], f"{file}: datasets")
    for dataset in data["datasets"]:
        _require_tables(dataset.get("subsets", []), f"{file}: subsets")


def _require_tables(value: Any, what: str) -> None:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{what} is not a list of tables", hint=_SHAPE)


def subsets(
    tables: Sequence[DatasetTable], options: Sequence[TrainOptions], file: Path
) -> tuple[tuple[Subset, ...], tuple[str, ...]]:
    """Return the subsets of each block, and notices about those that are left out. options: of each
    `[[datasets]]`, which has a block for each resolution.
    """
    read_subsets: list[Subset] = []
    notices: list[str] = []
    for table, table_options in zip(tables, options, strict=True):
        rows = [row for row in table.rows if _is_repeated(row, notices)]
        first = read_subsets[-1].block.number + 1 if read_subsets else 0
        read_subsets += [
            _subset(row, table_options, file, block)
            for block in table_options.blocks(first)
            for row in rows
        ]
    return tuple(read_subsets), tuple(notices)


def _is_repeated(row: Mapping[str, Any], notices: list[str]) -> bool:
    """Tell whether a subset has at least one repeat; else sd-scripts leaves it out, and a notice is
    added.
    """
    repeats: int = row.get("num_repeats", 1)
    if repeats < 1:
        notices.append(f"{display(row['image_dir'])} is left out: num_repeats = {repeats}")
    return repeats >= 1


def common(tables: Sequence[DatasetTable]) -> dict[str, Any]:
    """Return the options that all subsets share; the LoRA's metadata has them for the run."""
    rows = [row for table in tables for row in table.rows]
    first = rows[0]
    shared = (k for k in OF_SUBSET if k in first and all(r.get(k) == first[k] for r in rows))
    return {k: first[k] for k in shared}


def _check(row: Mapping[str, Any], file: str, findings: Findings) -> None:
    """Add what is wrong with the values of a subset that are no options."""
    if not isinstance(row.get("image_dir"), str) or not row["image_dir"]:
        findings.refuse(file, "image_dir", "a subset has no image_dir", "name its folder of images")
    repeats = row.get("num_repeats", 1)
    if not isinstance(repeats, int):
        text = f"num_repeats = {shown(repeats)}"
        findings.refuse(file, "num_repeats", text, "give 1 or more")
    attributes = row.get("custom_attributes", {})
    supported = isinstance(attributes, dict) and set(attributes) <= {"diff_output_preservation"}
    if not supported or not isinstance(attributes.get("diff_output_preservation", False), bool):
        findings.refuse(
            file,
            "custom_attributes",
            f"custom_attributes = {shown(attributes)}",
            "only diff_output_preservation = true or false is supported",
        )


def _subset(
    row: Mapping[str, Any], options: TrainOptions, file: Path, block: DatasetBlock
) -> Subset:
    """Return a folder with its own options; its row was checked by `read`."""
    subset_options = replace(options, **{name: row[name] for name in OF_SUBSET if name in row})
    folder = resolve(row["image_dir"], file)
    _require_own_masks(row, folder, file)
    is_reg = bool(row.get("is_reg", False))
    attributes = row.get("custom_attributes", {})
    preserved = attributes.get("diff_output_preservation", False)
    return Subset(
        folder=folder,
        name=str(row.get("class_tokens") or ""),  # none: an empty caption, as in sd-scripts
        repeats=row.get("num_repeats", 1),
        captions=captions_in(folder, subset_options),
        block=block,
        is_reg=is_reg,
        flip=subset_options.flip_aug,
        random_crop=subset_options.random_crop,
        color=subset_options.color_aug,
        preserved=preserved or (is_reg and subset_options.diff_output_preservation),
        interpolation=subset_options.resize_interpolation,
    )


def _require_own_masks(row: Mapping[str, Any], folder: Path, file: Path) -> None:
    """Raise ConfigError for masks outside the folder's own masks/."""
    mask_dir = row.get("conditioning_data_dir")
    if mask_dir and resolve(str(mask_dir), file).resolve() != (folder / MASKS).resolve():
        problem = f"{display(file.name)}: conditioning_data_dir = {mask_dir!r}"
        raise ConfigError(
            problem, hint=f"put the masks into {display(folder / MASKS)}, named like the images"
        )
