"""`dsk init` and `dsk run`: one dsk.toml, all steps, only what changed."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasetkit.captions.caption_names import misnamed_captions
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import CONFIG_NAME, display, fold, refuse_links
from datasetkit.core.records import Failed, LeftOut, RunReport, unused_files
from datasetkit.dataset.layout import TRAIN, Concept, folder_name
from datasetkit.images.listing import Listing, list_images
from datasetkit.images.scan import require_images
from datasetkit.options import trust
from datasetkit.options.caption import CaptionOptions
from datasetkit.options.dataset import ExportOptions, LayoutOptions, ReportOptions
from datasetkit.options.executor import ExecutorOptions
from datasetkit.options.images import CutoutOptions, FacesOptions, RenameOptions, ResizeOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.run import STEPS, ConceptOptions, RunOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, load, options_class
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.caption import caption
from datasetkit.verbs.cutout import cutout, require_installed, require_model
from datasetkit.verbs.export import export
from datasetkit.verbs.faces_crop import crop_faces
from datasetkit.verbs.faces_erase import erase_faces
from datasetkit.verbs.layout import layout
from datasetkit.verbs.reg import reg, require_class
from datasetkit.verbs.rename import rename
from datasetkit.verbs.report import report
from datasetkit.verbs.resize import resize
from datasetkit.verbs.shared import describing, schema_file, scoring
from datasetkit.verbs.shared.caption_joins import require_join
from datasetkit.verbs.shared.caption_rules import build_rule_set
from datasetkit.verbs.shared.concept_folders import (
    IMAGE_STEPS,
    StepFolders,
    concept_name,
    declared_trigger,
    step_folders,
    work_folder,
)
from datasetkit.verbs.shared.executor import connected
from datasetkit.verbs.shared.faces import require_detector
from datasetkit.verbs.shared.recovery import recover_dataset
from datasetkit.verbs.tag import TagResult, tag
from taggers import registry

# How many captions an error names.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RunStepResult:
    """The result of one step. concept: "" for a step on the whole dataset."""

    step: str
    concept: str
    result: Any


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of a run. unforeseen: steps that a dry run cannot show, as they need the files of
    an earlier step.

    strays: work folders without a concept, left by a concept that was renamed or removed.
    fallback: `auto` found no WD14 model and chose basic.
    """

    root: Path
    steps: tuple[RunStepResult, ...]
    unforeseen: tuple[str, ...] = ()
    strays: tuple[Path, ...] = ()
    fallback: bool = False

    @property
    def failed(self) -> tuple[Failed, ...]:
        return tuple(f for step in self.steps for f in _failures(step.result))

    @property
    def unused_files(self) -> tuple[LeftOut, ...]:
        """Return the files that the steps left out, each once."""
        items = (item for step in self.steps for item in unused_files(step.result))
        return tuple({item.path: item for item in items}.values())


def run(
    path: Path,
    context: RunContext = DEFAULT_CONTEXT,
    each: Callable[[RunStepResult], None] | None = None,
    begins: Callable[[str, str], None] | None = None,
) -> RunResult:
    """Run the steps of a dsk.toml in order, for every concept; each step only does what changed.

    begins: called with the names of step and concept before each step; each: with its result after
    it. Errors of later steps that can be known are raised before the first step; a step that fails
    as a whole ends the run; a failed image is only left out. A dry run shows the steps whose input
    exists: up to the first that needs files of an earlier step.
    """
    path = path / CONFIG_NAME if path.is_dir() else path
    if path.name != CONFIG_NAME:
        raise ConfigError(
            f"{display(path)} is not named {CONFIG_NAME}",
            hint=f"create a folder with a {CONFIG_NAME} for each project",
        )
    config = load(path)
    root = path.absolute().parent
    if not config.concepts:
        raise ConfigError(
            f"{display(path)} has no [[concept]]", hint='add [[concept]] with folder = "DIR"'
        )
    options = config.build(RunOptions, "run")
    for line in _outside(config, root, options.steps):
        context.reporter.warn(line)
    done: list[RunStepResult] = []
    unforeseen: list[str] = []
    with _inside(root), _on_cluster(config, context) as context:
        recover_dataset(root, context)
        _require_all(config, options.steps, context)
        if "tag" in options.steps and _tags_with_fallback(config):
            context.reporter.warn("tag will use the fallback basic: no WD14 model was found")
        if not context.dry_run:
            schema_file.refresh(root)
        for line in _without_trigger(config) if "tag" in options.steps else ():
            context.reporter.warn(line)
        for step in STEPS:
            if step not in options.steps:
                continue
            for name, call in _calls(step, config):
                if context.dry_run and not _can_preview(step, config, name):
                    unforeseen.append(f"{step} {name}".strip())
                    continue
                if begins is not None:
                    begins(step, name)
                result = RunStepResult(step, name, call(context))
                done.append(result)
                if each is not None:
                    each(result)
        strays = _strays(config, options)
    fallback = any(isinstance(s.result, TagResult) and s.result.fallback for s in done)
    return RunResult(root, tuple(done), tuple(unforeseen), strays, fallback)


