"""Read sd-scripts' dataset.toml: its folders, and the options of the run that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, display
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.config.values import resolve, translated
from trainer.plan.plan import Subset, caption_options

_OPTIONS: Final = by_name(TrainOptions)
_OF_SUBSET: Final = [name for name, option in _OPTIONS.items() if option.level == "subset"]
_OF_DATASET: Final = [name for name, option in _OPTIONS.items() if option.level == "dataset"]


def read(
    data: Mapping[str, Any], where: str, ignored: dict[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the options of the whole run in a dataset.toml, and its subsets with inherited
    options.
    """
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
    shared: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for dataset in sets:
        base = {**general, **{k: v for k, v in dataset.items() if k != "subsets"}}
        inherited = translated(base, where, ignored, also)
        of_run = {k: inherited[k] for k in _OF_DATASET if k in inherited}
        if "batch_size" in inherited:
            of_run["train_batch_size"] = inherited["batch_size"]
        shared.append(of_run)
        rows += [
            {**inherited, **translated(subset, where, ignored, also)}
            for subset in dataset.get("subsets", [])
        ]
    if any(of_run != shared[0] for of_run in shared):
        raise ConfigError(
            f"{where}: the [[datasets]] have different resolutions or batch sizes",
            hint="a run has one resolution: train twice",
        )
    if not rows:
        raise ConfigError(
            f"{where}: it has no [[datasets.subsets]]",
            hint="name at least one folder with image_dir",
        )
    return {**shared[0], **_common(rows)}, rows


def _common(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that all subsets share; the LoRA's metadata has them for the run."""
    first = rows[0]
    shared = (k for k in _OF_SUBSET if k in first and all(r.get(k) == first[k] for r in rows))
    return {k: first[k] for k in shared}


def subset(row: Mapping[str, Any], options: TrainOptions, file: Path) -> Subset:
    if "image_dir" not in row:
        raise ConfigError(
            f"{display(file.name)}: a subset has no image_dir", hint="name its folder of images"
        )
    subset_options = replace(options, **{name: row[name] for name in _OF_SUBSET if name in row})
    folder = resolve(str(row["image_dir"]), file)
    repeats = row.get("num_repeats", 1)
    if not isinstance(repeats, int) or repeats < 1:
        raise ConfigError(f"{display(file.name)}: num_repeats = {repeats!r}", hint="give 1 or more")
    _require_own_masks(row, folder, file)
    is_reg = bool(row.get("is_reg", False))
    return Subset(
        folder=folder,
        name=str(row.get("class_tokens", folder.name)),
        repeats=repeats,
        captions=caption_options(subset_options),
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
