"""Translate the files of other trainers into options and folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.options import trust
from datasetkit.options.declare import by_name
from datasetkit.options.toml import TYPED, build
from datasetkit.options.train import TrainOptions
from trainer.config import dataset_file as dataset_toml
from trainer.config import easy_scripts, flow_keys, gui_preset, lora_scripts
from trainer.config.dataset_file import DatasetTable
from trainer.config.findings import Findings, shown
from trainer.config.formats import Format, OptionsFile, flat, read_file
from trainer.config.keys import EASY_SCRIPTS, FLAT, LORA_SCRIPTS, PRESET, Key, is_off
from trainer.config.project import one_resolution, outside_lines
from trainer.config.settle import renamed, settle
from trainer.config.values import FOLDERS, also_here, converted, resolve, translated
from trainer.plan.plan import Subset, find_subsets

_OPTIONS: Final = by_name(TrainOptions)
# sd-scripts' defaults (its default seed would be random).
DEFAULTS: Final[Mapping[str, object]] = {
    name: option.sd_default for name, option in _OPTIONS.items() if option.sd_default is not None
}
_DEFAULT_STEPS: Final = 1600  # without epochs and steps
_KEYS: Final[Mapping[Format, Mapping[str, Key]]] = {
    Format.GUI_PRESET: PRESET, Format.EASY_SCRIPTS: EASY_SCRIPTS, Format.LORA_SCRIPTS: LORA_SCRIPTS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TranslatedConfig:
    """The translation of other trainers' files. ignored: key -> why it has no effect here. read_as:
    the files with the formats they were read as, for people.
    """

    options: TrainOptions
    subsets: tuple[Subset, ...]
    ignored: Mapping[str, str]
    notices: tuple[str, ...] = ()
    read_as: str = ""


@dataclass(slots=True)
class _Files:
    """The named files, parsed. run: the keys of the run under the names of options; folders:
    train_data_dir and reg_data_dir; dataset: a dataset.toml and the file that it stands in.
    """

    run: dict[str, Any]
    run_file: OptionsFile | None
    folders: dict[str, str]
    dataset: tuple[Mapping[str, Any], Path] | None
    read_as: str

    @property
    def where(self) -> str:
        return self.run_file.name if self.run_file else "options"

    @property
    def path(self) -> Path | None:
        return self.run_file.path if self.run_file else None

    @property
    def keys(self) -> Mapping[str, Key]:
        return _KEYS.get(self.run_file.format, FLAT) if self.run_file else FLAT


def translate(
    config_file: Path | None,
    dataset_file: Path | None,
    overrides: Mapping[str, Any],
    *,
    data_dir: Path | None = None,
    allow_import: bool = False,
) -> TranslatedConfig:
    """Translate a file of options and a dataset.toml, either or both. The formats are recognised
    by their content. overrides: options that override the files. data_dir: the dataset, for files
    that name none. allow_import: the files may name classes of any package.

    Raises ConfigError that names every key that is not known or not supported.
    """
    findings = Findings()
    files = _parsed(config_file, dataset_file, findings)
    base = overrides.get("pretrained_model_name_or_path") or files.run.get(
        "pretrained_model_name_or_path"
    )
    is_flow = _is_flow(files, base, overrides.get("revision"), findings)
    flow: dict[str, Any] = {}
    run = files.run
    if is_flow:
        run, flow, ignored = flow_keys.split(run)
        findings.ignored |= ignored
    options = translated(run, files.where, findings, files.keys) | converted(flow)
    if options.get("sample_prompts"):
        options["sample_prompts"] = str(resolve(str(options["sample_prompts"]), files.path))
    overrides = one_resolution(overrides)
    options = settle(options, overrides, files.where, findings)
    tables: list[DatasetTable] = []
    if files.dataset is not None:
        table, path = files.dataset
        tables = dataset_toml.read(table, display(path.name), findings)
        options |= dataset_toml.common(tables)
    from_files = {
        name: value
        for values in (options, *(table.options for table in tables))
        for name, value in values.items()
        if name not in overrides
    }
    if not allow_import:
        for name, text, hint in trust.unknown_imports(TrainOptions, from_files):
            findings.refuse(files.where, name, text, hint)
    findings.require_none()
    # Paths in these files are relative to the current folder.
    notices = (
        *findings.notes(),
        *_paths_found_twice(files),
        *outside_lines(from_files, Path.cwd()),
    )
    if files.dataset is not None:
        several = [
            _built(
                options,
                table.options,
                overrides,
                f"{files.where}, [[datasets]] {n}" if len(tables) > 1 else files.where,
                is_flow=is_flow,
            )
            for n, table in enumerate(tables, 1)
        ]
        subsets, more = dataset_toml.subsets(tables, several, files.dataset[1])
        train_options = max(several, key=lambda of_table: of_table.bucket_rules().area)
    else:
        train_options = _built(options, {}, overrides, files.where, is_flow=is_flow)
        subsets, more = _of_folders(train_options, files, data_dir)
        if _counts_as_gui(files.run_file, overrides):
            steps = gui_preset.count_steps(subsets, train_options)
            train_options = replace(train_options, max_train_steps=steps)
    return TranslatedConfig(
        train_options, subsets, findings.ignored, (*notices, *more), files.read_as
    )


def _is_flow(files: _Files, base: Any, revision: Any, findings: Findings) -> bool:
    """Tell whether a flow model is trained: the base model on this machine says it, else the box of
    a preset. Adds it to the findings where both contradict each other.
    """
    on_machine = flow_keys.is_flow(base, revision)
    file = files.run_file
    of_preset = file is not None and file.format is Format.GUI_PRESET
    model = gui_preset.flow_model(file.data) if file is not None and of_preset else ""
    if model and on_machine is False:
        findings.refuse(
            files.where,
            f"{model}_checkbox",
            f"{model}_checkbox is on, and the base model is another one",
            "name its model with --set pretrained_model_name_or_path=..., or switch the box off",
        )
    return bool(on_machine) or (on_machine is None and bool(model))


def _paths_found_twice(files: _Files) -> list[str]:
    """Return a notice for each folder that is both beside its file and in the current folder."""
    places = [(path, files.path) for path in files.folders.values()]
    if files.dataset is not None:
        table, file = files.dataset
        places += [(path, file) for path in dataset_toml.folders(table)]
    notices = [also_here(path, file) for path, file in places if file is not None]
    return [notice for notice in dict.fromkeys(notices) if notice]


def _counts_as_gui(file: OptionsFile | None, overrides: Mapping[str, Any]) -> bool:
    """Tell whether the steps are those that the GUI makes of the `epoch` of its preset."""
    given = [overrides.get(name) for name in ("max_train_epochs", "max_train_steps")]
    if file is None or file.format is not Format.GUI_PRESET or given != [None, None]:
        return False
    return gui_preset.counts_epoch(file.data) and not is_off(file.data.get("epoch"))


def _built(
    options: Mapping[str, Any],
    of_dataset: Mapping[str, Any],
    overrides: Mapping[str, Any],
    where: str,
    *,
    is_flow: bool,
) -> TrainOptions:
    """Return the options of one `[[datasets]]`: its own stand above those of the config.toml."""
    table = {**options, **of_dataset}
    if "resolution" in of_dataset:
        table.pop("resolutions", None)
    return build(
        TrainOptions,
        _with_defaults(table, overrides, is_flow=is_flow),
        overrides,
        where=where,
        typed=TYPED["train"],
    )


def named_folders(config_file: Path | None, dataset_file: Path | None) -> list[Path]:
    """Return the folders of images that the files name, whether they exist or not."""
    files = _parsed(config_file, dataset_file, Findings())
    if files.dataset is not None:
        table, path = files.dataset
        return [resolve(name, path) for name in dataset_toml.folders(table)]
    names = [files.folders.get(name) for name in ("train_data_dir", "reg_data_dir")]
    return [resolve(name, files.path) for name in names if name]


def _parsed(config_file: Path | None, dataset_file: Path | None, findings: Findings) -> _Files:
    """Read the files. A dataset.toml may stand in the place of the other file."""
    run_file = read_file(config_file) if config_file else None
    set_file = read_file(dataset_file) if dataset_file else None
    if run_file is not None and run_file.format is Format.SD_DATASET:
        if set_file is not None:
            raise ConfigError(
                f"{run_file.name} is a dataset.toml, and so is {set_file.name}",
                hint="name one of them",
            )
        run_file, set_file = None, run_file
    _require_dataset(set_file)
    run, dataset = _run_keys(run_file, findings)
    named = _folders(run, run_file, findings)
    if run_file is not None and set_file is None and "dataset_config" in named:
        path = resolve(named["dataset_config"], run_file.path)
        set_file = read_file(path, hint=f"dataset_config in {run_file.name} names it")
    used = (set_file.data, set_file.path) if set_file else None
    if used is None and run_file is not None and dataset:
        used = (dataset, run_file.path)
    read_as = ", ".join(f"{f.name} as {f.format.value}" for f in (run_file, set_file) if f)
    return _Files(run, run_file, named, used, read_as)


def _require_dataset(file: OptionsFile | None) -> None:
    """Raise ConfigError for a file in the place of a dataset.toml that is another one."""
    if file is not None and file.format not in (Format.SD_DATASET, Format.SD_CONFIG):
        raise ConfigError(
            f"{file.name} is not a dataset.toml: it is {file.format.value}",
            hint=f"name it as a file of options: dsk train {display(file.path)}",
        )


def _folders(run: dict[str, Any], file: OptionsFile | None, findings: Findings) -> dict[str, str]:
    """Take the folders out of the keys of a run; an empty one is not set."""
    folders: dict[str, str] = {}
    for name in FOLDERS:
        value = run.pop(name, None)
        if isinstance(value, str) and value.strip():
            folders[name] = value
        elif file is not None and not is_off(value):
            findings.refuse(file.name, name, f"{name} = {shown(value)}", "give a path in quotes")
    return folders


def _run_keys(
    file: OptionsFile | None, findings: Findings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keys of the run under the names of sd-scripts, and the dataset of a file that
    holds both.
    """
    if file is None:
        return {}, {}
    dataset: dict[str, Any] = {}
    if file.format is Format.GUI_PRESET:
        run = gui_preset.flattened(file.data, file.name, findings)
    elif file.format is Format.EASY_SCRIPTS:
        run, dataset = easy_scripts.split(file.data)
    elif file.format is Format.LORA_SCRIPTS:
        run = lora_scripts.flattened(flat(file.data))
    else:
        run = flat(file.data)
    return renamed(run, _KEYS.get(file.format, FLAT)), dataset


