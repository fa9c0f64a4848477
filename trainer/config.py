"""Read a run's options from `[train]` of a dsk.toml, or translate sd-scripts' config files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, display
from datasetkit.core.suggest import did_you_mean
from datasetkit.core.toml_text import parse_toml, read_toml, refuse_control
from datasetkit.dataset import layout
from datasetkit.options import trust
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.declare import by_name
from datasetkit.options.toml import TYPED, Config, build
from datasetkit.options.train import TrainOptions
from trainer.plan.plan import Subset, caption_options, find_subsets
from trainer.tinybase import shipped

_OPTIONS: Final = by_name(TrainOptions)
# sd-scripts' defaults (its default seed would be random).
DEFAULTS: Final[Mapping[str, object]] = {
    name: option.sd_default for name, option in _OPTIONS.items() if option.sd_default is not None
}
_DEFAULT_STEPS: Final = 1600  # without epochs and steps

_OWN_LOADER = "images are read by this trainer's own loader"
_ATTENTION = "torch's scaled-dot-product attention is always used"
_TRACKING = "metrics.jsonl and TensorBoard are written under fixed names"
_TEXT_CACHE = "a frozen text encoder encodes each distinct caption once, shuffled ones too"
_NO_FASTER = "compiling did not make a step faster when it was measured"
# Accepted without effect -> why.
IGNORED: Final[Mapping[str, str]] = {
    "xformers": _ATTENTION,
    "sdpa": _ATTENTION,
    "mem_eff_attn": _ATTENTION,
    "lowram": "the model is loaded once, part by part",
    "max_data_loader_n_workers": _OWN_LOADER,
    "persistent_data_loader_workers": _OWN_LOADER,
    "vae_batch_size": "images are encoded one by one, so that latents do not depend on a batch",
    "cache_text_encoder_outputs": _TEXT_CACHE,
    "cache_text_encoder_outputs_to_disk": _TEXT_CACHE,
    "skip_cache_check": "cached latents are checked by content",
    "no_half_vae": "the VAE never computes in fp16",
    "tokenizer_cache_dir": "the tokenizer ships with the package",
    "log_prefix": _TRACKING,
    "log_with": _TRACKING,
    "log_tracker_name": _TRACKING,
    "log_config": _TRACKING,
    "save_last_n_epochs_state": "the newest two states are kept",
    "save_last_n_steps_state": "the newest two states are kept",
    "caption_separator": "commas separate the tags",
    "highvram": "the GPU's memory is not freed between steps",
    "torch_compile": _NO_FASTER,
    "dynamo_backend": _NO_FASTER,
    "opt_channels_last": "it did not make a step faster when it was measured, on a CPU",
}
# Unsupported keys are accepted with these values, which mean "off".
_OFF: Final[tuple[object, ...]] = (None, False, 0, "", [])
_HALF = "mixed_precision keeps the frozen base in half precision; trained weights stay float32"
_METADATA = "use training_comment"
_RESUME = "dsk train --resume continues from the newest state"
# Not supported -> what to do instead.
UNSUPPORTED: Final[Mapping[str, str]] = {
    "dim_from_weights": "set network_dim to the rank of network_weights",
    "base_weights": "merge it into the base model first",
    "base_weights_multiplier": "merge it into the base model first",
    "face_crop_aug_range": "crop the images beforehand",
    "resize_interpolation": "Lanczos is always used",
    "alpha_mask": "masked_loss reads masks/<stem>.png",
    "in_json": "write captions beside the images: dsk import --from meta",
    "full_fp16": _HALF,
    "full_bf16": _HALF,
    "save_n_epoch_ratio": "use save_every_n_epochs",
    "save_state_on_train_end": "a finished run cannot be resumed; network_weights continues "
    "from its LoRA",
    "resume": _RESUME,
    "initial_epoch": _RESUME,
    "initial_step": _RESUME,
    "skip_until_initial_step": _RESUME,
    "deepspeed": "python -m trainer.launch trains on several GPUs",
    "metadata_title": _METADATA,
    "metadata_author": _METADATA,
    "metadata_description": _METADATA,
    "metadata_license": _METADATA,
    "metadata_tags": _METADATA,
}
# Accepted with these values only.
FIXED: Final[Mapping[str, tuple[object, ...]]] = {
    "save_model_as": ("safetensors",),
    "caption_extension": (".txt", ".caption"),
}
_OF_SUBSET: Final = [name for name, option in _OPTIONS.items() if option.level == "subset"]
_OF_DATASET: Final = [name for name, option in _OPTIONS.items() if option.level == "dataset"]
_FOLDERS: Final = ("train_data_dir", "reg_data_dir", "dataset_config")
_MODELS: Final = [name for name, option in _OPTIONS.items() if option.path == "model"]
_PATHS: Final = [n for n, option in _OPTIONS.items() if option.path not in ("", "model")]


@dataclass(frozen=True, slots=True)
class TranslatedConfig:
    """The translation of sd-scripts' files. ignored: key -> why it has no effect here."""

    options: TrainOptions
    subsets: tuple[Subset, ...]
    ignored: Mapping[str, str]
    notices: tuple[str, ...] = ()


