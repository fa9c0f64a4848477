"""Draw the cells of a grid with one loaded base model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.words import counted
from trainer.grid.applied import AppliedLora
from trainer.grid.cells import Cell
from trainer.monitor.image_generator import ImageGenerator


class GridDrawer:
    """The base model that is loaded now, with the LoRA that is applied now.

    load: returns the base that a cell names. Cells of one base one after the other load it once.
    """

    def __init__(self, load: Callable[[str], ImageGenerator]) -> None:
        self._load = load
        self._base: str | None = None
        self._generator: ImageGenerator | None = None
        self._applied: AppliedLora | None = None
        self._variant: tuple[Any, ...] | None = None

    def model_of(self, cell: Cell) -> ImageGenerator:
        """Return the model of a cell: its base with its LoRA. Raises ModelFileError, InputError."""
        if self._generator is None or self._base != cell.request.base:
            self._generator = self._applied = None  # not two models in memory at once
            self._generator = self._load(cell.request.base)
            self._applied = AppliedLora(self._generator.parts)
            self._base, self._variant = cell.request.base, None
        if self._applied is not None and self._variant != cell.variant:
            self._variant = None
            lora = None if cell.lora is None else cell.lora.lora
            self._applied.apply(lora, *cell.request.weights)
            self._variant = cell.variant
        options = replace(self._generator.options, clip_skip=cell.request.clip_skip)
        return replace(self._generator, options=options)

    def draw(self, cell: Cell) -> Image.Image:
        """Draw a cell; the same cell always gives the same image."""
        return self.model_of(cell).generate(cell.request.prompt)


def draw(
    drawer: GridDrawer, cells: Sequence[Cell], reporter: Reporter = SILENT
) -> Iterator[tuple[Cell, Image.Image, float]]:
    """Draw cells; yield each one with its image and the seconds that it took.

    The first one tells how long all of them will take.
    """
    steps = sum(cell.request.prompt.steps for cell in cells)
    reporter.start("drawing", len(cells))
    try:
        for cell in cells:
            drawer.model_of(cell)  # loading is not part of the time of a cell
            began = time.perf_counter()
            image = drawer.draw(cell)
            seconds = time.perf_counter() - began
            yield cell, image, seconds
            if cell is cells[0]:
                each = seconds / cell.request.prompt.steps
                reporter.note(f"{counted(steps, 'step')}, about {each * steps:,.0f} s")
            reporter.advance()
    finally:
        reporter.finish()