def _of_folders(
    options: TrainOptions, files: _Files, data_dir: Path | None
) -> tuple[tuple[Subset, ...], tuple[str, ...]]:
    """Return the subsets below the folders that the files name, else below data_dir."""
    if "train_data_dir" not in files.folders and data_dir is not None:
        return find_subsets(data_dir, options)
    if "train_data_dir" not in files.folders:
        raise ConfigError(
            "no dataset is given",
            hint="name the dataset's folder, or give --dataset-config dataset.toml",
        )
    folders = files.folders
    folder = resolve(folders["train_data_dir"], files.path)
    subsets, notices = find_subsets(folder, options, as_trainers_read=True)
    used = [s for s in subsets if not s.is_reg]
    if "reg_data_dir" in folders:
        folder = resolve(folders["reg_data_dir"], files.path)
        reg, more = find_subsets(folder, options, as_trainers_read=True)
        used += [replace(s, is_reg=True) for s in reg]
        notices += more
    return tuple(used), notices


def _with_defaults(
    options: Mapping[str, Any], overrides: Mapping[str, Any], *, is_flow: bool
) -> dict[str, Any]:
    """Add sd-scripts' defaults to the options of the files, as far as the overrides leave them
    open. is_flow: no text encoder is trained.
    """
    completed = {**DEFAULTS, **options}
    rate = {**completed, **overrides}["learning_rate"]
    if not is_flow:
        completed.setdefault("text_encoder_lr", rate)
    if "max_train_steps" in overrides and "max_train_epochs" not in overrides:
        completed.pop("max_train_epochs", None)
    elif "max_train_epochs" in (*completed, *overrides):
        completed.pop("max_train_steps", None)  # in sd-scripts epochs override steps
    else:
        completed.setdefault("max_train_steps", _DEFAULT_STEPS)
    return completed
