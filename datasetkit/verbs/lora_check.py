"""`dsk lora check`: what may be wrong with LoRA files, and a heat map of what they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasetkit.core.errors import Exit, InputError
from datasetkit.core.files import display, read_existing
from datasetkit.options.lora import LoraCheckOptions
from datasetkit.project.plans import Plan, WriteBytes
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.verbs.shared.paths import AnyPath, paths_of
from trainer.lora_files import checks, heat_map, lora_file
from trainer.lora_files.base_weights import open_base
from trainer.lora_files.checks import LoraFinding
from trainer.lora_files.measure import LayerMeasure, measure
from trainer.lora_files.precision import TITLES

# More panels beside each other cannot be read.
_MOST_PLOTTED = 4


@dataclass(frozen=True, slots=True)
class LoraFileCheck:
    """The findings about one file, errors first, and the numbers of its layers."""

    path: Path
    family: str
    layers: int
    ranks: tuple[int, ...]
    precision: str
    findings: tuple[LoraFinding, ...]
    measures: tuple[LayerMeasure, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class LoraFilesCheckResult:
    """The findings about LoRA files. plot: the heat map, None without one; changed: whether its
    content is new.
    """

    files: tuple[LoraFileCheck, ...]
    strict: bool
    plot: Path | None = None
    changed: bool = False
    entry: int | None = None

    @property
    def exit_code(self) -> Exit:
        """Return 3 for an error; 20 for a warning with --strict."""
        levels = {finding.level for file in self.files for finding in file.findings}
        if "error" in levels:
            return Exit.SOME_FAILED
        return Exit.CHECK_FOUND if self.strict and "warning" in levels else Exit.DONE


def lora_check(
    files: AnyPath | Sequence[AnyPath],
    options: LoraCheckOptions,
    context: RunContext = DEFAULT_CONTEXT,
) -> LoraFilesCheckResult:
    """Check LoRA files; write a heat map where one is wanted.

    Raises ModelFileError for another file, InputError for a heat map that cannot be drawn.
    """
    plot = Path(options.plot) if options.plot else None
    paths = paths_of(files)
    if plot is not None:
        _require_plot(plot, paths)
    loras = [lora_file.read(path) for path in paths]
    base = open_base(options.base) if options.base else None
    checked: list[LoraFileCheck] = []
    context.reporter.start("checking", sum(len(lora.layers) for lora in loras))
    try:
        for lora in loras:
            measures = measure(lora, base, context.reporter.advance)
            checked.append(
                LoraFileCheck(
                    lora.path,
                    lora.family_title,
                    len(lora.layers),
                    tuple(sorted({m.rank for m in measures if m.rank})),
                    TITLES.get(lora.dtype, lora.dtype),
                    checks.find_all(lora, measures, base),
                    measures,
                )
            )
    finally:
        context.reporter.finish()
    result = LoraFilesCheckResult(tuple(checked), options.strict)
    return result if plot is None else _with_plot(result, plot, context)


def _require_plot(plot: Path, files: Sequence[Path]) -> None:
    if plot.suffix.lower() != ".png":
        raise InputError(f"the heat map {display(plot)} is a PNG", hint=f"--plot {plot.stem}.png")
    if len(files) > _MOST_PLOTTED:
        raise InputError(f"a heat map shows at most {_MOST_PLOTTED} files", hint="name fewer files")


def _with_plot(
    result: LoraFilesCheckResult, plot: Path, context: RunContext
) -> LoraFilesCheckResult:
    over = read_existing(plot)
    png = heat_map.draw([(file.path.stem, file.measures) for file in result.files])
    plan = Plan((WriteBytes(plot, png, over),))
    with open_project(plot.parent, context, create_folder=True) as project:
        changed = bool(project.changed(plan))
        entry = project.apply(plan, "lora check", display(plot.name))
    return LoraFilesCheckResult(result.files, result.strict, plot, changed, entry)
