"""`dsk grid`: draw images with LoRAs along up to three axes, to compare them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from datasetkit import __version__
from datasetkit.core.errors import ConfigError, InputError, PlanConflict
from datasetkit.core.files import (
    PROJECT,
    display,
    file_sha256,
    find_root,
    is_readable_name,
    nearest_folder,
    read_existing,
    require_writable,
    sweep,
    write_atomic,
)
from datasetkit.images import pixels
from datasetkit.images.parameters import TEXT_KEY
from datasetkit.options.grid import FOLDER, GridOptions
from datasetkit.options.toml import Config, find
from datasetkit.options.train import TrainOptions
from datasetkit.project.journal import OpenEntry
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import DEFAULT_CONTEXT, Project, RunContext, open_project
from datasetkit.project.store import Output
from datasetkit.verbs.shared import base_model, grid_scores
from datasetkit.verbs.shared.grid_scores import ScoredCells, ScoringImages
from datasetkit.verbs.shared.paths import AnyPath, paths_of
from trainer.families import registry
from trainer.families.base import FamilyName
from trainer.families.detect import detect
from trainer.families.source import local
from trainer.files.hashes import model_hash
from trainer.grid import axes as grid_axes
from trainer.grid import cells as grid_cells
from trainer.grid import loras as grid_loras
from trainer.grid import page, score_page, sheets
from trainer.grid.axes import Axis, CellRequest, GridContent
from trainer.grid.cells import IMAGES, Cell, Grid, GridBase
from trainer.grid.loras import GridLora
from trainer.grid.scores import GridScores
from trainer.monitor import prompts as prompt_files
from trainer.monitor.prompts import Prompt
from trainer.plan import token_limit

VERB: Final = "grid"
_PROGRAM: Final = f"datasetkit {__version__}"
RECORD, PAGE, SCORES = "grid.jsonl", "index.html", "scores.json"
_CELL_RECIPE, _PAGE_RECIPE = "grid-cell-1", "grid-page-1"
# The last bytes of a whole PNG.
_PNG_END: Final = b"IEND\xaeB`\x82"
_VERSION: Final = re.compile(r", Version: [^,\n]*$")


@dataclass(frozen=True, slots=True)
class GridAxis:
    """An axis of a grid: its name, and the labels of its values."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GridResult:
    """What a grid drew, or would draw.

    images: different cells; drawn: new ones; kept: that existed. With scores also cells beside the
    axes. steps: of the sampler, for those drawn. seconds: a drawn image takes on average, None
    where none was. contact_sheets, page: what was made of the cells. scores: None where none were
    asked for, and in a dry run. changed: whether any file is new. first_entry, entry: in the
    history.
    """

    folder: Path
    bases: tuple[str, ...]
    loras: tuple[Path, ...]
    axes: tuple[GridAxis, ...]
    images: int
    drawn: tuple[Path, ...]
    kept: int
    steps: int
    seconds: float | None
    contact_sheets: tuple[Path, ...]
    page: Path
    scores: GridScores | None
    changed: bool
    first_entry: int | None
    entry: int | None
    warnings: tuple[str, ...] = ()


def grid(
    paths: AnyPath | Sequence[AnyPath],
    options: GridOptions,
    context: RunContext = DEFAULT_CONTEXT,
) -> GridResult:
    """Draw a grid of images: LoRA files, or those of the run in a folder, along up to three axes.

    A second run draws the missing cells. Raises ConfigError for an axis, a value or a prompt that
    does not fit, InputError and ModelFileError for files that are not LoRAs of the base's family,
    PlanConflict for a folder with other files, Locked while another run uses the GPU.
    """
    plan = _plan(paths_of(paths), options, context)
    out, cells = plan.out, plan.cells
    # The folder of --out may lie anywhere, even in /tmp, which is not a project.
    home = out if options.out else out.parent
    with open_project(home, context, create_folder=True) as project, ExitStack() as until_made:
        missing = [cell for cell in cells if not _is_drawn(out, cell)]
        made = _GridFiles(plan, project, until_made)
        if not context.dry_run:
            made.make(missing)
    return GridResult(
        folder=out,
        bases=tuple(dict.fromkeys(cell.base.name for cell in cells)),
        loras=tuple(dict.fromkeys(c.lora.path for c in cells if c.lora is not None)),
        axes=tuple(GridAxis(a.name, tuple(v.label for v in a.values)) for a in plan.grid.axes),
        images=len(cells),
        drawn=tuple(out / cell.file for cell in missing),
        kept=len(cells) - len(missing),
        steps=sum(cell.request.prompt.steps for cell in missing),
        seconds=made.seconds / len(missing) if made.seconds and missing else None,
        contact_sheets=tuple(out / name for name in sheets.file_names(plan.grid)),
        page=out / PAGE,
        scores=made.scores,
        changed=made.changed,
        first_entry=made.first_entry,
        entry=made.entry,
        warnings=plan.warnings,
    )


