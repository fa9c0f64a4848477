"""`dsk import FILE`: a dataset of OneTrainer, ai-toolkit or diffusion-pipe, as a dsk.toml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasetkit.core.errors import InputError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.core.toml_text import read_text
from datasetkit.dataset import layout, tool_datasets
from datasetkit.dataset.naming import name_fault
from datasetkit.dataset.tool_datasets import Tool, ToolConcept, ToolDataset
from datasetkit.images.listing import holds_images, list_images, subfolders
from datasetkit.images.scan import require_folder
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_unrecovered
from datasetkit.verbs.shared import schema_file


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A folder of an imported dataset: its name, its images, and their repeats."""

    name: str
    folder: Path
    images: int
    repeats: int
    is_reg: bool = False
    trigger: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportDatasetResult:
    """The dsk.toml that was written. notes: what it does not hold, and what to do about it."""

    path: Path
    tool: Tool
    folders: tuple[DatasetFolder, ...]
    notes: tuple[str, ...]
    entry: int | None


def import_dataset(
    file: Path, context: RunContext = DEFAULT_CONTEXT, *, project: Path = Path()
) -> ImportDatasetResult:
    """Write a dsk.toml with the folders, repeats and sizes of another tool's dataset; images and
    captions stay where they are.

    project: the folder that gets the dsk.toml. Raises InputError if it has one, or if a folder of
    the file does not exist; ConfigError for a file that is of none of the tools.
    """
    target = require_folder(project, hint="create the folder first") / CONFIG_NAME
    if target.exists():
        raise InputError(
            f"{display(target)} already exists", hint="go to another folder, or move it away"
        )
    tool, dataset = tool_datasets.read(read_text(file), display(file))
    folders, notes = _folders(dataset, file)
    text = _dsk_toml(folders, dataset, tool, file, project)
    with open_unrecovered(project, context) as opened:
        title = f"{tool} {display(file.name)}"
        entry = opened.apply(Plan((WriteText(target, text, None),)), "import", title)
        if not context.dry_run:
            schema_file.place(project)
    return ImportDatasetResult(target, tool, folders, notes, entry)


def _folders(dataset: ToolDataset, file: Path) -> tuple[tuple[DatasetFolder, ...], tuple[str, ...]]:
    """Return the folders with images, and the notices. Raises InputError."""
    folders: list[DatasetFolder] = []
    notes = list(dataset.notes)
    for concept in dataset.concepts:
        folder = _existing(concept.folder, file)
        images = len(list_images(folder).images)
        if any(map(holds_images, subfolders(folder))):
            notes.append(f"{display(folder)} has images in subfolders: name each as a [[concept]]")
        if not images:
            notes.append(f"{display(folder)} has no images and is left out")
            continue
        name = _name(concept, taken={f.name for f in folders if f.is_reg == concept.is_reg})
        repeats = tool_datasets.whole_repeats(concept, images)
        if concept.samples is None and repeats != concept.repeats:
            notes.append(f"{name}: {concept.repeats:g} repeats there are {repeats} here")
        folders.append(
            DatasetFolder(name, folder, images, repeats, concept.is_reg, concept.trigger)
        )
    if not any(not f.is_reg for f in folders):
        raise InputError(
            f"{display(file)} names no folder with images to train on",
            hint="check its paths; those that are not absolute count from its folder",
        )
    reg = [f for f in folders if f.is_reg]
    notes += [f"{display(f.folder)} is a second regularisation set: left out" for f in reg[1:]]
    return tuple(f for f in folders if f not in reg[1:]), tuple(notes)


def _existing(folder: str, file: Path) -> Path:
    """Return a folder of the file: absolute, from the file's folder, or from the current one."""
    spellings = [Path(folder), Path(folder.replace("\\", "/"))]
    for path in (base / spelling for spelling in spellings for base in (file.parent, Path())):
        if path.is_dir():
            return path
    raise InputError(
        f"{display(file)} names the folder {display(folder)}, which does not exist here",
        hint="correct its path in the file; those that are not absolute count from its folder",
    )


def _name(concept: ToolConcept, taken: set[str]) -> str:
    """Return a name that a folder `<repeats>_<name>` can have, and no other concept has."""
    parsed = layout.parse(concept.name or tool_datasets.folder_name(concept.folder))
    name = parsed.name if isinstance(parsed, layout.Concept) else concept.name
    if name_fault(name) or not isinstance(layout.parse(f"1_{name}"), layout.Concept):
        name = "concept"
    numbered = (f"{name}-{n}" for n in range(2, 10_000))
    return name if name not in taken else next(n for n in numbered if n not in taken)


def _dsk_toml(
    folders: Sequence[DatasetFolder], dataset: ToolDataset, tool: Tool, file: Path, project: Path
) -> str:
    import tomli_w

    reg = next((f for f in folders if f.is_reg), None)
    steps = ["layout", *(["reg"] if reg else []), "report", "export"]
    tables: dict[str, Any] = {
        "run": {"steps": steps},
        "concept": [_concept(f, project) for f in folders if not f.is_reg],
        "layout": {"out": "dataset"},
    }
    if reg is not None:
        tables["reg"] = {
            "folder": _seen_from(project, reg.folder),
            "class_name": reg.name,
            "repeats": reg.repeats,
        }
    if train := _train(dataset):
        tables["train"] = train
    title = f"# The dataset of {display(file.name)} ({tool_datasets.TITLES[tool]})."
    head = f"{schema_file.LINE}\n{title} Run it with: dsk run dsk.toml\n\n"
    return head + tomli_w.dumps(tables)


def _concept(folder: DatasetFolder, project: Path) -> Mapping[str, Any]:
    table = {"name": folder.name, "folder": _seen_from(project, folder.folder)}
    trigger = {"trigger": list(folder.trigger)} if folder.trigger else {}
    return {**table, **trigger, "repeats": folder.repeats}


def _train(dataset: ToolDataset) -> dict[str, Any]:
    """Return the keys of [train] that say how images and captions are read."""
    options: dict[str, Any] = {}
    if len(dataset.resolutions) == 1:
        options["resolution"] = dataset.resolutions[0]
    elif dataset.resolutions:
        options["resolutions"] = list(dataset.resolutions)
    for name in ("shuffle_caption", "keep_tokens", "flip_aug"):
        if (value := getattr(dataset, name)) is not None:
            options[name] = value
    return options


def _seen_from(project: Path, folder: Path) -> str:
    """Return a folder relative to the project if it lies below it, else as an absolute path."""
    whole, root = folder.resolve(), project.resolve()
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()