def of_project(
    config: Config, overrides: Mapping[str, Any], *, only_read: bool = False
) -> TrainOptions:
    """Return `[train]` of a dsk.toml with overrides; paths in the file are relative to its
    folder. only_read: see Config.build.
    """
    options = config.build(TrainOptions, "train", overrides, only_read=only_read)
    root = config.root
    if root is None:
        return options
    paths: dict[str, Any] = {
        n: getattr(options, n) for n in _PATHS if overrides.get(n) is None and getattr(options, n)
    }
    for name in _MODELS:
        value = getattr(options, name)
        # A hub id looks like a path; it is a path if it exists. `tiny` is always the shipped base.
        if (
            value
            and value != shipped.NAME
            and overrides.get(name) is None
            and (root / value).exists()
        ):
            paths[name] = value
    absolute: dict[str, Any] = {name: str(root / value) for name, value in paths.items()}
    return replace(options, **absolute)


def outside_notices(config: Config, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line for each path of `[train]` that is written outside of the project."""
    if config.root is None:
        return ()
    table = {k: v for k, v in config.table("train").items() if overrides.get(k) is None}
    return outside_lines(table, config.root)


def outside_lines(table: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """Return a line for each path of a file that is written outside of the folder `root`."""
    paths = trust.outside(TrainOptions, table, root)
    return tuple(
        f"{name} lies outside of {display(root)}: {display(path)}" for name, path in paths.items()
    )


def data_folder(folder: Path, config: Config) -> Path:
    """Return the laid-out dataset of a folder: for a project the output of `dsk layout`, else the
    folder itself.
    """
    if config.root == folder.resolve() and layout.dataset_roots(folder)[0] == folder:
        return Path(config.build(LayoutOptions, "layout", only_read=True).out)
    return folder


def setting(text: str) -> tuple[str, Any]:
    """Parse `--set name=value` (or train.name=value); the value is TOML, a bare word is a
    string.
    """
    key, sign, value = text.partition("=")
    key = key.strip().removeprefix("train.")
    if not sign or not key.isidentifier():
        raise ConfigError(
            f"--set {display(text)}", hint="write --set network_dim=64, or --set output_name=sks"
        )
    value = value.strip()
    try:
        return key, parse_toml(f"value = {value}", source=f"--set {display(text)}")["value"]
    except ConfigError as error:
        if value.startswith(('"', "'", "[", "{")):  # it was meant as TOML
            hint = "" if error.hint.startswith("look for") else error.hint
            raise ConfigError(
                f"--set {display(text)}: the quote or bracket is not closed, or an escape is wrong",
                hint=hint or "close it, or leave the quotes out",
            ) from None
        return key, value


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
    folders = {name: str(config.pop(name)) for name in _FOLDERS if config.get(name)}
    options = _translated(config, where, ignored, also=())
    if options.get("sample_prompts"):
        options["sample_prompts"] = str(_resolve(str(options["sample_prompts"]), config_file))
    if dataset_file is None and "dataset_config" in folders:
        dataset_file = _resolve(folders["dataset_config"], config_file)
    rows: list[dict[str, Any]] = []
    if dataset_file is not None:
        shared, rows = _dataset(read_toml(dataset_file), display(dataset_file.name), ignored)
        options |= shared
    from_files = {name: value for name, value in options.items() if name not in overrides}
    if not allow_import:
        trust.refuse_imports(TrainOptions, from_files, where=where)
    train_options = build(
        TrainOptions,
        _with_defaults(options, overrides),
        overrides,
        where=where,
        typed=TYPED["train"],
    )
    # Paths in these files are relative to the current folder.
    notices = outside_lines(from_files, Path.cwd())
    if dataset_file is not None:
        subsets = tuple(_subset(row, train_options, dataset_file) for row in rows)
        return TranslatedConfig(train_options, subsets, ignored, notices)
    if data_dir is not None and "train_data_dir" not in folders:
        subsets, more = find_subsets(data_dir, train_options)
        return TranslatedConfig(train_options, subsets, ignored, (*notices, *more))
    translated = _of_folders(train_options, folders, config_file, ignored)
    return replace(translated, notices=(*notices, *translated.notices))


def named_folders(config_file: Path | None, dataset_file: Path | None) -> list[Path]:
    """Return the folders of images that sd-scripts' files name, whether they exist or not."""
    config = _flat(read_toml(config_file)) if config_file else {}
    if dataset_file is None and config.get("dataset_config"):
        dataset_file = _resolve(str(config["dataset_config"]), config_file)
    if dataset_file is None:
        names = [config.get(name) for name in ("train_data_dir", "reg_data_dir")]
        return [_resolve(str(name), config_file) for name in names if name]
    _, rows = _dataset(read_toml(dataset_file), display(dataset_file.name), {})
    return [_resolve(str(row["image_dir"]), dataset_file) for row in rows if "image_dir" in row]


def _of_folders(
    options: TrainOptions, folders: Mapping[str, str], file: Path | None, ignored: Mapping[str, str]
) -> TranslatedConfig:
    if "train_data_dir" not in folders:
        raise ConfigError(
            "no dataset is given",
            hint="name the dataset's folder, or give --dataset-config dataset.toml",
        )
    subsets, notices = find_subsets(_resolve(folders["train_data_dir"], file), options)
    used = [s for s in subsets if not s.is_reg]
    if "reg_data_dir" in folders:
        reg, more = find_subsets(_resolve(folders["reg_data_dir"], file), options)
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


def _translated(
    table: Mapping[str, Any], where: str, ignored: dict[str, str], also: Sequence[str]
) -> dict[str, Any]:
    """Return a table's options; collect ignored keys, and raise for unknown or unsupported ones."""
    names = {f.name for f in fields(TrainOptions)}
    options: dict[str, Any] = {}
    for key, value in table.items():
        if key in FIXED and value in FIXED[key]:
            continue
        if key in FIXED and key not in UNSUPPORTED:
            hint = "give " + " or ".join(repr(v) for v in FIXED[key])
            raise ConfigError(f"{where}: {key} = {value!r} is not supported", hint=hint)
        if key in IGNORED:
            ignored[key] = IGNORED[key]
        elif key in UNSUPPORTED:
            if value not in _OFF:
                raise ConfigError(
                    f"{where}: {key} = {value!r} is not supported",
                    hint=f"{UNSUPPORTED[key]}; remove it, or switch it off",
                )
        elif key in names or key in also:
            options[key] = _value(key, value)
        else:
            keys = [*names, *IGNORED, *UNSUPPORTED, *FIXED, *also, *_FOLDERS]
            hint = did_you_mean(key, keys, "remove it", form="'{}'")
            raise ConfigError(f"{where}: unknown key {key!r}", hint=hint)
    return options


def _value(key: str, value: Any) -> Any:
    """Convert a value: sd-scripts writes sizes as text and accepts lists with one rate."""
    if key == "resolution":
        if isinstance(value, str):
            try:
                value = [int(side) for side in value.split(",")]
            except ValueError:
                raise ConfigError(
                    f"resolution = {value!r}", hint="write 512 or '512,768'"
                ) from None
        if isinstance(value, list) and len(value) == 1:
            return value[0]
    if key == "text_encoder_lr" and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _dataset(
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
        inherited = _translated(base, where, ignored, also)
        of_run = {k: inherited[k] for k in _OF_DATASET if k in inherited}
        if "batch_size" in inherited:
            of_run["train_batch_size"] = inherited["batch_size"]
        shared.append(of_run)
        rows += [
            {**inherited, **_translated(subset, where, ignored, also)}
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


def _subset(row: Mapping[str, Any], options: TrainOptions, file: Path) -> Subset:
    if "image_dir" not in row:
        raise ConfigError(
            f"{display(file.name)}: a subset has no image_dir", hint="name its folder of images"
        )
    subset_options = replace(options, **{name: row[name] for name in _OF_SUBSET if name in row})
    folder = _resolve(str(row["image_dir"]), file)
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
    if mask_dir and _resolve(str(mask_dir), file).resolve() != (folder / MASKS).resolve():
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


def _resolve(path: str, file: Path | None) -> Path:
    """Resolve a path in a file: relative to the file if it exists there, else to the current
    folder.
    """
    refuse_control(path, where="a path" if file is None else f"{display(file.name)}: a path")
    beside = file.parent / path if file else Path(path)
    return beside if beside.exists() else Path(path)


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the sections of a config.toml, which sd-scripts ignores."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
