"""Grids and preview images of runs, as the files say: which there are, their cells and their LoRAs.

The files may have come with the project. What they name is looked for beside them only, and what
cannot be read is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.errors import DskError, InputError
from datasetkit.core.file_kinds import is_system_folder
from datasetkit.core.files import display, read_regular, refuse_links
from trainer.files import run_manifest
from trainer.files.run_manifest import PREVIEWS

Kind = Literal["grid", "previews"]
RECORD, SCORES, MARKS, IMAGES = "grid.jsonl", "scores.json", "grid-marks.json", "images"
WITHOUT: Final = "without"
_LARGEST: Final = 64 * 2**20  # bytes
_MOST_LINES: Final = 20_000
_TAIL: Final = 2**20  # bytes of metrics: thousands of steps
# How far below the project grids are searched, and in how many folders.
_DEPTH, _MOST_FOLDERS = 3, 2000
_DATASETS: Final = frozenset({"work", "dataset", "masks", "previous"})
_CELL: Final = re.compile(r"images/[^/\\\0]{1,250}\.png")
_PREVIEW: Final = re.compile(r"[^/\\\0]{1,250}\.png")
_NUMBER: Final = re.compile(r"-(?:(?P<epoch>\d{6,})|step(?P<step>\d{8,})|best)$")
_NOT_SETTINGS: Final = frozenset({"file", "sha256", "at", "place", "lora_folder"})

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class GridSource:
    """Where a grid lies. run: the name of the run of its previews, "" for a drawn grid."""

    kind: Kind
    folder: Path
    run: str = ""

    @property
    def id(self) -> str:
        text = json.dumps([self.kind, os.fsencode(self.folder).hex(), self.run])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def results(self) -> Path:
        """The folder of the run."""
        return self.folder if self.kind == "previews" else self.folder.parent

    @property
    def record(self) -> Path:
        if self.kind == "grid":
            return self.folder / RECORD
        return self.folder / PREVIEWS / f"{self.run}.jsonl"

    @property
    def marks(self) -> Path:
        if self.kind == "grid":
            return self.folder / MARKS
        return self.folder / PREVIEWS / MARKS


@dataclass(frozen=True, slots=True)
class GridCell:
    """One image. labels: axis -> value, at each of its positions. lora: the name of its LoRA, ""
    for the base alone; hash, lora_folder: of its tensors, and where it lies as seen from the grid,
    where the record has them.
    """

    file: str
    path: Path
    labels: tuple[Mapping[str, str], ...]
    lora: str
    hash: str
    settings: Mapping[str, Scalar]
    lora_folder: str = ""


@dataclass(frozen=True, slots=True)
class GridAxes:
    """The axes of a grid in their order, each with its values in theirs."""

    values: Mapping[str, tuple[str, ...]]

    def position(self, labels: Mapping[str, str]) -> list[int]:
        return [values.index(labels[name]) for name, values in self.values.items()]


def find_grids(root: Path) -> list[GridSource]:
    """Return the grids and the runs with previews in a project, the newest first."""
    grids: list[GridSource] = []
    for folder in _folders(root):
        if _is_file(folder / RECORD):
            grids.append(GridSource("grid", folder))
        with suppress(OSError, InputError):
            runs = [GridSource("previews", folder, name) for name in run_manifest.names(folder)]
            grids += [run for run in runs if _is_file(run.record)]
    return sorted(grids, key=_age)


def find_runs(root: Path) -> list[GridSource]:
    """Return the runs of a project that have LoRA files, the newest first."""
    runs: list[GridSource] = []
    for folder in _folders(root):
        with suppress(OSError, InputError):
            sources = [GridSource("previews", folder, name) for name in run_manifest.names(folder)]
            runs += [run for run in sources if lora_names(run)]
    return sorted(runs, key=lambda run: _age_of(run.folder / run_manifest.manifest_name(run.run)))


def lora_names(run: GridSource) -> list[str]:
    """Return the names of the LoRA files of a run, in the order of the training."""
    names = [path.stem for path in run.folder.glob("*.safetensors") if _is_file(path)]
    return sorted(name for name in names if run_of(name) == run.run)


def run_loras(folder: Path) -> set[Path]:
    """Return the LoRA files that `dsk grid` draws of a folder: those of its run, none where it has
    several.
    """
    files = [path for path in folder.glob("*.safetensors") if _is_file(path)]
    named = run_manifest.names(folder)
    runs = set(named) if len(named) == 1 else {run_of(path.stem) for path in files}
    return {path for path in files if run_of(path.stem) in runs} if len(runs) == 1 else set()


def preview_seconds(run: GridSource) -> float | None:
    """Return about how long a run took for a preview image, None where that is not known.

    A row of the metrics is written after its step and before the previews, so they fall into the
    time until the next one; a LoRA that is saved does, too.
    """
    images = Counter(line.get("step") for line in _lines(run.record))
    rows = _last_steps(run.folder / f"{run.run}-metrics.jsonl")
    after = {step: following for (step, *_), following in pairwise(rows)}
    moments = {step: moment for step, moment, _ in rows}
    seconds = [
        (after[step][1] - after[step][2] - moments[step]) / count
        for step, count in images.items()
        if step in after
    ]
    return min((value for value in seconds if value > 0), default=None)


def _last_steps(path: Path) -> list[tuple[int, float, float]]:
    """Return the last steps of metrics: their numbers, when they ended, and how long they took."""
    rows = []
    for line in _tail(path).splitlines()[1:]:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            row = json.loads(line)
            rows.append((int(row["step"]), float(row["time"]), float(row["seconds"])))
    return rows


def _tail(path: Path) -> bytes:
    """Return the end of a file, b"" where it cannot be read."""
    if not _is_file(path):
        return b""
    try:
        with path.open("rb") as file:
            # Whoever reads it skips the first line, of which the beginning may be missing.
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return (b"\n" if file.tell() == 0 else b"") + file.read(_TAIL)
    except OSError:
        return b""


class GridFinder:
    """Finds grids, and keeps them by id: each image of a grid is asked for by that."""

    def __init__(self) -> None:
        self._by_id: dict[str, GridSource] = {}

    def find(self, root: Path, grid_id: str) -> GridSource | None:
        """Return the grid of an id, None without one. The project is only searched for one that was
        not there before.
        """
        grid = self._by_id.get(grid_id)
        if grid is None or not _is_there(grid, root):
            self._by_id = {each.id: each for each in find_grids(root)}
        return self._by_id.get(grid_id)


def _is_there(grid: GridSource, root: Path) -> bool:
    """Tell whether a grid that was found is one still."""
    with suppress(InputError):
        refuse_links(grid.folder, root)
        has_run = not grid.run or os.path.lexists(
            grid.folder / run_manifest.manifest_name(grid.run)
        )
        return has_run and _is_file(grid.record)
    return False


def _age(grid: GridSource) -> float:
    return _age_of(grid.record)


def _age_of(path: Path) -> float:
    try:
        return -path.lstat().st_mtime
    except OSError:
        return 0.0


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders in which grids are searched: not those of images, and no links."""
    for path, names, _ in islice(os.walk(root), _MOST_FOLDERS):
        folder = Path(path)
        yield folder
        depth = len(folder.relative_to(root).parts)
        names[:] = sorted(
            name
            for name in (names if depth < _DEPTH else ())
            if not name.startswith(".") and name not in _DATASETS and not is_system_folder(name)
        )


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