@dataclass(frozen=True, slots=True)
class GridScoring:
    """What is measured, and with which images."""

    options: GridOptions
    images: ScoringImages
    cells: ScoredCells


@dataclass(frozen=True, slots=True)
class GridPlan:
    """What is going to be drawn. cells: those of the grid and those that only scores need, those of
    one LoRA one after the other.
    """

    out: Path
    train: TrainOptions
    grid: Grid
    cells: tuple[Cell, ...]
    scoring: GridScoring | None
    warnings: tuple[str, ...]


def _plan(named: Sequence[Path], options: GridOptions, context: RunContext) -> GridPlan:
    loras = grid_loras.read(named)
    out = Path(options.out) if options.out else _beside(named[0])
    if out.exists() and not out.is_dir():
        raise InputError(f"{display(out)} is not a folder", hint="give another one with --out")
    train = _train_options(named[0], options, loras)
    prompts = _prompts(options, train)
    axes = grid_axes.chosen(
        (options.x, options.y, options.z),
        GridContent(loras, prompts, options.sr),
        compare_base=options.baseline,
    )
    sheets.require_room(axes)
    bases = _bases(axes, train, loras, context)
    start = CellRequest(
        base=train.pretrained_model_name_or_path, lora=loras[0], prompt=prompts[0],
        clip_skip=train.clip_skip,
    )  # fmt: skip
    planned = grid_cells.build(axes, start, bases)
    scoring = _scoring(named[0], options, train, planned) if options.score else None
    cells = list(planned.unique.values())
    cells += scoring.cells.extra.values() if scoring else ()
    order = {variant: n for n, variant in enumerate(dict.fromkeys(c.variant for c in cells))}
    cells.sort(key=lambda cell: order[cell.variant])  # each LoRA is applied once
    warnings = prompt_files.too_long(prompts, token_limit.of_base(train))
    return GridPlan(out, train, planned, tuple(cells), scoring, tuple(warnings))


def _beside(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / FOLDER


def score_table(scores: GridScores) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the columns of the scores, and the rows as text, each with its LoRA first."""
    columns = score_page.columns(scores)
    rows = [(row.label, *(show(row) for show in columns.values())) for row in scores.rows]
    return list(columns), rows


# ---- what is drawn


def _train_options(path: Path, options: GridOptions, loras: Sequence[GridLora]) -> TrainOptions:
    """Return `[train]` with the command's base; without a dsk.toml the size and the clip skip are
    those of the LoRA's training.
    """
    config = find(path if path.is_dir() else path.parent)
    train = base_model.train_options(config, VERB, options.base)
    if not train.pretrained_model_name_or_path:
        raise ConfigError(
            "no base model was given",
            hint="--base MODEL, or pretrained_model_name_or_path in [train]; `tiny` ships with the "
            "package",
        )
    return train if config.table("train") else _as_trained(train, config, loras[0])


def _as_trained(train: TrainOptions, config: Config, lora: GridLora) -> TrainOptions:
    metadata = lora.lora.metadata
    size = re.fullmatch(r"\(?(\d{2,4})(?:, ?|x)(\d{2,4})\)?", metadata.get("ss_resolution", ""))
    if size is not None:
        train = replace(train, resolution=(int(size[1]), int(size[2])))
    skip = metadata.get("ss_clip_skip", "")
    return replace(train, clip_skip=int(skip)) if re.fullmatch(r"[1-9]|1[0-2]", skip) else train


def _prompts(options: GridOptions, train: TrainOptions) -> tuple[Prompt, ...]:
    """Return the prompts, with what the command gives in the place of their own flags."""
    if options.prompt and options.prompts:
        raise ConfigError("prompt and prompts are both given", hint="leave out one of them")
    if options.prompt:
        where = [f"prompt {n}" for n in range(1, len(options.prompt) + 1)]
        read = prompt_files.of_lines(options.prompt, train, where)
    elif options.prompts:
        read = prompt_files.read_file(Path(options.prompts), train, "prompts")
    else:
        read = prompt_files.read(train)
    if not read:
        raise ConfigError(
            "no prompt was given",
            hint='--prompt "sks, 1girl", --prompts FILE, or sample_prompts in [train]',
        )
    for text in (*(prompt.text for prompt in read), options.negative or "", options.sr):
        _require_utf8(text)
    given: dict[str, Any] = {
        "negative": options.negative, "steps": options.steps, "guidance": options.cfg,
        "sampler": options.sampler,
    }  # fmt: skip
    if options.size is not None:
        given |= {"width": options.size[0], "height": options.size[1]}
    given = {name: value for name, value in given.items() if value is not None}
    changed = [replace(prompt, **given) for prompt in read]
    if options.seed is not None:
        changed = [replace(p, seed=(options.seed + n) % 2**63) for n, p in enumerate(changed)]
    return tuple(changed)


def _require_utf8(text: str) -> None:
    """Raise ConfigError for bytes of a command line that are not text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the prompt {display(text)} is not UTF-8 text", hint="write it in a file, as UTF-8"
        ) from None


