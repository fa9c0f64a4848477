"""The tab Compare: grids and previews as tables of cells, marks, and keeping a LoRA file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import display, read_existing, read_regular, write_atomic
from datasetkit.options.command_line import typed
from datasetkit.options.grid import FOLDER
from datasetkit.options.keep import KeepOptions
from datasetkit.options.toml import find as find_config
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import open_project
from datasetkit.project.signature import state_folder
from datasetkit.verbs.keep import KeepResult, package
from datasetkit.verbs.keep import keep as keep_file
from datasetkit.verbs.shared.kept_loras import KeptLora, kept_loras
from datasetkit.verbs.shared.lora_card import triggers_in
from datasetkit.verbs.shared.web_interfaces import lora_folder
from datasetkit.verbs.studio import grid_files, lora_zip
from datasetkit.verbs.studio.grid_files import GridCell, GridSource
from datasetkit.verbs.studio.images import ShownImage
from datasetkit.verbs.studio.lora_zip import LoraZip
from datasetkit.verbs.studio.run_files import run_id
from datasetkit.verbs.studio.session import StudioSession
from trainer.lora_files import describe, lora_file

_FOLDERS: Final = "kept-folders.json"  # in the user's state folder
_MOST_FOLDERS: Final = 10
_LARGEST: Final = 2**16  # bytes


def overview(studio: StudioSession) -> dict[str, Any]:
    """Return the grids and previews of the project, and the runs whose files can be drawn."""
    sources = grid_files.find_grids(studio.root)
    grids = []
    for source in sources:
        with suppress(InputError):
            cells = grid_files.cells_of(source)
            grids.append(_entry(studio, source, cells, _read(studio, cells)))
    runs = [_run(studio, source) for source in grid_files.find_runs(studio.root)]
    return {"grids": grids, "runs": runs}


def _entry(
    studio: StudioSession,
    source: GridSource,
    cells: Sequence[GridCell],
    images: Mapping[Path, ShownImage],
) -> dict[str, Any]:
    name = _run_name(source, cells)
    return {
        "id": source.id,
        "title": _title(source, cells),
        "folder": studio.shown(source.folder),
        "kind": source.kind,
        "images": len(images),
        "missing": len(cells) - len(images),
        "run": run_id(_results(studio, source, cells), name) if name else "",
    }


def _results(studio: StudioSession, source: GridSource, cells: Sequence[GridCell]) -> Path:
    """Return the folder of the LoRAs of a grid, of several the first."""
    recorded = (_recorded_folder(studio, source, cell) for cell in cells if cell.lora)
    return next(filter(None, recorded), source.results)


def _recorded_folder(studio: StudioSession, source: GridSource, cell: GridCell) -> Path | None:
    """Return the folder in which the LoRA of a cell lies by the record; None without one that the
    page may use. The record may be of somebody else: only with a hash does it name a file.
    """
    if cell.lora_folder and cell.hash:
        with suppress(InputError):
            return studio.roots.path(str(source.folder / cell.lora_folder))
    return None


def _run_name(source: GridSource, cells: Sequence[GridCell]) -> str:
    """Return the name of the run of a grid, of several the first; "" for the base alone."""
    return source.run or next((grid_files.run_of(c.lora) for c in cells if c.lora), "")


def _title(source: GridSource, cells: Sequence[GridCell]) -> str:
    if source.kind == "previews":
        return display(source.run)
    runs = dict.fromkeys(grid_files.run_of(cell.lora) for cell in cells if cell.lora)
    axes = grid_files.axes_of(cells).values
    varied = [name for name, values in axes.items() if len(values) > 1]
    return display(f"{', '.join(list(runs)[:3])}: {' x '.join(varied) or 'one image'}")


def _run(studio: StudioSession, source: GridSource) -> dict[str, Any]:
    prompts, seconds = 1, None
    with suppress(InputError):  # a run without previews
        axes = grid_files.axes_of(grid_files.cells_of(source))
        prompts = len(axes.values.get("prompt", ())) or 1
        seconds = grid_files.preview_seconds(source)
    names = grid_files.lora_names(source)
    epochs = [epoch for name in names if (epoch := grid_files.epoch_of(name))]
    if source.run in names:
        epochs.append("last")
    return {
        "id": source.id,
        "name": source.run,
        "folder": studio.shown(source.folder),
        "epochs": epochs,
        "prompts": prompts,
        "seconds": seconds,
    }


def _read(studio: StudioSession, cells: Sequence[GridCell]) -> dict[Path, ShownImage]:
    paths = [cell.path for cell in cells]
    images = studio.images.read(paths, max_pixels=studio.options.max_pixels)
    return {image.path: image for image in images if not image.problem}


def find(studio: StudioSession, grid_id: str) -> GridSource | None:
    """Return the grid of an id, None without one."""
    return studio.grids.find(studio.root, grid_id)


# ---- one grid


@dataclass(frozen=True, slots=True)
class _Lora:
    """A LoRA of a grid. path: None where its file is not there."""

    name: str
    path: Path | None
    hash: str


def table(studio: StudioSession, source: GridSource) -> dict[str, Any]:
    """Return a grid: its axes, its cells with their positions and settings, its LoRA files, what
    was measured, and the marks. Cells without a file are left out.
    """
    cells = grid_files.cells_of(source)
    axes = grid_files.axes_of(cells)
    images = _read(studio, cells)
    loras = _loras(studio, source, cells)
    number_of = {lora.name: n for n, lora in enumerate(loras)}
    marks = grid_files.marks_of(source)
    described = _described(loras)
    return {
        **_entry(studio, source, cells, images),
        "version": _version(source),
        "axes": [{"name": name, "values": values} for name, values in axes.values.items()],
        "cells": [
            {
                "n": n,
                "at": [axes.position(labels) for labels in cell.labels],
                "v": images[cell.path].v,
                "w": images[cell.path].width,
                "h": images[cell.path].height,
                "file": number_of.get(cell.lora),
                "settings": cell.settings,
            }
            for n, cell in enumerate(cells)
            if cell.path in images
        ],
        "files": _file_rows(studio, loras),
        "scores": grid_files.scores_of(source),
        **described,
        "marks": {str(n): marks[c.file] for n, c in enumerate(cells) if c.file in marks},
        "options": grid_files.run_options(
            _results(studio, source, cells), _run_name(source, cells)
        ),
        "command": _draw_command(studio, source, cells, axes.values, loras),
    }


def _version(source: GridSource) -> int:
    """Return a number that grows when the grid or its marks change."""
    times = []
    for path in (source.record, source.marks):
        with suppress(OSError):
            times.append(path.lstat().st_mtime_ns // 1000)
    return max(times, default=0)


def _loras(studio: StudioSession, source: GridSource, cells: Sequence[GridCell]) -> list[_Lora]:
    """Return the LoRAs of a grid in its order. A file whose header has another hash was written
    again since, and is not offered.
    """
    loras: dict[str, _Lora] = {}
    for cell in cells:
        if cell.lora and cell.lora not in loras:
            folder = _recorded_folder(studio, source, cell)
            path = grid_files.lora_file_of(source, cell.lora, folder)
            if path is not None and cell.hash and _is_other(path, cell.hash):
                path = None
            loras[cell.lora] = _Lora(cell.lora, path, cell.hash)
    return list(loras.values())


def _is_other(path: Path, hash_of_tensors: str) -> bool:
    with suppress(DskError, OSError):
        stated = lora_file.read(path).metadata.get("sshs_model_hash", "")
        return bool(stated) and stated != hash_of_tensors
    return True


def _described(loras: Sequence[_Lora]) -> dict[str, Any]:
    """Return the trigger and the family of the first LoRA that can be read."""
    for lora in loras:
        if lora.path is not None:
            with suppress(DskError, OSError):
                file = lora_file.read(lora.path)
                metadata = file.metadata
                trigger = triggers_in(metadata, describe.tags(metadata))
                return {"trigger": trigger, "family": file.family_title}
    return {"trigger": (), "family": ""}


def _file_rows(studio: StudioSession, loras: Sequence[_Lora]) -> list[dict[str, Any]]:
    kept = _kept(studio)
    rows = []
    for n, lora in enumerate(loras):
        size = 0
        with suppress(OSError):
            size = lora.path.stat().st_size if lora.path is not None else 0
        rows.append({
            "n": n,
            "name": lora.name,
            "label": grid_files.label_of(lora.name),
            "bytes": size,
            "sha256": lora.hash,
            "there": lora.path is not None,
            "kept": _kept_row(kept.get(lora.path.resolve())) if lora.path is not None else None,
        })  # fmt: skip
    return rows


def _kept(studio: StudioSession) -> Mapping[Path, KeptLora]:
    with suppress(DskError):
        return kept_loras(studio.root)
    return {}


def _kept_row(kept: KeptLora | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {
        "name": kept.copy.stem, "folder": str(kept.copy.parent), "weight": kept.weight,
        "time": kept.time,
    }  # fmt: skip


# What the record calls the options of `dsk grid`.
_RECORDED: Final = {
    "seed": "seed", "steps": "steps", "cfg": "guidance", "sampler": "sampler",
    "negative": "negative",
}  # fmt: skip


def _draw_command(
    studio: StudioSession,
    source: GridSource,
    cells: Sequence[GridCell],
    axes: Mapping[str, Sequence[str]],
    loras: Sequence[_Lora],
) -> str:
    """Return the command that draws the same images along the same axes."""
    named = _named(_results(studio, source, cells), source, axes, loras)
    words = ["dsk", "grid", *map(studio.shown, named)]
    if source.kind == "grid":
        for flag, (name, labels) in zip("xyz", axes.items(), strict=False):
            values = _typed_values(cells, name, labels)
            is_plain = values and not any("," in value or " " in value for value in values)
            words += [f"--{flag}", f"{name}={','.join(values)}" if is_plain else name]
        words += typed("grid", _drawn_with(cells, axes))
        beside = named[0].parent if named[0].suffix == ".safetensors" else named[0]
        if source.folder != beside / FOLDER:
            words += ["--out", studio.shown(source.folder)]
    return shlex.join(words)


def _named(
    folder: Path, source: GridSource, axes: Mapping[str, Sequence[str]], loras: Sequence[_Lora]
) -> list[Path]:
    """Return what `dsk grid` is given: the folder of the run, or LoRA files where the folder stands
    for others.
    """
    paths = [lora.path for lora in loras]
    files = [path for path in paths if path is not None]
    if source.kind == "previews" or not files or len(files) < len(paths):
        return [folder]
    of_folder = grid_files.run_loras(folder)
    is_chosen = bool({"epoch", "lora"} & set(axes)) and of_folder.issuperset(files)
    return [folder] if is_chosen or of_folder == set(files) else files


def _typed_values(cells: Sequence[GridCell], axis: str, labels: Sequence[str]) -> list[str]:
    """Return the values of an axis as they are typed."""
    if axis not in _RECORDED:
        return [v.removeprefix(f"{axis} ") for v in labels if v != grid_files.WITHOUT]
    of_label = {at[axis]: cell.settings for cell in cells for at in cell.labels if axis in at}
    return [f"{value:g}" if isinstance(value := of_label[label].get(_RECORDED[axis]), float)
            else str(value) for label in labels]  # fmt: skip


def _drawn_with(cells: Sequence[GridCell], axes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the options that all images of a grid were drawn with. Those of an axis are left out;
    prompts of which a part was replaced (`sr`) are those of its first value.
    """
    first = axes.get("sr", ("",))[0]
    rows = [c.settings for c in cells if any(at.get("sr", "") == first for at in c.labels)]
    prompts = tuple(dict.fromkeys(str(row["text"]) for row in rows if "text" in row))
    # Prompts count their seeds up from that of the first one.
    from_first = [
        {**row, "seed": seed - prompts.index(str(row["text"]))}
        for row in rows
        if isinstance(seed := row.get("seed"), int) and "text" in row
    ]
    options = {name: _common(from_first, recorded) for name, recorded in _RECORDED.items()}
    width, height = _common(rows, "width"), _common(rows, "height")
    options["size"] = None if None in (width, height) else (width, height)
    options["prompt"] = prompts or None
    has_base = any(grid_files.WITHOUT in at.values() for cell in cells for at in cell.labels)
    options["baseline"] = None if has_base else False
    of_axes = set(axes) - {"prompt"}
    return {n: value for n, value in options.items() if value is not None and n not in of_axes}