@contextmanager
def _on_cluster(config: Config, context: RunContext) -> Iterator[RunContext]:
    """Connect to the cluster of [executor], for all steps; a context that has one keeps it."""
    if context.cluster is not None:
        yield context
        return
    with connected(config.build(ExecutorOptions, "executor")) as cluster:
        yield replace(context, cluster=cluster)


def _outside(config: Config, root: Path, steps: Sequence[str]) -> tuple[str, ...]:
    """Return a line for each place outside of the project that a run writes to."""
    paths = {
        f"[{table}] {name}": path
        for table in ("run", *steps)
        for name, path in trust.outside(options_class(table), config.table(table), root).items()
    }
    if "rename" in steps or not set(IMAGE_STEPS) & set(steps):
        paths |= {
            f"[[concept]] {concept_name(c)}": Path(root, c.folder).resolve()
            for c in config.concepts
            if trust.is_outside(root / c.folder, root)
        }
    return tuple(
        f"{name} lies outside of {display(root)}: {display(path)}" for name, path in paths.items()
    )


def _without_trigger(config: Config) -> tuple[str, ...]:
    """Return a line for each concept whose captions would begin with no trigger."""
    return tuple(
        f"{display(concept_name(c))} has no trigger: for a subject write a line "
        f'`trigger = ["NAME"]` under [[concept]] in {CONFIG_NAME}, and run it again'
        for c in config.concepts
        if not declared_trigger(config, c)
    )


def _strays(config: Config, options: RunOptions) -> tuple[Path, ...]:
    """Return the work folders with images but without a concept: edits in them are not used."""
    work = Path(options.work).absolute()
    if not set(IMAGE_STEPS) & set(options.steps) or not work.is_dir():
        return ()
    names = {
        *map(concept_name, config.concepts),
        f"reg-{config.build(RegOptions, 'reg').class_name}",
    }
    others = (
        path
        for path in sorted(work.iterdir())
        if path.name not in names and not path.name.startswith(".")
    )
    return tuple(path for path in others if path.is_dir() and list_images(path).images)


def _require_all(config: Config, steps: Sequence[str], context: RunContext) -> None:
    """Raise the errors of later steps before hours of work go into the first ones.

    ConfigError for invalid names, rules and tables, then DatasetError for folders without images.
    """
    _check_concepts(config, with_rules="tag" in steps)
    if "resize" in steps and config.build(ResizeOptions, "resize").in_place:
        raise ConfigError(
            "[resize] in_place = true is not supported in a run",
            hint="a run keeps your images and writes to work/",
        )
    folders = [Path(concept.folder) for concept in config.concepts]
    if "reg" in steps:
        reg_options = config.build(RegOptions, "reg")
        require_class(reg_options)
        folders.append(Path(reg_options.folder))
    if "cutout" in steps:
        require_model(config.build(CutoutOptions, "cutout"))
    if "faces" in steps:
        require_detector(config.build(FacesOptions, "faces"))
    if not {"rename", *IMAGE_STEPS, "tag", "caption"}.isdisjoint(steps):
        first = next((step for step in IMAGE_STEPS if step in steps), "tag")
        reading: Any = config.build(options_class(first), first)
        for folder in folders:
            listing = require_images(
                folder, recursive=reading.recursive, follow_links=reading.follow_links
            )
            if first != "tag":
                _require_read_captions(folder, listing, config)
    if "caption" in steps:
        _require_captioner(config)
    if "cutout" in steps and not context.dry_run:
        require_installed(config.build(CutoutOptions, "cutout"))