def _bases(
    axes: Sequence[Axis],
    train: TrainOptions,
    loras: Sequence[GridLora],
    context: RunContext,
) -> dict[str, GridBase]:
    """Return the base models of a grid by name. Raises what their files are wrong with, InputError
    for LoRAs of another family.
    """
    named = [value.value for axis in axes if axis.name == "base" for value in axis.values]
    bases: dict[str, GridBase] = {}
    for base in named or [train.pretrained_model_name_or_path]:
        options = _of_base(train, base)
        if not context.dry_run:
            base_model.require(options)
        path = local(base, options.revision)
        detected = None if path is None else detect(path)
        if detected is not None and not _fits(loras[0], detected.family):
            raise InputError(
                f"{display(loras[0].path)} is of {loras[0].lora.family_title}, and the base model "
                f"{display(base)} is {detected.title}",
                hint="give the model that the LoRA was trained on with --base",
            )
        if detected is not None:
            _refuse_clip_skip(axes, detected.family)
        bases[base] = _facts(options, context)
    return bases


def _fits(lora: GridLora, family: FamilyName) -> bool:
    """Tell whether a LoRA can be of a base's family. A transformer's may be named like another
    one's: whether the base has its layers is seen when they are added.
    """
    if lora.lora.family is not None:
        return lora.lora.family == family
    return registry.family(family).DENOISER == "transformer"


def _refuse_clip_skip(axes: Sequence[Axis], name: FamilyName) -> None:
    family = registry.family(name)
    if not family.CLIP_SKIP and any(axis.name == "clip-skip" for axis in axes):
        raise ConfigError(
            f"clip-skip has no effect: {family.TITLE} always uses the same layer",
            hint="choose another axis",
        )


def _of_base(train: TrainOptions, base: str) -> TrainOptions:
    if base == train.pretrained_model_name_or_path:
        return train
    return replace(train, pretrained_model_name_or_path=base, revision="", vae="")


def _facts(train: TrainOptions, context: RunContext) -> GridBase:
    base = train.pretrained_model_name_or_path
    context.reporter.phase(f"reading {Path(base).name}")
    path = local(base, train.revision)
    settings = [train.mixed_precision, f"{train.max_token_length} tokens"]
    settings += [f"vae {Path(train.vae).name}"] if train.vae else []
    settings += [
        name for name in ("weighted_captions", "zero_terminal_snr") if getattr(train, name)
    ]
    return GridBase(
        display(Path(base).name if Path(base).exists() else base),
        "" if path is None else model_hash(path),
        ", ".join(map(str, settings)),
    )


def _scoring(near: Path, options: GridOptions, train: TrainOptions, planned: Grid) -> GridScoring:
    images = grid_scores.find_images(near, options, train)
    return GridScoring(options, images, grid_scores.cells_to_score(planned, images.trigger))


# ---- which cells exist


def _is_drawn(out: Path, cell: Cell) -> bool:
    """Tell whether the file of a cell exists and is whole. Raises PlanConflict for another file of
    its name.
    """
    path = out / cell.file
    data = read_existing(path)
    if data is None:
        return False
    text = pixels.png_text(path).get(TEXT_KEY)
    if text is None or _unversioned(text) != _unversioned(cell.parameters(_PROGRAM)):
        raise PlanConflict(
            f"dsk did not write {display(path)}, and does not replace it",
            hint="give another folder with --out, or move that file away",
        )
    return data.endswith(_PNG_END)