def _common(rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Return the value that all rows have, None if they differ or a row has none."""
    values = {row.get(name) for row in rows}
    return values.pop() if len(values) == 1 else None


def cell_image(studio: StudioSession, source: GridSource, number: int) -> ShownImage | None:
    """Return the image of a cell, None where there is none."""
    cells = grid_files.cells_of(source)
    if not 0 <= number < len(cells):
        return None
    return _read(studio, [cells[number]]).get(cells[number].path)


# ---- marks


def mark(studio: StudioSession, source: GridSource, number: int, value: int) -> dict[str, Any]:
    """Mark a cell with 1 to 5, or with 0 for none; return all marks. Raises InputError."""
    cells = grid_files.cells_of(source)
    if not 0 <= number < len(cells):
        raise InputError(f"the grid has no cell {number}")
    if not 0 <= value <= 5:
        raise InputError("a mark is a number from 1 to 5, or 0 for none")
    file = cells[number].file
    with open_project(studio.root, studio.context) as project:
        marks = grid_files.marks_of(source)
        before = read_existing(source.marks)
        marks = {name: m for name, m in marks.items() if name != file}
        if value:
            marks[file] = value
        text = json.dumps({"marks": dict(sorted(marks.items()))}, indent=1) + "\n"
        plan = Plan((WriteText(source.marks, text, before),))
        title = f"{display(source.folder.name)}: mark {value or 'removed'}"
        entry = project.apply(plan, "grid", title, edited=(source.marks,))
    by_number = {str(n): marks[c.file] for n, c in enumerate(cells) if c.file in marks}
    return {"marks": by_number, "entry": entry}


# ---- keeping a file


def keep(
    studio: StudioSession,
    source: GridSource,
    file: int,
    cell: int | None,
    options: Mapping[str, Any],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Copy the LoRA of a grid to a web interface, with a cell as its preview.

    Raises NotAllowed for a folder that the page may not use, and what `dsk keep` raises.
    """
    cells = grid_files.cells_of(source)
    path = _lora_path(studio, source, cells, file)
    preview = _preview_path(studio, source, cells, cell)
    chosen = studio.roots.path(str(options.get("to") or ""), "the folder")
    studio.roots.output(str(lora_folder(chosen).path), "the folder of LoRAs")
    checked = KeepOptions(
        **{**options, "to": str(chosen), "preview": str(preview) if preview else ""}
    )
    result = keep_file(path, checked, replace(studio.context, dry_run=dry_run))
    if not dry_run:
        _remember(chosen)
    return _keep_row(studio, result, checked)


def download(
    studio: StudioSession,
    source: GridSource,
    file: int,
    cell: int | None,
    options: Mapping[str, Any],
) -> LoraZip:
    """Return what keeping the LoRA of a grid writes as a zip, for a browser on another machine.

    Raises what `dsk keep` raises.
    """
    cells = grid_files.cells_of(source)
    path = _lora_path(studio, source, cells, file)
    preview = _preview_path(studio, source, cells, cell)
    checked = KeepOptions(**options, preview=str(preview) if preview else "")
    return lora_zip.zipped(package(path, checked))


def _lora_path(
    studio: StudioSession, source: GridSource, cells: Sequence[GridCell], file: int
) -> Path:
    loras = _loras(studio, source, cells)
    if not 0 <= file < len(loras):
        raise InputError(f"the grid has no LoRA {file}")
    path = loras[file].path
    if path is None:
        raise InputError(
            f"{display(loras[file].name)} is no longer there, or was written again since",
            hint="draw the grid again",
        )
    return path


def _preview_path(
    studio: StudioSession, source: GridSource, cells: Sequence[GridCell], cell: int | None
) -> Path | None:
    if cell is None:
        return None
    if not 0 <= cell < len(cells):
        raise InputError(f"the grid has no cell {cell}")
    image = _read(studio, [cells[cell]]).get(cells[cell].path)
    if image is None:
        raise InputError("the image of this cell is gone", hint="choose another one")
    return image.path


def _keep_row(studio: StudioSession, result: KeepResult, options: KeepOptions) -> dict[str, Any]:
    words = ["dsk", "keep", studio.shown(result.source), "--to", studio.shown(Path(options.to))]
    words += ["--name", options.name] if options.name else []
    words += ["--weight", f"{options.weight:g}"] if options.weight else []
    words += ["--preview", studio.shown(Path(options.preview))] if options.preview else []
    words += ["--trigger", ",".join(options.trigger)] if options.trigger else []
    words += ["--replace"] if options.replace else []
    return {
        "file": str(result.file),
        "state": result.state,
        "preview": str(result.preview) if result.preview else None,
        "json": str(result.json) if result.json else None,
        "program": result.program,
        "family": result.family,
        "weight": result.weight,
        "trigger": result.trigger,
        "prompt": result.prompt,
        "notes": result.notes,
        "changed": [str(path) for path in result.changed],
        "entry": result.entry,
        "command": shlex.join(words),
    }


def folders(studio: StudioSession) -> dict[str, Any]:
    """Return the folders that files were kept in before, the newest first."""
    rows = []
    for path in _remembered():
        with suppress(InputError):
            folder = studio.roots.path(path)
            if folder.is_dir():
                rows.append({"path": str(folder), "kind": lora_folder(folder).program})
    return {"folders": rows, "default": str(find_default(studio))}


def find_default(studio: StudioSession) -> Path:
    """Return a folder in the project, for a first try."""
    config = find_config(studio.folder)
    return (config.root or studio.root) / "kept"


def _remembered() -> list[str]:
    state = state_folder()
    with suppress(InputError, OSError, ValueError, RecursionError):
        data = read_regular(state / _FOLDERS, limit=_LARGEST) if state is not None else None
        paths = json.loads(data or b"[]")
        if isinstance(paths, list):
            return [path for path in paths if isinstance(path, str)][:_MOST_FOLDERS]
    return []


def _remember(folder: Path) -> None:
    state = state_folder()
    if state is None:
        return
    paths = dict.fromkeys([str(folder), *_remembered()])
    with suppress(OSError, DskError):  # a convenience
        make_folders(state, mode=0o700)
        write_atomic(state / _FOLDERS, json.dumps(list(paths)[:_MOST_FOLDERS]).encode())