def _require_read_captions(folder: Path, listing: Listing, config: Config) -> None:
    """Raise InputError for captions that no step reads: their images would be tagged, and the
    dataset would have other captions than a person wrote.
    """
    if config.build(TagOptions, "tag").existing == "overwrite":
        return
    misnamed = [path for paths in misnamed_captions(listing.images).values() for path in paths]
    if misnamed:
        names = ", ".join(display(path.name) for path in misnamed[:_SHOWN])
        names += ", ..." if len(misnamed) > _SHOWN else ""
        is_read = "1 caption" if len(misnamed) == 1 else f"{len(misnamed):,} captions"
        raise InputError(
            f"{is_read} in {display(folder)} would not be read ({names})",
            hint=f"dsk check {shlex.quote(display(folder))} --fix renames what it can to "
            "<stem>.txt, or move them away",
        )


def _require_captioner(config: Config) -> None:
    """Raise the errors of `caption` that can be known before the first step: its options, the kind
    of each concept's captions, and a model that is not on this machine.
    """
    options = config.build(CaptionOptions, "caption")
    for concept in config.concepts:
        folder = work_folder(config, concept)
        require_join(options.join, {folder: syntax_of(folder)})
    describing.resolve(options, describing.question(Path(config.concepts[0].folder), options))


def _tags_with_fallback(config: Config) -> bool:
    """Tell whether `auto` finds no WD14 model. Raises MissingExtra and ModelFileError, as tag."""
    each = [config.for_concept(c).build(TagOptions, "tag") for c in config.concepts]
    choices = {o.tagger: o for o in each if o.tagger == registry.AUTO}
    return any(t.fallback for o in choices.values() for t in scoring.resolve(o))


def _check_concepts(config: Config, *, with_rules: bool) -> None:
    """Raise ConfigError for names that are not unique or not valid, and for invalid rules."""
    names: set[str] = set()
    for concept in config.concepts:
        name = concept_name(concept)
        folder_name(Concept(concept.repeats or 1, name))
        if fold(name) in names:
            raise ConfigError(
                f"two concepts are named {display(name)}",
                hint='give each [[concept]] its own name = "..."',
            )
        names.add(fold(name))
        if with_rules:
            build_rule_set(config.for_concept(concept).build(TagOptions, "tag"))


def _calls(step: str, config: Config) -> list[tuple[str, Callable[[RunContext], Any]]]:
    """Return the calls of a step: one per concept for images and captions, one for the dataset."""
    if step in _CONCEPT_STEPS:
        calls: list[tuple[str, Callable[[RunContext], Any]]] = [
            (concept_name(c), partial(_CONCEPT_STEPS[step], config, c)) for c in config.concepts
        ]
        if step == "resize" and "reg" in config.build(RunOptions, "run").steps:
            calls.append(("reg", partial(_resize_reg, config)))
        return calls
    dataset_steps: dict[str, Callable[[RunContext], Any]] = {
        "layout": lambda context: layout([], config.build(LayoutOptions, "layout"), context),
        "reg": lambda context: _reg(config, context),
        "report": lambda context: report(
            _out(config), config.build(ReportOptions, "report"), context
        ),
        "export": lambda context: export(
            _out(config), config.build(ExportOptions, "export"), context
        ),
    }
    return [("", dataset_steps[step])]


def _out(config: Config) -> Path:
    return Path(config.build(LayoutOptions, "layout").out)


