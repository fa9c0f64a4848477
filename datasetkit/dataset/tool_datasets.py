"""Datasets as OneTrainer, ai-toolkit and diffusion-pipe describe them: read and written by the
facts of their formats.

Each names folders of images with captions beside them. What is not about folders, captions,
repeats and sizes belongs to the training and is not read here.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

Tool = Literal["onetrainer", "ai-toolkit", "diffusion-pipe"]
TITLES: Final[Mapping[Tool, str]] = {
    "onetrainer": "OneTrainer",
    "ai-toolkit": "ai-toolkit",
    "diffusion-pipe": "diffusion-pipe",
}
# The file of each that an export writes. They hold absolute paths: each tool counts relative ones
# from where it is started.
FILES: Final[Mapping[Tool, str]] = {
    "onetrainer": "onetrainer-concepts.json",
    "ai-toolkit": "ai-toolkit.yaml",
    "diffusion-pipe": "diffusion-pipe.toml",
}
# What OneTrainer calls the kinds of its concepts.
_REG_TYPES: Final = ("PRIOR_PREDICTION",)


@dataclass(frozen=True, slots=True)
class ToolConcept:
    """One folder of images. folder: as the file writes it. samples: images of an epoch, instead of
    repeats. has_masks: masks lie in its folder `masks`. has_sentences: its captions are sentences,
    or have them: no tool must shuffle their clauses.
    """

    folder: str
    name: str = ""
    repeats: float = 1
    samples: int | None = None
    is_reg: bool = False
    trigger: tuple[str, ...] = ()
    recursive: bool = False
    has_masks: bool = False
    has_sentences: bool = False


@dataclass(frozen=True, slots=True)
class ToolDataset:
    """The folders of a file, and what it says of all of them. resolutions: sides in pixels. notes:
    what is not taken over, and what to do about it.
    """

    concepts: tuple[ToolConcept, ...]
    resolutions: tuple[int, ...] = ()
    shuffle_caption: bool | None = None
    keep_tokens: int | None = None
    flip_aug: bool | None = None
    notes: tuple[str, ...] = ()


def read(text: str, source: str) -> tuple[Tool, ToolDataset]:
    """Read a file of one of the tools, which its content tells. source: what errors call it.

    Raises ConfigError.
    """
    data = _parsed(text, source)
    if isinstance(data, list) and data and all(isinstance(c, dict) and "path" in c for c in data):
        return "onetrainer", _of_onetrainer(data)
    if isinstance(data, dict):
        if isinstance(data.get("concepts"), list) and data["concepts"]:  # a OneTrainer preset
            entries = [c for c in data["concepts"] if isinstance(c, dict) and "path" in c]
            return "onetrainer", _of_onetrainer(entries)
        if isinstance(data.get("directory"), list):
            return "diffusion-pipe", _of_diffusion_pipe(data)
        if processes := _processes(data):
            return "ai-toolkit", _of_ai_toolkit(processes)
    raise ConfigError(
        f"{source} is not a dataset of OneTrainer, ai-toolkit or diffusion-pipe",
        hint="name its concepts.json, its YAML job, or its dataset.toml",
    )


def write(tool: Tool, dataset: ToolDataset) -> str:
    """Return the text of a tool's file. The folders must be absolute."""
    if tool == "onetrainer":
        concepts = [_onetrainer_concept(concept, dataset) for concept in dataset.concepts]
        return json.dumps(concepts, indent=4, ensure_ascii=False) + "\n"
    if tool == "ai-toolkit":
        return _ai_toolkit_yaml(dataset)
    return _diffusion_pipe_toml(dataset)


def whole_repeats(concept: ToolConcept, images: int) -> int:
    """Return the repeats of a folder as a whole number of at least 1, for its number of images."""
    if concept.samples is not None and images:
        return max(1, round(concept.samples / images))
    return max(1, round(concept.repeats))


def folder_name(folder: str) -> str:
    """Return the last part of a path of any system."""
    path = PureWindowsPath(folder) if "\\" in folder else PurePosixPath(folder)
    return path.name


