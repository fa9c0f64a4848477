"""Recognise a file of options by its content: whose it is, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.core.json_text import parse_json
from datasetkit.core.toml_text import parse_toml, read_text
from datasetkit.options.toml import TABLES


class Format(Enum):
    """The formats that `dsk train` reads; the value is what messages call a file in it."""

    PROJECT = "dsk.toml"
    SD_CONFIG = "sd-scripts' config.toml"
    SD_DATASET = "sd-scripts' dataset.toml"
    GUI_CONFIG = "a TOML of the kohya_ss GUI"
    GUI_PRESET = "a JSON preset of the kohya_ss GUI"
    EASY_SCRIPTS = "a TOML of LoRA_Easy_Training_Scripts"
    LORA_SCRIPTS = "a TOML of lora-scripts"


@dataclass(frozen=True, slots=True)
class OptionsFile:
    """A file of options, parsed."""

    path: Path
    format: Format
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        return display(self.path.name)


# Keys that only one program writes.
_GUI_KEYS: Final = frozenset(("epoch", "noise_offset_type", "stop_text_encoder_training"))
_PRESET_KEYS: Final = frozenset(("LoRA_type", "max_resolution", "optimizer", "lr_warmup"))
_LORA_KEYS: Final = frozenset(
    (
        "model_train_type", "lr_restart_cycles", "lycoris_algo", "network_args_custom",
        "optimizer_args_custom", "enable_preview", "enable_block_weights", "enable_base_weight",
        "ui_custom_params", "randomly_choice_prompt", "positive_prompts",
    )
)  # fmt: skip
_OTHER_TRAININGS: Final = {
    "num_vectors_per_token": "textual inversion",
    "train_text_encoder": "full finetuning",
    "learning_rate_te": "full finetuning",
    "no_train_unet": "full finetuning",
}


# Trainers whose files are not read: keys of which a file has all.
_OTHER_TRAINERS: Final = (
    ("OneTrainer", ("training_method", "model_type")),
    ("OneTrainer", ("concept_file_name", "base_model_name")),
    ("ai-toolkit", ("job", "config")),
    ("SimpleTuner", ("--model_type",)),
    ("SimpleTuner", ("model_family", "data_backend_config")),
    ("diffusion-pipe", ("micro_batch_size_per_gpu",)),
    ("LoRA_Easy_Training_Scripts of 2023", ("img_folder", "net_dim")),
)
# Files of other purposes, in the same way.
_OTHER_FILES: Final = (
    ("a workflow of ComfyUI", ("nodes", "links")),
    ("the settings of a web interface", ("sd_model_checkpoint",)),
    ("the header of a LoRA", ("ss_network_dim",)),
    ("part of a model", ("_class_name", "_diffusers_version")),
    ("the config of a LoRA of peft", ("peft_type",)),
    ("a pyproject.toml", ("project", "tool")),
    ("a pyproject.toml", ("project", "build-system")),
    ("a Cargo.toml", ("package", "dependencies")),
)
_YAML: Final = (".yaml", ".yml")
SUFFIXES: Final = (".toml", ".json", *_YAML)
_READ_ARE: Final = "docs/from-sd-scripts.md lists the formats that are read"


def read_file(path: Path, *, hint: str = "name a file of options, or a folder") -> OptionsFile:
    """Read a file of options in any of the formats. hint: the next step if it cannot be opened.

    Raises ConfigError for a file that cannot be read, for one of a program whose files are not
    read, and for JSON that is none of the formats.
    """
    source = display(path)
    if path.suffix.lower() in _YAML:
        raise ConfigError(
            f"{source} is YAML, as files of ai-toolkit are: it is not read yet", hint=_READ_ARE
        )
    text = read_text(path, hint=hint)
    if text.lstrip().startswith("{") or path.suffix.lower() == ".json":
        data = parse_json(text, source=source)
        return OptionsFile(path, _of_json(data, source), data)
    data = parse_toml(text, source=source)
    _refuse_others(data, source)
    if set(data) == {"metadata", "data"} and isinstance(data["data"], dict):  # its templates
        return OptionsFile(path, Format.LORA_SCRIPTS, data["data"])
    return OptionsFile(path, _of_toml(data, path), data)


def _refuse_others(data: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError for files of programs whose files are not read, which it names."""
    for program, keys in _OTHER_TRAINERS:
        if all(key in data for key in keys):
            raise ConfigError(
                f"{source} is a file of {program}: it is not read yet", hint=_READ_ARE
            )
    what = next((what for what, keys in _OTHER_FILES if all(key in data for key in keys)), "")
    if data and all(isinstance(v, dict) and "class_type" in v for v in data.values()):
        what = "a workflow of ComfyUI"
    if what:
        raise ConfigError(f"{source} is {what}, and has no options of a training", hint=_READ_ARE)


def _of_json(data: Any, source: str) -> Format:
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source} is JSON, and no preset of the kohya_ss GUI", hint="it has no keys"
        )
    _refuse_others(data, source)
    if isinstance(data.get("datasets"), list):
        return Format.SD_DATASET
    if "LoRA_type" in data or (len(_PRESET_KEYS & set(data)) > 1 and "network_dim" in data):
        return Format.GUI_PRESET
    other = next((name for key, name in _OTHER_TRAININGS.items() if key in data), None)
    if other is None and len(_PRESET_KEYS & set(data)) > 1:
        other = "Dreambooth"
    if other:
        raise ConfigError(
            f"{source} is a JSON preset of the kohya_ss GUI for {other}",
            hint="LoRAs are trained: name a preset of its LoRA page",
        )
    raise ConfigError(
        f"{source} is JSON, and no preset of the kohya_ss GUI",
        hint="a preset of its LoRA page has LoRA_type, network_dim and optimizer",
    )


def _of_toml(data: Mapping[str, Any], path: Path) -> Format:
    tables = {name for name, value in data.items() if isinstance(value, dict)}
    if path.name == CONFIG_NAME:
        return Format.PROJECT
    if "datasets" in data or set(data) == {"general"}:
        return Format.SD_DATASET
    if "subsets" in data or any({"args", "dataset_args"} & set(data[name]) for name in tables):
        return Format.EASY_SCRIPTS
    keys = set(flat(data))
    if _LORA_KEYS & keys:
        return Format.LORA_SCRIPTS
    if data and set(data) <= {*TABLES, "concept"}:
        return Format.PROJECT
    return Format.GUI_CONFIG if _GUI_KEYS & keys and not tables else Format.SD_CONFIG


def flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the sections of a config.toml, whose names sd-scripts does not look at."""
    keys: dict[str, Any] = {}
    for key, value in data.items():
        keys |= value if isinstance(value, dict) else {key: value}
    return keys
