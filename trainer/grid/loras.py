"""The LoRA files of a grid: those that are named, or those of the run in a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import InputError
from datasetkit.core.files import display, natural_key, reading
from trainer.files import run_manifest
from trainer.lora_files import lora_file, new_lora
from trainer.lora_files.convert import require_complete
from trainer.lora_files.lora_file import LoraFile

_SUFFIX: Final = ".safetensors"
_NAME: Final = re.compile(
    r"(?P<run>.+?)(?:-(?P<epoch>\d{6})|-step(?P<step>\d{8})|-(?P<best>best))?"
    rf"(?i:{run_manifest.ENDING})",
    re.DOTALL,
)
_NAMED: Final = 4  # files that a message names


@dataclass(frozen=True, slots=True)
class GridLora:
    """A LoRA file of a grid. hash: of its tensors. epoch, step: after which it was saved, None
    where neither its header nor its name has them. best: it is the run's best by validation.
    """

    lora: LoraFile
    hash: str
    epoch: int | None
    step: int | None
    best: bool

    @property
    def path(self) -> Path:
        return self.lora.path

    @property
    def name(self) -> str:
        """Return the name of the file as it can be printed and written."""
        return display(self.lora.path.stem)

    @property
    def run(self) -> str:
        """Return the name of the run: that of the file without epoch, step or format."""
        return display(_run(self.path.name))

    @property
    def age(self) -> tuple[bool, int, int, bool]:
        """Return a key that sorts the files of a run by time, the best one behind its equal. What
        has neither step nor epoch is the final file.
        """
        is_final = self.step is None and self.epoch is None
        return (is_final, self.step or 0, self.epoch or 0, self.best)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are named, and for a folder those of its run. Raises InputError."""
    if not paths:
        raise InputError("no LoRA was given", hint="name LoRA files, or the folder of a training")
    files: list[Path] = []
    for path in paths:
        files += _of_folder(path) if path.is_dir() else [path]
    resolved = [path.resolve() for path in files]
    for path, times in Counter(resolved).items():
        if times > 1:
            raise InputError(f"{display(path)} is named twice", hint="name it once")
    return files


def _of_folder(folder: Path) -> list[Path]:
    """Return the LoRA files of the run in a folder: those that its manifest lists, or those whose
    names differ only in the epoch or step. Each is drawn once, if it was saved in several formats.
    """
    runs = run_manifest.names(folder)
    if len(runs) == 1:
        files = run_manifest.own_files(folder, runs[0])
        listed = [folder / file.name for file in files if file.kind == "lora"]
        if listed:
            return run_manifest.in_one_format(listed)
    with reading(folder):
        names = [p.name for p in folder.iterdir() if p.suffix.lower() == _SUFFIX and p.is_file()]
    if not names:
        raise InputError(
            f"{display(folder)} has no LoRA files",
            hint="name the folder that dsk train wrote to, or LoRA files",
        )
    by_run: dict[str, list[Path]] = {}
    for name in sorted(names, key=natural_key):
        by_run.setdefault(_run(name), []).append(folder / name)
    if len(by_run) > 1:
        shown = ", ".join(map(display, list(by_run)[:_NAMED]))
        more = "" if len(by_run) <= _NAMED else ", ..."
        raise InputError(
            f"{display(folder)} has LoRAs of {len(by_run)} names: {shown}{more}",
            hint="name the files that are to be compared",
        )
    return run_manifest.in_one_format(next(iter(by_run.values())))


def _run(file: str) -> str:
    """Return the name of the run from that of a file."""
    match = _NAME.fullmatch(file)
    return match["run"] if match else Path(file).stem


def read(paths: Sequence[Path]) -> tuple[GridLora, ...]:
    """Read the files of a grid, those of a folder in the order of the training. Raises InputError
    and ModelFileError for files that cannot be drawn with.
    """
    loras = [_read(path) for path in files_of(paths)]
    first = loras[0].lora
    for each in loras:
        if each.lora.family is None and not each.lora.transformer:
            raise InputError(
                f"{display(each.path)}: the family of this LoRA is {each.lora.family_title}",
                hint="dsk lora info shows what it is",
            )
        if (each.lora.family, each.lora.transformer) != (first.family, first.transformer):
            raise InputError(
                f"{display(each.path)} is of {each.lora.family_title}, {display(first.path)} of "
                f"{first.family_title}",
                hint="make a grid for each family",
            )
    if any(path.is_dir() for path in paths):
        loras.sort(key=lambda each: each.age)
    return tuple(loras)


def _read(path: Path) -> GridLora:
    lora = lora_file.read(path)
    require_complete(lora)
    if lora.others:
        raise InputError(
            f"{display(path)} has tensors of no layer, such as {display(lora.others[0])}",
            hint="dsk lora check lists them",
        )
    match = _NAME.fullmatch(path.name)
    epoch = _number(lora.metadata.get("ss_epoch")) or _number(match and match["epoch"])
    step = _number(lora.metadata.get("ss_steps")) or _number(match and match["step"])
    is_best = bool(match and match["best"])
    return GridLora(lora, new_lora.model_hash(lora), epoch, step, is_best)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,12}", text) and int(text) else None