# ---- cells


def cells_of(grid: GridSource) -> list[GridCell]:
    """Return the cells of a grid. Raises InputError for a record that cannot be read."""
    read = _drawn if grid.kind == "grid" else _preview
    cells = [cell for line in _lines(grid.record) if (cell := read(grid, line)) is not None]
    return list({cell.file: cell for cell in cells}.values())


def _lines(path: Path) -> list[Mapping[str, Any]]:
    data = read_regular(path, limit=_LARGEST)
    if data is None:
        raise InputError(f"{display(path)} is gone", hint="the page updates in a moment")
    lines: list[Mapping[str, Any]] = []
    for line in data.decode("utf-8", "replace").splitlines()[:_MOST_LINES]:
        with suppress(ValueError, RecursionError):
            value = json.loads(line, parse_constant=lambda _: None)
            if isinstance(value, dict):
                lines.append(value)
    return lines


def _drawn(grid: GridSource, line: Mapping[str, Any]) -> GridCell | None:
    file, at = line.get("file"), line.get("at")
    if not isinstance(file, str) or not _CELL.fullmatch(file) or not isinstance(at, list) or not at:
        return None  # without a position: a cell that only scores need
    labels = tuple({str(k): str(v) for k, v in p.items()} for p in at if isinstance(p, dict))
    if (grid.folder / IMAGES).is_symlink():
        return None
    return GridCell(
        file,
        grid.folder / file,
        labels,
        str(line.get("lora_name", "")),
        str(line.get("lora", "")),
        _settings(line),
        str(line.get("lora_folder", "")),
    )