def _unversioned(text: str) -> str:
    return _VERSION.sub("", text)


# ---- drawing


class _GridFiles:
    """The files of a grid: its cells, and what is made of them: contact sheets, page, record.

    until_made: holds the GPU from the first model on.
    """

    def __init__(self, plan: GridPlan, project: Project, until_made: ExitStack) -> None:
        self._out, self._grid, self._train = plan.out, plan.grid, plan.train
        self._scoring, self._project = plan.scoring, project
        self._until_made = until_made
        self._drawer: Any = None
        self.scores: GridScores | None = None
        self.seconds = 0.0
        self.changed = False
        self.first_entry: int | None = None
        self.entry: int | None = None

    def make(self, missing: Sequence[Cell]) -> None:
        """Draw the missing cells, then what is made of all of them. Raises PlanConflict."""
        earlier = self._own_pages()
        self._refuse_other_pages(earlier)
        measured = _read_losses(self._out / SCORES)
        contents = {} if missing else self._pages(measured)
        is_stale = any(path.name not in contents for path in earlier)
        if not missing and not is_stale and all(self._is_same(*item) for item in contents.items()):
            return
        self.changed = True
        require_writable(nearest_folder(self._out))
        if missing:
            self._hold_gpu()  # before anything changes
        self.first_entry = self._move_away(earlier)
        what = f"{len(missing)} drawn" if missing else "contact sheets and page"
        title = f"{display(self._out.name)}: {what}"
        with self._project.journal.recording(VERB, title) as recording:
            if missing:
                self._draw(missing, recording)
                contents = self._pages(measured)
            recording.make_folder(self._out)
            for name, data in contents.items():
                self._write(self._out / name, data, _PAGE_RECIPE, recording)
        self.entry = recording.entry
        if self.first_entry is None:
            self.first_entry = self.entry

    def _draw(self, missing: Sequence[Cell], recording: OpenEntry) -> None:
        """Draw cells one by one; each is complete on disk before the next one starts."""
        from trainer.grid import draw

        reporter = self._project.context.reporter
        folder = self._out / IMAGES
        recording.make_folder(folder)
        require_writable(folder)
        sweep(folder)

        for cell, image, seconds in draw.draw(self._model(), missing, reporter):
            self.seconds += seconds
            text = {TEXT_KEY: cell.parameters(_PROGRAM)}
            data = pixels.encode(image, "PNG", text=text)
            self._write(self._out / cell.file, data, _CELL_RECIPE, recording)

    def _model(self) -> Any:
        """Return what draws cells; a base is loaded when the first cell needs it."""
        from trainer.grid import draw

        if self._drawer is None:
            self._drawer = draw.GridDrawer(self._load)
        return self._drawer

    def _hold_gpu(self) -> None:
        self._until_made.enter_context(base_model.gpu(self._project.context))

    def _load(self, base: str) -> Any:
        self._hold_gpu()
        return base_model.load(_of_base(self._train, base), self._project.context.reporter)

    def _write(self, path: Path, data: bytes, recipe: str, recording: OpenEntry) -> None:
        output = Output(path, hashlib.sha256(data).hexdigest(), recipe, path)
        self._project.store.put_pending([output])
        write_atomic(path, data)
        recording.record(output)

    # ---- contact sheets, page, record

    def _pages(self, measured: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the files that are made of the cells, by name. measured: losses of an earlier
        run.
        """
        contents: dict[str, bytes] = {}
        if self._scoring is not None:
            contents[SCORES] = self._score(self._scoring, measured)
        self._project.context.reporter.phase("contact sheets")
        title, subtitle = self._title(), self._subtitle()
        facts = score_page.facts(self._grid, self.scores)
        for z, name in enumerate(sheets.file_names(self._grid)):
            sheet = sheets.draw(self._grid, z, self._out, title, subtitle, facts)
            contents[name] = pixels.encode(sheet, "PNG")
        contents[RECORD] = self._record().encode("utf-8")
        contents[PAGE] = page.html(self._grid, title, subtitle, _PROGRAM, self.scores).encode(
            "utf-8"
        )
        return contents

    def _score(self, scoring: GridScoring, measured: Mapping[str, Any]) -> bytes:
        """Measure the LoRAs; return the record of it."""
        scorer = grid_scores.GridScorer(
            self._grid, scoring.cells, scoring.images, scoring.options, self._out,
            self._project.context.reporter, measured,
        )  # fmt: skip
        self.scores = scorer.measure(lambda cell: self._model().model_of(cell))
        record = {"losses": scorer.losses, "scores": asdict(self.scores)}
        return (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode("utf-8")

    def _title(self) -> str:
        names = dict.fromkeys(
            cell.lora.run for cell in self._grid.unique.values() if cell.lora is not None
        )
        shown = ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
        return f"{shown} on {', '.join(base.name for base in self._base_facts())}"

    def _base_facts(self) -> list[GridBase]:
        return list(dict.fromkeys(cell.base for cell in self._grid.cells.values()))

    def _subtitle(self) -> str:
        """Return what all cells share."""
        prompts = [cell.request.prompt for cell in self._grid.cells.values()]
        facts = [f"{len(self._grid.unique):,} images"]
        texts = {
            "steps": [f"{p.steps} steps" for p in prompts],
            "sampler": [p.sampler for p in prompts],
            "cfg": [f"cfg {p.guidance:g}" for p in prompts],
            "size": [f"{p.width} x {p.height}" for p in prompts],
            "seed": [f"seed {p.seed}" for p in prompts],
            "prompt": [p.text for p in prompts],
        }
        facts += [values[0] for values in texts.values() if len(set(values)) == 1]
        return " · ".join(facts)

    def _record(self) -> str:
        """Return a line of JSON for each different cell."""
        positions: dict[str, list[Mapping[str, str]]] = {}
        for (z, y, x), cell in self._grid.cells.items():
            at = zip(self._grid.axes, (x, y, z), strict=False)
            labels = {axis.name: axis.values[n].label for axis, n in at}
            positions.setdefault(cell.file, []).append(labels)
        extra = self._scoring.cells.extra if self._scoring else {}
        lines = [
            {
                "file": file,
                "sha256": file_sha256(self._out / file),
                "at": positions.get(file, []),
                "lora_name": "" if cell.lora is None else cell.lora.name,
                "lora_folder": "" if cell.lora is None else self._folder_of(cell.lora),
                "base_name": cell.base.name,
                **cell.settings,
            }
            for file, cell in {**self._grid.unique, **extra}.items()
        ]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _folder_of(self, lora: GridLora) -> str:
        """Return the folder of a LoRA: as seen from the grid where both lie in one project. "" for
        a name that is not UTF-8.
        """
        folder, out = lora.path.parent.resolve(), self._out.resolve()
        is_near = folder.is_relative_to(find_root(out))
        seen = os.path.relpath(folder, out) if is_near else str(folder)
        return Path(seen).as_posix() if is_readable_name(seen) else ""

    # ---- pages of an earlier run

    def _own_pages(self) -> list[Path]:
        """Return the files that earlier runs made of cells in this folder, and that exist."""
        stored = self._project.store.stored_outputs()
        paths = [s.output.path for s in stored if s.output.recipe == _PAGE_RECIPE]
        folder = self._out.resolve()
        return [p for p in paths if p.parent.resolve() == folder and p.is_file()]

    def _refuse_other_pages(self, earlier: Sequence[Path]) -> None:
        own = {path.name for path in earlier}
        for name in (*sheets.file_names(self._grid), RECORD, PAGE, SCORES):
            if (self._out / name).exists() and name not in own:
                raise PlanConflict(
                    f"dsk did not write {display(self._out / name)}, and does not replace it",
                    hint="give another folder with --out, or move that file away",
                )

    def _is_same(self, name: str, data: bytes) -> bool:
        return read_existing(self._out / name) == data

    def _move_away(self, earlier: Sequence[Path]) -> int | None:
        """Move the pages of an earlier run to the trash; return the number in the history."""
        if not earlier:
            return None
        journal = self._project.journal
        trash = self._project.root / PROJECT / "trash" / f"grid-{journal.next_id()}"
        moves = [Move(path, trash / path.name) for path in earlier]
        return self._project.apply(
            Plan(tuple(moves)), VERB, f"{display(self._out.name)}: earlier contact sheets and page"
        )


def _read_losses(path: Path) -> Mapping[str, Any]:
    """Return the losses that an earlier run measured, by key; none for another file."""
    data = read_existing(path)
    try:
        record = json.loads(data) if data else {}
        losses: Mapping[str, Any] = {
            str(key): [[[float(x) for x in row] for row in rows] for rows in pair]
            for key, pair in record["losses"].items()
            if len(pair) == 2
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return losses