def _rename(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    table = config.table("rename")
    prefix = concept.prefix or table.get("prefix") or concept_name(concept)
    if len(config.concepts) > 1 and not concept.prefix:
        prefix = concept_name(concept)
    return rename(
        Path(concept.folder), config.build(RenameOptions, "rename", {"prefix": prefix}), context
    )


def _step_folders(step: str, config: Config, concept: ConceptOptions) -> StepFolders:
    options = config.build(RunOptions, "run")
    folders = step_folders(
        options.steps, Path(options.work), Path(concept.folder), concept_name(concept)
    )[step]
    if not folders.out.is_absolute() and "work" not in config.table("run"):
        refuse_links(folders.out, Path())  # they may have come with the folder
    return folders


def _faces(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    folders = _step_folders("faces", config, concept)
    options = config.build(FacesOptions, "faces")
    return {"crop": crop_faces, "erase": erase_faces}[options.do](
        folders.source, folders.out, options, context
    )


def _resize(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    folders = _step_folders("resize", config, concept)
    return resize(folders.source, folders.out, config.build(ResizeOptions, "resize"), context)


def _cutout(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    folders = _step_folders("cutout", config, concept)
    return cutout(folders.source, folders.out, config.build(CutoutOptions, "cutout"), context)


def _tag(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    return tag(
        work_folder(config, concept), config.for_concept(concept).build(TagOptions, "tag"), context
    )


def _caption(config: Config, concept: ConceptOptions, context: RunContext) -> Any:
    return caption(work_folder(config, concept), config.build(CaptionOptions, "caption"), context)


_CONCEPT_STEPS: dict[str, Callable[[Config, ConceptOptions, RunContext], Any]] = {
    "rename": _rename,
    "faces": _faces,
    "resize": _resize,
    "cutout": _cutout,
    "tag": _tag,
    "caption": _caption,
}


def _reg(config: Config, context: RunContext) -> Any:
    options = config.build(RegOptions, "reg")
    if options.folder and "resize" in config.build(RunOptions, "run").steps:
        options = replace(options, folder=str(_resized_reg(config, options).absolute()))
    return reg(options, context)


def _resize_reg(config: Config, context: RunContext) -> Any:
    options = config.build(RegOptions, "reg")
    return resize(
        Path(options.folder),
        _resized_reg(config, options),
        config.build(ResizeOptions, "resize"),
        context,
    )


def _resized_reg(config: Config, options: RegOptions) -> Path:
    return Path(config.build(RunOptions, "run").work) / f"reg-{options.class_name}"


def _can_preview(step: str, config: Config, name: str) -> bool:
    """Tell whether a dry run can show a step: its input exists from an earlier run."""
    if step == "resize" and name == "reg":
        return True
    if step in ("tag", "caption", *IMAGE_STEPS):
        return all(_ready(step, config, c) for c in config.concepts if concept_name(c) == name)
    if step == "layout":
        return all(work_folder(config, c).is_dir() for c in config.concepts)
    if step == "reg" and "resize" in config.build(RunOptions, "run").steps:
        return (_out(config) / TRAIN).is_dir() and _resized_reg(
            config, config.build(RegOptions, "reg")
        ).is_dir()
    return step == "rename" or (_out(config) / TRAIN).is_dir()


def _ready(step: str, config: Config, concept: ConceptOptions) -> bool:
    if step in ("tag", "caption"):
        return work_folder(config, concept).is_dir()
    return _step_folders(step, config, concept).source.is_dir()


@contextlib.contextmanager
def _inside(root: Path) -> Iterator[None]:
    """Work in the folder of the dsk.toml: its paths are relative to it."""
    before = Path.cwd()
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(before)


def _failures(result: object) -> tuple[Failed, ...]:
    outcomes = getattr(result, "report", None)
    if isinstance(outcomes, RunReport):
        captions = getattr(result, "captions", None)
        return (*outcomes.failed, *getattr(captions, "failed", ()))
    return tuple(getattr(result, "failed", ()))