def _preview(grid: GridSource, line: Mapping[str, Any]) -> GridCell | None:
    file, step, epoch = line.get("file"), line.get("step"), line.get("epoch")
    if not isinstance(file, str) or not _PREVIEW.fullmatch(file):
        return None
    if type(step) is not int or type(epoch) is not int or (grid.folder / PREVIEWS).is_symlink():
        return None
    number = _NUMBER.search(Path(file).stem.rpartition("-")[0])
    lora = f"{grid.run}{number[0]}" if number else ""
    by_step = bool(number and number["step"])
    label = WITHOUT if step == 0 else f"step {step}" if by_step else f"epoch {epoch}"
    row = line.get("place")
    prompt = str(line.get("text", ""))
    labels = {
        "epoch": label,
        "prompt": f"{row + 1}. {prompt}" if type(row) is int else prompt,
    }
    path = grid.folder / PREVIEWS / file
    return GridCell(file, path, (labels,), "" if step == 0 else lora, "", _settings(line))


def _settings(line: Mapping[str, Any]) -> dict[str, Scalar]:
    return {
        key: value for key, value in line.items() if key not in _NOT_SETTINGS and is_scalar(value)
    }


def is_scalar(value: object) -> bool:
    """Tell whether a value is a text, a number that JSON has, true, false or null."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)


def axes_of(cells: Sequence[GridCell]) -> GridAxes:
    """Return the axes that all positions have, with their values in the order of the record."""
    names: dict[str, None] = {}
    for cell in cells:
        for labels in cell.labels:
            names |= dict.fromkeys(labels)
    everywhere = [n for n in names if all(n in labels for c in cells for labels in c.labels)]
    values = {
        name: tuple(dict.fromkeys(labels[name] for c in cells for labels in c.labels))
        for name in everywhere
    }
    return GridAxes(values)


# ---- LoRAs, scores, marks


def lora_file_of(grid: GridSource, name: str, folder: Path | None) -> Path | None:
    """Return the LoRA file of a name in a folder or beside a grid, None where there is none. The
    last file of a run has no number.
    """
    folders = dict.fromkeys(filter(None, (folder, grid.results, grid.folder)))
    names = [name, _NUMBER.sub("", name)] if grid.kind == "previews" else [name]
    if not name or "/" in name or "\\" in name or "\0" in name:
        return None
    for each in folders:
        for stem in names:
            path = each / f"{stem}.safetensors"
            if _is_file(path):
                return path
    return None


def label_of(name: str) -> str:
    """Return how a LoRA is called in a table: its epoch or step, else its name."""
    number = _NUMBER.search(name)
    if number is None:
        return name
    if number["epoch"]:
        return f"epoch {int(number['epoch'])}"
    return f"step {int(number['step'])}" if number["step"] else "best"


def epoch_of(name: str) -> str:
    """Return the epoch of a LoRA as the axis `epoch` takes it, "" without one."""
    number = _NUMBER.search(name)
    return str(int(number["epoch"])) if number is not None and number["epoch"] else ""


def run_of(name: str) -> str:
    """Return the name of the run of a LoRA."""
    return _NUMBER.sub("", name)


def scores_of(grid: GridSource) -> Mapping[str, Any] | None:
    """Return what a grid measured, with the suggestion and its reasons; None without a measure."""
    if grid.kind != "grid":
        return None
    with suppress(InputError, ValueError, RecursionError, AttributeError):
        data = read_regular(grid.folder / SCORES, limit=_LARGEST)
        record = json.loads(data or b"{}", parse_constant=lambda _: None).get("scores")
        if isinstance(record, dict) and isinstance(record.get("rows"), list):
            return record
    return None


def marks_of(grid: GridSource) -> dict[str, int]:
    """Return the marks of a grid by file, 1 to 5."""
    with suppress(InputError, ValueError, RecursionError, AttributeError):
        record = json.loads(read_regular(grid.marks, limit=_LARGEST) or b"{}").get("marks")
        items = record.items() if isinstance(record, dict) else ()
        return {str(k): v for k, v in items if type(v) is int and 1 <= v <= 5}
    return {}


def run_options(folder: Path, run: str) -> dict[str, Scalar]:
    """Return the options of the run of a name that have one value; {} where it is not known."""
    with suppress(DskError):
        manifest = run_manifest.read(folder, run)
        options = manifest.facts.get("options") if manifest is not None else None
        if isinstance(options, dict):
            return {str(k): v for k, v in options.items() if is_scalar(v)}
    return {}
