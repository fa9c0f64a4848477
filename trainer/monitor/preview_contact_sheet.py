"""The contact sheet of a run's preview images: a row for each step, a column for each prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import write_atomic, writing
from datasetkit.core.words import counted
from datasetkit.images import labelled_sheet, pixels
from datasetkit.images.labelled_sheet import SheetHeading
from trainer.files.run_files import Replacing, unchecked
from trainer.files.run_manifest import PREVIEWS
from trainer.monitor.metrics import read_rows
from trainer.monitor.prompts import Prompt

_CELL: Final = 256  # pixels


@dataclass(frozen=True, slots=True)
class ContactSheetColumn:
    """A column. place: index of the prompt in its file, from 0."""

    place: int
    prompt: Prompt


@dataclass(slots=True)
class PreviewContactSheet:
    """The preview images of a run, recorded in `sample/<name>.jsonl` for resumed runs.

    A run with thousands of images shows a part of the steps, at equal distances.

    start: the step that the run continues from; later images are generated again. 0: a new run with
    a new contact sheet. replacing: gives the paths to write to.
    """

    folder: Path
    name: str
    start: int = 0
    replacing: Replacing | None = None
    path: Path = field(init=False)
    _write_to: Replacing = field(init=False)
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _small: dict[str, Image.Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._write_to = self.replacing or unchecked(self.folder)
        self.path = self.folder / f"{self.name}-samples.png"
        rows = read_rows(self._record, _is_record) if self.start else []
        self._lines = [
            line for line in rows if line["step"] <= self.start and self._file(line).is_file()
        ]

    @property
    def _record(self) -> Path:
        return self.folder / PREVIEWS / f"{self.name}.jsonl"

    def _file(self, line: Mapping[str, Any]) -> Path:
        return self.folder / PREVIEWS / Path(str(line["file"])).name

    def file_names(self, stem: str, count: int) -> list[str]:
        """Return the names, relative to the run's folder, of the images of a step."""
        return [f"{PREVIEWS}/{self.name}-{stem}-{number:02d}.png" for number in range(count)]

    def add(
        self, step: int, epoch: int, stem: str, images: Sequence[tuple[Prompt, Image.Image]]
    ) -> None:
        """Write the images of a step, the record and the contact sheet, each completely or not at
        all.

        stem: as in the name of a saved LoRA: 000001, step00000100. Raises StorageError.
        """
        with writing(self._record):
            self._record.parent.mkdir(exist_ok=True)
        self._lines = [line for line in self._lines if line["step"] != step]
        files = self.file_names(stem, len(images))
        for number, (name, (prompt, image)) in enumerate(zip(files, images, strict=True)):
            with self._write_to(name) as path:
                pixels.save(image, path)
            file = path.name
            self._small[file] = _thumbnail(image)
            self._lines.append(
                {"step": step, "epoch": epoch, "file": file, "place": number, **asdict(prompt)}
            )
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self._lines)
        with self._write_to(f"{PREVIEWS}/{self._record.name}") as path:
            write_atomic(path, text.encode("utf-8"))
        with self._write_to(f"{self.name}-samples.png") as self.path:
            pixels.save(self.draw(), self.path)

    def draw(self) -> Image.Image:
        """Return the contact sheet, without images that somebody has replaced by something else."""
        columns = {_column(line) for line in self._lines}
        steps = sorted({(int(line["step"]), int(line["epoch"])) for line in self._lines})
        shown = dict(_evenly(steps, labelled_sheet.most_rows(len(columns))))
        self._lines = [
            line for line in self._lines if line["step"] not in shown or self._is_readable(line)
        ]
        lines = [line for line in self._lines if line["step"] in shown]
        self._forget_all_but(lines)
        ordered = list(
            dict.fromkeys(_column(line) for line in sorted(lines, key=lambda line: line["place"]))
        )
        steps = sorted({(int(line["step"]), int(line["epoch"])) for line in lines})
        cells = {
            (int(line["step"]), ordered.index(_column(line))): self._image(line) for line in lines
        }
        return contact_sheet(self.name, [c.prompt for c in ordered], steps, cells)

    def _image(self, line: Mapping[str, Any]) -> Image.Image:
        file = str(line["file"])
        if file not in self._small:
            self._small[file] = _thumbnail(pixels.load(self._file(line)))
        return self._small[file]

    def _forget_all_but(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Drop the small images of other lines: a long run has thousands."""
        files = {str(line["file"]) for line in lines}
        self._small = {file: image for file, image in self._small.items() if file in files}

    def _is_readable(self, line: Mapping[str, Any]) -> bool:
        try:
            self._image(line)
        except InputError:
            return False
        return True


def _is_record(row: Mapping[str, Any]) -> bool:
    """Tell whether a row describes an image, as `PreviewContactSheet.add` writes it."""
    try:
        hash(_column(row))
    except (ConfigError, KeyError, TypeError, ValueError):
        return False
    return isinstance(row.get("file"), str) and isinstance(row["place"], int)


def _column(line: Mapping[str, Any]) -> ContactSheetColumn:
    fields = {
        key: value for key, value in line.items() if key not in ("step", "epoch", "file", "place")
    }
    return ContactSheetColumn(int(line["place"]), Prompt(**fields))


def _evenly(steps: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Return at most so many rows at equal distances, the first and the last among them."""
    most = max(2, most)
    if len(steps) <= most:
        return list(steps)
    return [steps[(len(steps) - 1) * n // (most - 1)] for n in range(most)]


def _thumbnail(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return small


def contact_sheet(
    name: str,
    prompts: Sequence[Prompt],
    steps: Sequence[tuple[int, int]],
    cells: Mapping[tuple[int, int], Image.Image],
) -> Image.Image:
    """Draw a contact sheet. steps: (step, epoch) of each row; cells: (step, column) -> image."""
    longest = max(side for image in cells.values() for side in image.size)
    counts = f"{counted(len(prompts), 'prompt')}, {counted(len(steps), 'time')} in the training"
    rows = {step: n for n, (step, _) in enumerate(steps)}
    return labelled_sheet.draw(
        name,
        counts,
        [SheetHeading(p.text, f"seed {p.seed}, {p.width} x {p.height}") for p in prompts],
        [
            SheetHeading(f"epoch {epoch}", f"step {step}")
            if step
            else SheetHeading("before", "training")
            for step, epoch in steps
        ],
        {(rows[step], column): image for (step, column), image in cells.items()},
        labelled_sheet.cell_box((longest, longest), len(prompts), len(steps), widest=_CELL),
    )
