"""`dsk plan-repeats`: plan the repeats for a number of steps, and count the exact steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from datasetkit.core.errors import ConfigError, DatasetError, InputError
from datasetkit.core.files import display, find_root
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, LeftOut
from datasetkit.dataset import layout as grammar
from datasetkit.dataset import repeats as arithmetic
from datasetkit.dataset import validation_split
from datasetkit.dataset.advice import DEFAULT_STEPS, advice
from datasetkit.dataset.repeats import ConceptImages, RepeatsPlan
from datasetkit.images.scan import scan
from datasetkit.options.dataset import PlanRepeatsOptions
from datasetkit.options.toml import find
from datasetkit.options.train import TrainOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet, ConceptSets, find_sets
from datasetkit.verbs.shared.concept_images import (
    batch_settings,
    measure,
    no_usable_image,
    train_options,
)
from datasetkit.verbs.shared.recovery import recover_dataset


@dataclass(frozen=True, slots=True)
class PlanRepeatsResult:
    """A plan of repeats. now: current repeats of the laid-out folders; entry: of their renaming.

    folder: the dataset; None if only a number of images was given.
    """

    plan: RepeatsPlan
    advice: tuple[str, ...]
    now: Mapping[str, int | None]
    origin: str
    failed: tuple[Failed, ...] = ()
    entry: int | None = None
    folder: Path | None = None
    unused_files: tuple[LeftOut, ...] = ()


def plan_options(folder: Path, given: Mapping[str, object]) -> PlanRepeatsOptions:
    """Build the options of `dsk plan-repeats`: its own table, else `[layout]`, whose folders it
    plans.
    """
    config = find(folder)
    table, names = (
        config.table("plan-repeats"),
        {field.name for field in fields(PlanRepeatsOptions)},
    )
    laid_out = {
        name: value
        for name, value in config.table("layout").items()
        if name in names and name not in table and given.get(name) is None
    }
    return config.build(PlanRepeatsOptions, "plan-repeats", {**given, **laid_out})


def plan_repeats(
    folder: Path,
    options: PlanRepeatsOptions,
    *,
    apply: bool = False,
    context: RunContext = DEFAULT_CONTEXT,
) -> PlanRepeatsResult:
    """Plan the repeats of a dataset, and count the exact optimizer steps.

    apply: rename the laid-out folders to the planned repeats. Raises DatasetError if the folder is
    not a dataset.
    """
    train = train_options(find(folder), options.resolution)
    if options.images is not None:
        if apply:
            raise ConfigError(
                "--images plans without files, so there are no folders to rename",
                hint="leave out --images or --apply",
            )
        concepts = [ConceptImages("images", count=options.images)]
        plan = arithmetic.plan(
            concepts,
            rules=train.all_bucket_rules(),
            batch_settings=batch_settings(options, train),
            steps=options.steps or DEFAULT_STEPS,
        )
        return PlanRepeatsResult(plan, advice(plan, options.kind), {}, "--images")
    recover_dataset(folder, context)
    try:
        sets = find_sets(folder)
    except DatasetError as error:
        raise DatasetError(error.message, hint=f"{error.hint}; or plan with --images N") from None
    with Store.open_copy(find_root(folder)) as store:
        held_out = _held_out(sets, train, store, context.reporter)
        measured = measure(sets.train, store, context.reporter, without=held_out)
        reg = measure(sets.reg, store, context.reporter)
    if not measured.concepts:
        raise no_usable_image(folder, measured.failed)
    as_they_are, steps = _wish(sets, options, apply=apply)
    concepts = [c if as_they_are else replace(c, repeats=None) for c in measured.concepts]
    plan = arithmetic.plan(
        concepts,
        rules=train.all_bucket_rules(),
        batch_settings=batch_settings(options, train),
        steps=steps,
        reg=reg.concepts,
    )
    current = {c.name: c.repeats for c in sets.train}
    entry = _rename_folders(folder, sets, plan, context) if apply else None
    problems = tuple(m.text for m in sets.misread)
    return PlanRepeatsResult(
        plan,
        (*problems, *advice(plan, options.kind)),
        current,
        sets.origin,
        (*measured.failed, *reg.failed),
        entry,
        folder,
        (*sets.unused_files, *measured.left_out, *reg.left_out),
    )


def _wish(
    sets: ConceptSets, options: PlanRepeatsOptions, *, apply: bool
) -> tuple[bool, int | None]:
    """Return whether the repeats of a dataset count as they are, and the steps that are wanted.

    A laid-out dataset is planned again only for steps that somebody asked for.
    """
    if sets.origin != "laid out":
        return sets.origin == "dsk.toml", options.steps or DEFAULT_STEPS
    if apply and options.steps is None:
        raise ConfigError(
            "--apply needs the steps that are wanted", hint=f"--apply --steps {DEFAULT_STEPS}"
        )
    return options.steps is None, options.steps


def _rename_folders(
    folder: Path, sets: ConceptSets, plan: RepeatsPlan, context: RunContext
) -> int | None:
    if sets.origin != "laid out":
        raise InputError(
            f"{display(folder)} has no <repeats>_<concept> folders to rename",
            hint="run dsk layout first",
        )
    tree = grammar.read_tree(sets.train[0].folder.parent)
    change = grammar.plan_repeats_change(tree, {c.name: c.repeats for c in plan.concepts})
    with open_project(folder, context) as project:
        return project.apply(
            change, "plan-repeats", ", ".join(f"{c.repeats}_{c.name}" for c in plan.concepts)
        )


def _held_out(
    sets: ConceptSets, train: TrainOptions, store: Store, reporter: Reporter
) -> frozenset[str]:
    """Return the contents that `[train]` holds out for validation."""
    if not train.validation_split:
        return frozenset()

    def ids(concepts: Sequence[ConceptSet]) -> list[str]:
        scans = (
            scan(
                c.folder,
                store,
                recursive=c.recursive,
                with_ids=True,
                captions=False,
                reporter=reporter,
            )
            for c in concepts
        )
        return [record.id for scanned in scans for record in scanned.records]

    return frozenset(
        validation_split.held_out(
            ids(sets.train), ids(sets.reg), train.validation_split, train.validation_seed or 0
        )
    )