def _parsed(text: str, source: str) -> Any:
    """Parse JSON, TOML or YAML: whichever the text is."""
    reasons = []
    for name, parse in (("JSON", json.loads), ("TOML", tomllib.loads), ("YAML", _yaml)):
        try:
            return parse(text)
        except (ValueError, RecursionError) as error:
            reasons.append(f"{name}: {str(error).splitlines()[0]}")
    raise ConfigError(f"{source} is not JSON, TOML or YAML", hint="; ".join(reasons))


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _of_onetrainer(entries: Iterable[Mapping[str, Any]]) -> ToolDataset:
    concepts: list[ToolConcept] = []
    notes: list[str] = []
    texts: list[Mapping[str, Any]] = []
    images: list[Mapping[str, Any]] = []
    for entry in entries:
        name = str(entry.get("name") or folder_name(str(entry["path"])))
        if entry.get("enabled") is False:
            notes.append(f"{name} is not enabled and is left out")
            continue
        kind = str(entry.get("type") or "STANDARD")
        if entry.get("validation_concept") or kind == "VALIDATION":
            notes.append(f"{name} is for validation and is left out; see validation_split")
            continue
        text = _table(entry.get("text"))
        number = _number(entry.get("balancing", entry.get("repeats", 1)), 1)
        by_samples = str(entry.get("balancing_strategy", "REPEATS")).endswith("SAMPLES")
        concept = ToolConcept(
            str(entry["path"]),
            name,
            repeats=1 if by_samples else number,
            samples=int(number) if by_samples else None,
            is_reg=kind in _REG_TYPES,
            recursive=entry.get("include_subdirectories") is True,
        )
        source = text.get("prompt_source", "sample")
        if source == "filename":
            notes.append(
                f"{name} has its captions in the file names: "
                f"dsk import {display(concept.folder)} --from filename"
            )
        elif source != "sample":
            notes.append(
                f"{name} draws its captions from {display(str(text.get('prompt_path', '')))}: "
                "write one beside each image"
            )
        concepts.append(concept)
        texts.append(text)
        images.append(_table(entry.get("image")))
    return ToolDataset(
        tuple(concepts),
        shuffle_caption=_shared([t.get("enable_tag_shuffling") for t in texts], bool),
        keep_tokens=_shared([t.get("keep_tags_count") for t in texts], int),
        flip_aug=_shared([i.get("enable_random_flip") for i in images], bool),
        notes=tuple(notes),
    )


def _is_shuffled(concept: ToolConcept, dataset: ToolDataset) -> bool:
    return bool(dataset.shuffle_caption) and not concept.has_sentences


def _onetrainer_concept(concept: ToolConcept, dataset: ToolDataset) -> dict[str, Any]:
    """Return an entry of concepts.json; what is left out has OneTrainer's default."""
    return {
        "name": concept.name,
        "path": concept.folder,
        "enabled": True,
        "type": _REG_TYPES[0] if concept.is_reg else "STANDARD",
        "include_subdirectories": concept.recursive,
        "balancing": float(concept.repeats),
        "balancing_strategy": "REPEATS",
        "image": {"enable_random_flip": bool(dataset.flip_aug), "enable_crop_jitter": False},
        "text": {
            "prompt_source": "sample",
            "enable_tag_shuffling": _is_shuffled(concept, dataset),
            "tag_delimiter": ",",
            "keep_tags_count": dataset.keep_tokens or 0,
        },
    }


