"""The cells of a grid: what each one is drawn from, and the name of its file.

A cell is identified by everything that decides its pixels, so another grid in the same folder, or
a rerun, finds the cells that exist.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.words import counted
from datasetkit.images.parameters import parameters
from trainer.grid.axes import NAMES, Axis, CellRequest
from trainer.grid.loras import GridLora

IMAGES: Final = "images"  # the folder of the cells in that of the grid
MOST_CELLS: Final = 10_000
_KEY: Final = 12  # characters of a cell's key in its name
_STEM: Final = 60  # characters of a LoRA's name in that of a cell

# What some file systems do not allow in a name.
_UNSAFE: Final = re.compile(r'[\\/:*?"<>|\s]+')

Position = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GridBase:
    """A base model of a grid. name: without folders; hash: sha256 of its weights; precision: of
    the arithmetic, and what else of [train] decides the pixels.
    """

    name: str
    hash: str
    settings: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One image of a grid, which may stand at several positions."""

    request: CellRequest
    base: GridBase

    @property
    def lora(self) -> GridLora | None:
        """Return the LoRA, None where it has no weight."""
        return self.request.lora if any(self.request.weights) else None

    @property
    def variant(self) -> tuple[str, str, float, float]:
        """Return what the model is: the base and the LoRA with its weights."""
        if self.lora is None:
            return self.request.base, "", 0.0, 0.0
        return self.request.base, self.lora.hash, *self.request.weights

    @property
    def settings(self) -> dict[str, object]:
        """Return everything that decides the pixels."""
        _, lora, unet, text = self.variant
        prompt = asdict(self.request.prompt)
        prompt["guidance"] = float(prompt["guidance"])  # 4 and 4.0 are the same image
        if self.request.prompt.guidance <= 1:
            prompt["negative"] = ""  # it has no effect
        return {
            "base": self.base.hash, "base_settings": self.base.settings, "lora": lora,
            "unet_weight": unet, "text_weight": text, "clip_skip": self.request.clip_skip, **prompt,
        }  # fmt: skip

    @property
    def key(self) -> str:
        """Return a hash of the settings."""
        text = json.dumps(self.settings, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_KEY]

    @property
    def file(self) -> str:
        """Return the name of the file, relative to the grid's folder."""
        stem = "base" if self.lora is None else _UNSAFE.sub("_", self.lora.name)[:_STEM]
        return f"{IMAGES}/{stem}-{self.key}.png"

    def parameters(self, program: str) -> str:
        """Return the generation parameters as the web interfaces write and read them. program: name
        and version.
        """
        prompt, lora = self.request.prompt, self.lora
        text, hashes = prompt.text, ""
        if lora is not None:
            unet, text_weight = self.request.weights
            weight = f"{unet:g}" if unet == text_weight else f"te={text_weight:g}:unet={unet:g}"
            text = f"{text} <lora:{lora.name}:{weight}>"
            hashes = f"{lora.name}: {lora.hash[:12]}"
        return parameters(
            text, prompt.negative, steps=prompt.steps, sampler=prompt.sampler, cfg=prompt.guidance,
            seed=prompt.seed, size=(prompt.width, prompt.height), model=self.base.name,
            model_hash=self.base.hash, clip_skip=self.request.clip_skip, lora_hashes=hashes,
            program=program,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes of a grid, and its cells by position: (z, y, x). unique: the different cells by
    file, in the order in which they are drawn: those of one base, LoRA and weight one after the
    other.
    """

    axes: tuple[Axis, ...]
    cells: Mapping[Position, Cell]
    unique: Mapping[str, Cell]


def build(axes: Sequence[Axis], start: CellRequest, bases: Mapping[str, GridBase]) -> Grid:
    """Return the cells of all values. start: what the axes do not change. Raises ConfigError for a
    value that cannot be drawn, or too many of them.
    """
    counts = [len(axis.values) for axis in axes]
    total = 1
    for count in counts:
        total *= count
    if total > MOST_CELLS:
        raise ConfigError(
            f"a grid of {counted(total, 'image')} is larger than {MOST_CELLS:,}",
            hint="give fewer values",
        )
    order = sorted(range(len(axes)), key=lambda n: NAMES.index(axes[n].name))
    cells: dict[Position, Cell] = {}
    first: dict[str, Cell] = {}  # of each key: a run's best file may be that of an epoch
    for at in product(*(range(count) for count in counts)):
        request = start
        for n in order:
            request = axes[n].apply(axes[n].values[at[n]], request)
        x, y, z = (*at, 0, 0, 0)[:3]
        cell = Cell(request, bases[request.base])
        cells[z, y, x] = first.setdefault(cell.key, cell)
    return Grid(tuple(axes), cells, _unique(cells))


def _unique(cells: Mapping[Position, Cell]) -> dict[str, Cell]:
    order: dict[tuple[str, str, float, float], dict[str, Cell]] = {}
    for position in sorted(cells, key=lambda at: (at[2], at[0], at[1])):
        cell = cells[position]
        order.setdefault(cell.variant, {}).setdefault(cell.file, cell)
    bases = dict.fromkeys(base for base, *_ in order)
    variants = [v for base in bases for v in order if v[0] == base]
    return {file: cell for variant in variants for file, cell in order[variant].items()}
