"""Translate sd-scripts' config.toml and dataset.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.toml_text import read_toml
from datasetkit.options import trust
from datasetkit.options.declare import by_name
from datasetkit.options.toml import TYPED, build
from datasetkit.options.train import TrainOptions
from trainer.config import dataset_file as dataset_toml
from trainer.config.dataset_file import DatasetTable
from trainer.config.project import one_resolution, outside_lines
from trainer.config.values import FOLDERS, resolve, translated
from trainer.plan.plan import Subset, find_subsets

_OPTIONS: Final = by_name(TrainOptions)
# sd-scripts' defaults (its default seed would be random).
DEFAULTS: Final[Mapping[str, object]] = {
    name: option.sd_default for name, option in _OPTIONS.items() if option.sd_default is not None
}
_DEFAULT_STEPS: Final = 1600  # without epochs and steps


@dataclass(frozen=True, slots=True)
class TranslatedConfig:
    """The translation of sd-scripts' files. ignored: key -> why it has no effect here."""

    options: TrainOptions
    subsets: tuple[Subset, ...]
    ignored: Mapping[str, str]
    notices: tuple[str, ...] = ()


def translate(
    config_file: Path | None,
    dataset_file: Path | None,
    overrides: Mapping[str, Any],
    *,
    data_dir: Path | None = None,
    allow_import: bool = False,
) -> TranslatedConfig:
    """Translate sd-scripts' config.toml and dataset.toml, either or both. overrides: options that
    override the files. data_dir: the dataset, for files that name none. allow_import: the files may
    name classes of any package.

    Raises ConfigError for an unknown key, and for a key that is not supported.
    """
    config = _flat(read_toml(config_file)) if config_file else {}
    ignored: dict[str, str] = {}
    where = display(config_file.name) if config_file else "options"
    folders = {name: str(config.pop(name)) for name in FOLDERS if config.get(name)}
    options = translated(config, where, ignored, also=())
    if options.get("sample_prompts"):
        options["sample_prompts"] = str(resolve(str(options["sample_prompts"]), config_file))
    if dataset_file is None and "dataset_config" in folders:
        dataset_file = resolve(folders["dataset_config"], config_file)
    overrides = one_resolution(overrides)
    tables: list[DatasetTable] = []
    if dataset_file is not None:
        tables = dataset_toml.read(read_toml(dataset_file), display(dataset_file.name), ignored)
        options |= dataset_toml.common(tables)
    from_files = {
        name: value
        for table in (options, *(table.options for table in tables))
        for name, value in table.items()
        if name not in overrides
    }
    if not allow_import:
        trust.refuse_imports(TrainOptions, from_files, where=where)
    # Paths in these files are relative to the current folder.
    notices = outside_lines(from_files, Path.cwd())
    if dataset_file is not None:
        several = [_built(options, table.options, overrides, where) for table in tables]
        subsets, more = dataset_toml.subsets(tables, several, dataset_file)
        main = max(several, key=lambda of_table: of_table.bucket_rules().area)
        return TranslatedConfig(main, subsets, ignored, (*notices, *more))
    train_options = _built(options, {}, overrides, where)
    if data_dir is not None and "train_data_dir" not in folders:
        subsets, more = find_subsets(data_dir, train_options)
        return TranslatedConfig(train_options, subsets, ignored, (*notices, *more))
    read = _of_folders(train_options, folders, config_file, ignored)
    return replace(read, notices=(*notices, *read.notices))


def named_folders(config_file: Path | None, dataset_file: Path | None) -> list[Path]:
    """Return the folders of images that sd-scripts' files name, whether they exist or not."""
    config = _flat(read_toml(config_file)) if config_file else {}
    if dataset_file is None and config.get("dataset_config"):
        dataset_file = resolve(str(config["dataset_config"]), config_file)
    if dataset_file is None:
        names = [config.get(name) for name in ("train_data_dir", "reg_data_dir")]
        return [resolve(str(name), config_file) for name in names if name]
    tables = dataset_toml.read(read_toml(dataset_file), display(dataset_file.name), {})
    rows = [row for table in tables for row in table.rows]
    return [resolve(str(row["image_dir"]), dataset_file) for row in rows if "image_dir" in row]


def _built(
    options: Mapping[str, Any],
    of_dataset: Mapping[str, Any],
    overrides: Mapping[str, Any],
    where: str,
) -> TrainOptions:
    """Return the options of one `[[datasets]]`: its own stand above those of the config.toml."""
    table = {**options, **of_dataset}
    if "resolution" in of_dataset:
        table.pop("resolutions", None)
    return build(
        TrainOptions,
        _with_defaults(table, overrides),
        overrides,
        where=where,
        typed=TYPED["train"],
    )


def _of_folders(
    options: TrainOptions, folders: Mapping[str, str], file: Path | None, ignored: Mapping[str, str]
) -> TranslatedConfig:
    if "train_data_dir" not in folders:
        raise ConfigError(
            "no dataset is given",
            hint="name the dataset's folder, or give --dataset-config dataset.toml",
        )
    subsets, notices = find_subsets(resolve(folders["train_data_dir"], file), options)
    used = [s for s in subsets if not s.is_reg]
    if "reg_data_dir" in folders:
        reg, more = find_subsets(resolve(folders["reg_data_dir"], file), options)
        used += [replace(s, is_reg=True) for s in reg]
        notices += more
    return TranslatedConfig(options, tuple(used), ignored, notices)


def _with_defaults(options: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Add sd-scripts' defaults to the options of the files, as far as the overrides leave them
    open.
    """
    completed = {**DEFAULTS, **options}
    rate = {**completed, **overrides}["learning_rate"]
    completed.setdefault("text_encoder_lr", rate)
    if "max_train_steps" in overrides and "max_train_epochs" not in overrides:
        completed.pop("max_train_epochs", None)
    elif "max_train_epochs" in (*completed, *overrides):
        completed.pop("max_train_steps", None)  # in sd-scripts epochs override steps
    else:
        completed.setdefault("max_train_steps", _DEFAULT_STEPS)
    return completed


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the sections of a config.toml, which sd-scripts ignores."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