def _processes(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the processes of an ai-toolkit job that have datasets."""
    processes = _table(data.get("config")).get("process")
    found = processes if isinstance(processes, list) else []
    return [p for p in found if isinstance(p, dict) and isinstance(p.get("datasets"), list)]


def _of_ai_toolkit(processes: Sequence[Mapping[str, Any]]) -> ToolDataset:
    concepts: list[ToolConcept] = []
    notes: list[str] = []
    entries: list[Mapping[str, Any]] = []
    for process in processes:
        for entry in map(_table, process["datasets"]):
            folder = str(entry.get("folder_path") or entry.get("dataset_path") or "")
            if not folder:
                notes.append("a dataset without folder_path is left out")
                continue
            notes += _ai_toolkit_notes(entry, folder)
            concepts.append(_ai_toolkit_concept(entry, folder, process.get("trigger_word")))
            entries.append(entry)
    sizes = [_sides(entry.get("resolution")) for entry in entries]
    return ToolDataset(
        tuple(concepts),
        resolutions=tuple(dict.fromkeys(side for row in sizes for side in row)),
        shuffle_caption=_shared([e.get("shuffle_tokens") for e in entries], bool),
        keep_tokens=_shared([e.get("keep_tokens") for e in entries], int),
        flip_aug=_shared([e.get("flip_x") for e in entries], bool),
        notes=tuple(notes),
    )


def _ai_toolkit_concept(entry: Mapping[str, Any], folder: str, trigger: Any) -> ToolConcept:
    word = str(entry.get("trigger_word") or trigger or "").strip()
    return ToolConcept(
        folder,
        folder_name(folder),
        repeats=_number(entry.get("num_repeats", 1), 1),
        is_reg=entry.get("is_reg") is True or entry.get("prior_reg") is True,
        trigger=(word,) if word else (),
        recursive=True,
        has_masks=bool(entry.get("mask_path")),
    )


def _ai_toolkit_notes(entry: Mapping[str, Any], folder: str) -> Iterator[str]:
    name = folder_name(folder)
    ending = str(entry.get("caption_ext") or "txt").lstrip(".")
    if ending != "txt":
        yield f"{name} has its captions in .{ending}: dsk import {display(folder)}"
    if entry.get("default_caption"):
        yield f"{name}: images without a caption have the name of the concept here"


def _ai_toolkit_yaml(dataset: ToolDataset) -> str:
    import yaml

    entries = [
        {
            "folder_path": concept.folder,
            "caption_ext": "txt",
            "num_repeats": round(concept.repeats),
            "is_reg": concept.is_reg,
            "shuffle_tokens": _is_shuffled(concept, dataset),
            "keep_tokens": dataset.keep_tokens or 0,
            "flip_x": bool(dataset.flip_aug),
            "resolution": list(dataset.resolutions or (512,)),
            **({"trigger_word": ", ".join(concept.trigger)} if concept.trigger else {}),
            **({"mask_path": f"{concept.folder}/masks"} if concept.has_masks else {}),
        }
        for concept in dataset.concepts
    ]
    job = {"job": "extension", "config": {"process": [{"type": "sd_trainer", "datasets": entries}]}}
    note = "# The datasets of an ai-toolkit job: copy `datasets` into yours, which has the model.\n"
    text: str = yaml.safe_dump(job, sort_keys=False, allow_unicode=True)
    return note + text


def _of_diffusion_pipe(data: Mapping[str, Any]) -> ToolDataset:
    concepts: list[ToolConcept] = []
    notes: list[str] = []
    sizes = list(_sides(data.get("resolutions")))
    for entry in data["directory"]:
        folder = _table(entry).get("path")
        if not folder:
            notes.append("a directory without path is left out")
            continue
        sizes += _sides(entry.get("resolutions"))
        concepts.append(
            ToolConcept(
                str(folder),
                folder_name(str(folder)),
                repeats=_number(entry.get("num_repeats", 1), 1),
                has_masks=bool(entry.get("mask_path")),
            )
        )
        if prefix := entry.get("caption_prefix"):
            notes.append(
                f"{concepts[-1].name}: its captions have the prefix {display(str(prefix))} there; "
                "dsk rules --trigger adds it"
            )
    shuffled = data.get("shuffle_tags") is True or bool(data.get("cache_shuffle_num"))
    return ToolDataset(
        tuple(concepts),
        resolutions=tuple(dict.fromkeys(sizes)),
        shuffle_caption=shuffled or None,
        notes=tuple(notes),
    )


def _diffusion_pipe_toml(dataset: ToolDataset) -> str:
    import tomli_w

    directories = [
        {
            "path": concept.folder,
            "num_repeats": round(concept.repeats),
            **({"mask_path": f"{concept.folder}/masks"} if concept.has_masks else {}),
        }
        for concept in dataset.concepts
        if not concept.is_reg  # it has no regularisation sets
    ]
    # It shuffles all folders or none.
    is_shuffled = all(_is_shuffled(concept, dataset) for concept in dataset.concepts)
    document = {
        "resolutions": list(dataset.resolutions or (512,)),
        "enable_ar_bucket": True,
        "min_ar": 0.5,
        "max_ar": 2.0,
        "num_ar_buckets": 7,
        **({"cache_shuffle_num": 10} if is_shuffled else {}),
    }
    tables = (f"[[directory]]\n{tomli_w.dumps(table)}" for table in directories)
    return "\n".join([tomli_w.dumps(document), *tables])


def _sides(value: Any) -> tuple[int, ...]:
    """Return resolutions as sides of squares; a pair (width, height) has the side of its area."""
    sides: list[int] = []
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, list) and len(each) >= 2 and all(map(_is_number, each[:2])):
            sides.append(round(math.sqrt(each[0] * each[1])))
        elif _is_number(each) or (isinstance(each, str) and re.fullmatch(r"\d+", each)):
            sides.append(int(each))
    return tuple(sides)


def _shared(values: Sequence[Any], kind: type) -> Any:
    """Return the value that all folders give, None if they differ or do not say."""
    given = {value for value in values if type(value) is kind}
    return given.pop() if len(given) == 1 and None not in values else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _number(value: Any, otherwise: float) -> float:
    return float(value) if _is_number(value) else otherwise
