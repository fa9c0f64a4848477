"""Exports: a dataset and its training options in the formats of sd-scripts and Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from datasetkit.captions import grammar
from datasetkit.captions.caption import joined_lines, one_line, source_text
from datasetkit.captions.grammar import Piece
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import display
from datasetkit.core.records import Caption
from datasetkit.core.suggest import did_you_mean

TomlValue = str | int | float | bool | Sequence[str | int | float]
# Section -> options of a config.toml; sd-scripts ignores the section names.
TrainExport = dict[str, dict[str, TomlValue]]

# sd-scripts reads `.caption` by default; taggers write `.txt`.
CAPTION_EXTENSION: Final = ".txt"
# Of mixed captions on one line, beside the `.txt`: of that sd-scripts reads the first line only.
ONE_LINE_EXTENSION: Final = ".kohya"
# What separates kept tags from those that are shuffled, where [train] names nothing else.
SEPARATOR: Final = "|||"


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """The settings of all folders of a dataset, named as in sd-scripts.

    resolution: pixels of a side, or (width, height); it and the range of sides are None where each
    `[[datasets]]` has its own. keep_tokens: how many leading tags are not
    shuffled: the triggers. batch_size: None to leave it to the training options.
    `caption_extension` is always `.txt`.
    """

    resolution: int | tuple[int, int] | None = 512
    shuffle_caption: bool = True
    keep_tokens: int = 1
    flip_aug: bool = False
    enable_bucket: bool = True
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    min_bucket_reso: int | None = 256
    max_bucket_reso: int | None = 1024
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class BlockSettings:
    """The settings of one `[[datasets]]` of several: all folders are trained at this resolution."""

    resolution: int
    min_bucket_reso: int
    max_bucket_reso: int


@dataclass(frozen=True, slots=True)
class ExportSubset:
    """One folder of a dataset. class_tokens: the caption of images without one. keep_tokens: None
    for the general one.

    conditioning_data_dir: the folder of the masks of all its images, for masked_loss.

    Of captions with sentences: caption_extension: of the captions that the export writes, see
    `sd_scripts_text`. keep_tokens_separator: what separates kept tags in them. shuffle_caption,
    caption_tag_dropout_rate, token_warmup_step: turned off where captions are sentences. None: the
    general ones.
    """

    image_dir: str
    num_repeats: int
    is_reg: bool = False
    class_tokens: str | None = None
    keep_tokens: int | None = None
    conditioning_data_dir: str | None = None
    caption_extension: str | None = None
    keep_tokens_separator: str | None = None
    shuffle_caption: bool | None = None
    caption_tag_dropout_rate: float | None = None
    token_warmup_step: int | None = None

    def __post_init__(self) -> None:
        if self.num_repeats < 1:
            hint = "use 1 or more: sd-scripts would skip the folder silently"
            raise ConfigError(
                f"num_repeats = {self.num_repeats} for {display(self.image_dir)}", hint=hint
            )


@dataclass(frozen=True, slots=True)
class DatasetExport:
    """The content of a dataset.toml: training folders, then regularisation folders. blocks: of each
    `[[datasets]]`, if there are several; each has all folders.
    """

    general: DatasetSettings
    subsets: tuple[ExportSubset, ...]
    blocks: tuple[BlockSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageText:
    """An image with its caption. sentence: one that the caption does not have itself."""

    image: Path
    caption: Caption
    sentence: str = ""


def sd_scripts_text(caption: Caption, *, keep_tokens: int, separator: str) -> str:
    """Return a mixed caption as sd-scripts has to read it: each of its captions on one line.

    separator: written around the tags that sd-scripts may shuffle and drop, so that sentences and
    kept tags stay; "" if it changes no tags. keep_tokens: how many tags are kept.
    """
    lines = [
        _sd_scripts_line(of_line, keep_tokens, separator)
        for of_line in grammar.pieces(source_text(caption), caption.syntax)
    ]
    return "".join(f"{line}\n" for line in lines)


def _sd_scripts_line(pieces: Sequence[Piece], keep_tokens: int, separator: str) -> str:
    texts = [" ".join(piece.text.split()) for piece in pieces]
    free = next((n for n, piece in enumerate(pieces) if not piece.is_sentence), None)
    if not separator:
        return joined_lines(texts)
    if free is None:
        return f"{joined_lines(texts)} {separator}"
    leading = sum(piece.leading for piece in pieces[:free])
    kept = grammar.kept_and_free(texts[free], separator)
    if kept is None:
        tags = grammar.comma_tags(texts[free])
        number = max(0, keep_tokens - leading)
        kept = ", ".join(tags[:number]), ", ".join(tags[number:]), ""
    first, tags_between, last = (part.strip(" ,") for part in kept)
    before = joined_lines([text for text in (*texts[:free], first) if text])
    after = joined_lines([text for text in (last, *texts[free + 1 :]) if text])
    parts = [before, tags_between, *([after] if after else [])]
    return f" {separator} ".join(parts).strip()


def kohya_dataset_toml(export: DatasetExport) -> str:
    """Return the text of sd-scripts' `--dataset_config` file.

    Each folder is a table [[datasets.subsets]], which is easy to edit; tomli_w would write inline
    tables.
    """
    import tomli_w

    general = _given(asdict(export.general))
    general["caption_extension"] = CAPTION_EXTENSION
    subsets = [_subset_table(subset) for subset in export.subsets]
    parts = [tomli_w.dumps({"general": general})]
    for block in export.blocks or (None,):
        settings = tomli_w.dumps(_given(asdict(block))) if block else ""
        parts += [f"[[datasets]]\n{settings}", *subsets]
    return "\n".join(parts)


def _subset_table(subset: ExportSubset) -> str:
    import tomli_w

    table = {"is_reg": True} if subset.is_reg else {}
    order = (
        "class_tokens", "num_repeats", "keep_tokens", "keep_tokens_separator", "shuffle_caption",
        "caption_tag_dropout_rate", "token_warmup_step", "caption_extension", "image_dir",
        "conditioning_data_dir",
    )  # fmt: skip
    lines = (
        tomli_w.dumps(table | _given({name: getattr(subset, name) for name in order}))
        .rstrip("\n")
        .split("\n")
    )
    return "".join(f"  {line}\n" for line in ["[[datasets.subsets]]", *lines])


def kohya_config_toml(options: Mapping[str, object], layout: Mapping[str, Sequence[str]]) -> str:
    """Return the text of sd-scripts' `--config_file`. options: sd-scripts' name -> value or None.

    layout: section -> its options, in the order of the file. Raises ConfigError for an unknown
    option.
    """
    import tomli_w

    return tomli_w.dumps(sections(options, layout))


def sections(options: Mapping[str, object], layout: Mapping[str, Sequence[str]]) -> TrainExport:
    """Assign each option that is set to its section, in the order of the layout, without empty
    sections.

    resolution becomes text (`512,768`): sd-scripts always splits it at a comma. Raises ConfigError
    for an unknown option, with the nearest one.
    """
    names_known = {name for names in layout.values() for name in names}
    for name in options:
        if name not in names_known:
            otherwise = "see `sd-scripts train_network.py --help` for its options"
            hint = did_you_mean(name, sorted(names_known), otherwise, form="'{}'")
            raise ConfigError(f"sd-scripts has no option {name!r}", hint=hint)
    given = _given(options)
    if isinstance(size := given.get("resolution"), int | list):
        given["resolution"] = ",".join(map(str, size if isinstance(size, list) else [size]))
    tables = {
        section: {name: given[name] for name in names if name in given}
        for section, names in layout.items()
    }
    return {section: table for section, table in tables.items() if table}


def imagefolder_metadata(items: Iterable[ImageText], folder: Path) -> str:
    """Return the text of the `metadata.jsonl` of a Hugging Face imagefolder in `folder`.

    One JSON object per line: file_name relative to the folder, with slashes, and text. Raises
    InputError for an image outside of the folder.
    """
    rows = (
        {"file_name": _relative(item.image, folder).as_posix(), "text": one_line(item.caption)}
        for item in items
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def meta_json(items: Iterable[ImageText], folder: Path, *, full_path: bool = False) -> str:
    """Return the text of the metadata file of sd-scripts' fine-tuning method (`in_json`,
    `metadata_file`).

    One entry per image, `{key: {"tags": ..., "caption": ...}}`, as merge_dd_tags and merge_captions
    write it; `caption` has the sentences, if there are any; sd-scripts trains it before the tags.
    key: the path below `folder` without its
    suffix, which sd-scripts searches in `image_dir`; with full_path the absolute path. Raises
    InputError if two images (`a.jpg`, `a.png`) would share a key.
    """
    entries: dict[str, dict[str, str]] = {}
    for item in items:
        below = _relative(item.image, folder)
        key = str(item.image.absolute()) if full_path else below.with_suffix("").as_posix()
        if key in entries:
            hint = "run dsk rename to give every image its own stem"
            raise InputError(
                f"two images with the stem {display(key)} would share an entry", hint=hint
            )
        entries[key] = _meta_entry(item.caption)
        if item.sentence:
            entries[key]["caption"] = item.sentence
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _meta_entry(caption: Caption) -> dict[str, str]:
    if caption.syntax.kind == "tags":
        return {"tags": caption.text()}
    if caption.syntax.kind == "sentence":
        return {"caption": one_line(caption)}
    entry = {"tags": ", ".join(caption.tags), "caption": joined_lines(caption.sentences)}
    return {key: text for key, text in entry.items() if text}


def _given(options: Mapping[str, object]) -> dict[str, TomlValue]:
    """Return the options that are set, in TOML types."""
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
            f"{display(image)} is not in {display(folder)}", hint="export a folder that has both"
        ) from None
