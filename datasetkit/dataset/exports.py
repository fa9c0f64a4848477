"""Exports: a dataset and its training numbers, worded for sd-scripts and for Hugging Face."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display
from datasetkit.core.records import Caption

TomlValue = str | int | float | bool | Sequence[str | int | float]
# Sections of a config.toml, each with its options; sd-scripts itself looks at the options only.
TrainExport = dict[str, dict[str, TomlValue]]

# sd-scripts' trainer looks for `.caption` unless it is told otherwise, and taggers write `.txt`.
CAPTION_EXTENSION: Final = ".txt"


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """What holds for every folder of the set; the names are sd-scripts'.

    resolution: pixels of a side, or (width, height). keep_tokens: the leading tags that are never
    shuffled, which are the triggers. batch_size: None leaves it to the training options.
    `caption_extension` is no choice: always `.txt`.
    """

    resolution: int | tuple[int, int] = 512
    shuffle_caption: bool = True
    keep_tokens: int = 1
    flip_aug: bool = False
    enable_bucket: bool = True
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class ExportSubset:
    """One folder of the set. class_tokens: the caption of images without one. keep_tokens: None
    takes the general.

    conditioning_data_dir: where the masks of all its images lie, for masked_loss.
    """

    image_dir: str
    num_repeats: int
    is_reg: bool = False
    class_tokens: str | None = None
    keep_tokens: int | None = None
    conditioning_data_dir: str | None = None

    def __post_init__(self) -> None:
        if self.num_repeats < 1:
            hint = "sd-scripts skips such a folder without a word"
            raise ConfigError(
                f"num_repeats = {self.num_repeats} for {display(self.image_dir)}", hint=hint
            )


@dataclass(frozen=True, slots=True)
class DatasetExport:
    """A dataset.toml: training folders first, then the regularisation folders."""

    general: DatasetSettings
    subsets: tuple[ExportSubset, ...]


@dataclass(frozen=True, slots=True)
class ImageText:
    """An image with its tags, and a sentence about it where there is one."""

    image: Path
    caption: Caption
    sentence: str = ""


def kohya_dataset_toml(export: DatasetExport) -> str:
    """Word a dataset as sd-scripts' `--dataset_config` file.

    Each folder is written out under [[datasets.subsets]], as people edit it; tomli_w alone would
    put it in one line.
    """
    import tomli_w

    general = _given(asdict(export.general))
    general["caption_extension"] = CAPTION_EXTENSION
    parts = [tomli_w.dumps({"general": general}), "[[datasets]]\n"]
    for subset in export.subsets:
        table = {"is_reg": True} if subset.is_reg else {}
        order = ("class_tokens", "num_repeats", "keep_tokens", "image_dir", "conditioning_data_dir")
        lines = (
            tomli_w.dumps(table | _given({name: getattr(subset, name) for name in order}))
            .rstrip("\n")
            .split("\n")
        )
        parts.append("".join(f"  {line}\n" for line in ["[[datasets.subsets]]", *lines]))
    return "\n".join(parts)


def kohya_config_toml(options: Mapping[str, object], layout: Mapping[str, Sequence[str]]) -> str:
    """Word training options (sd-scripts' names, None = not given) as sd-scripts' `--config_file`.

    layout: section -> its options, in the order in which they are written. Raises ConfigError for a
    name that no section has.
    """
    import tomli_w

    return tomli_w.dumps(sections(options, layout))


def sections(options: Mapping[str, object], layout: Mapping[str, Sequence[str]]) -> TrainExport:
    """Assign each given option to its section, all in the order of the layout; empty sections are
    left out.

    resolution becomes text (`512,768`): sd-scripts splits it at the comma, whatever it is. Raises
    ConfigError for an unknown name, with the nearest one.
    """
    known = {name for names in layout.values() for name in names}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else "see `sd-scripts train_network.py --help` for its options"
            )
            raise ConfigError(f"sd-scripts has no option {name!r}", hint=hint)
    given = _given(options)
    if isinstance(size := given.get("resolution"), int | list):
        given["resolution"] = ",".join(map(str, size if isinstance(size, list) else [size]))
    sorted_in = {
        section: {name: given[name] for name in names if name in given}
        for section, names in layout.items()
    }
    return {section: table for section, table in sorted_in.items() if table}


def imagefolder_metadata(items: Iterable[ImageText], folder: Path) -> str:
    """Word captions as the `metadata.jsonl` of a Hugging Face imagefolder that stands in `folder`.

    One JSON object a line: file_name relative to the folder, with slashes, and text. Raises
    InputError for an image that is not below the folder.
    """
    rows = (
        {"file_name": _relative(item.image, folder).as_posix(), "text": item.caption.text()}
        for item in items
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def meta_json(items: Iterable[ImageText], folder: Path, *, full_path: bool = False) -> str:
    """Word captions as the metadata file of sd-scripts' fine-tuning method (`in_json`,
    `metadata_file`).

    One entry an image, `{key: {"tags": ..., "caption": ...}}` as its merge_dd_tags and
    merge_captions write it; `caption` is the sentence, where there is one. key: the path below
    `folder` without its suffix, which sd-scripts completes by looking in `image_dir`; with
    full_path the absolute path. Raises InputError where two images (`a.jpg`, `a.png`) would share
    a key.
    """
    entries: dict[str, dict[str, str]] = {}
    for item in items:
        below = _relative(item.image, folder)
        key = str(item.image.absolute()) if full_path else below.with_suffix("").as_posix()
        if key in entries:
            hint = "dsk rename gives every image its own stem"
            raise InputError(
                f"two images have the stem {display(key)}: they would share an entry", hint=hint
            )
        entries[key] = {"tags": item.caption.text()}
        if item.sentence:
            entries[key]["caption"] = item.sentence
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _given(options: Mapping[str, object]) -> dict[str, TomlValue]:
    """Return the options that have a value, in the types that TOML has."""
    return {name: _toml(name, value) for name, value in options.items() if value is not None}


def _toml(name: str, value: object) -> TomlValue:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return list(value)
    raise ConfigError(f"{name} = {value!r} cannot be written to a config file")


def _relative(image: Path, folder: Path) -> Path:
    try:
        return image.relative_to(folder)
    except ValueError:
        raise InputError(
            f"{display(image)} is not in {display(folder)}", hint="export the folder above both"
        ) from None
