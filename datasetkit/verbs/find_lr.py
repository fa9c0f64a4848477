"""`dsk find-lr`: search the learning rates of a training, and write them to its dsk.toml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.errors import ConfigError, Exit
from datasetkit.core.files import display, nearest_folder, read_existing, require_writable
from datasetkit.core.records import Failed, LeftOut
from datasetkit.core.toml_text import read_text
from datasetkit.options import toml, toml_edit
from datasetkit.options.find_lr import FindLrOptions
from datasetkit.options.train import TrainOptions
from datasetkit.project.plans import Plan, WriteBytes
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.verbs.shared import gpus
from datasetkit.verbs.shared.paths import AnyPath
from datasetkit.verbs.shared.training_plan import PlanTrainingResult, plan_run
from trainer import cpu_threads
from trainer.families import registry
from trainer.families.base import Family
from trainer.lr_search import rules, run_options
from trainer.lr_search.rules import PartSearch, SearchCost, SearchPart
from trainer.optimizers import trial
from trainer.plan import run_checks
from trainer.plan.outputs import output_name

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class FindLrPlan:
    """What a search does, and what it takes at most. parts: that are searched; titles: what
    messages call them. rank, alpha: the
    network's; rates are for their quotient. config: the dsk.toml that --write edits, None without.
    """

    name: str
    base: str
    parts: tuple[SearchPart, ...]
    titles: tuple[str, ...]
    optimizer: str
    seeds: tuple[int, ...]
    images: int
    batch_size: int
    rank: int
    alpha: float
    betas: tuple[float, float]
    cost: SearchCost
    plot: Path
    record: Path
    config: Path | None


@dataclass(frozen=True, slots=True)
class FindLrResult:
    """What was found. unet_lr, text_encoder_lr: the rates to train with, None where none was
    found or the part was not searched. text_tenth, text_measured: both answers for the text
    encoder. settings: for [train]; written: whether dsk.toml has them now. entry: in the history.
    """

    plan: FindLrPlan
    parts: tuple[PartSearch, ...] = ()
    unet_lr: float | None = None
    text_encoder_lr: float | None = None
    text_tenth: float | None = None
    text_measured: float | None = None
    text_from: Literal["tenth", "measured"] = "tenth"
    settings: Mapping[str, Any] | None = None
    written: bool = False
    warnings: tuple[str, ...] = ()
    entry: int | None = None
    failed: tuple[Failed, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()

    @property
    def denoiser(self) -> str:
        """Return what messages call the denoiser of the model."""
        titles = [search.title for search in self.parts if search.part == "unet"]
        return titles[0] if titles else ""

    @property
    def exit_code(self) -> Exit:
        """Return 3 where a part has no rate."""
        return Exit.SOME_FAILED if any(p.rate is None for p in self.parts) else Exit.DONE


def find_lr(
    folder: AnyPath,
    options: FindLrOptions,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    settings: Mapping[str, Any] | None = None,
    on_plan: Callable[[FindLrPlan], None] = lambda _: None,
) -> FindLrResult:
    """Search the learning rates by which a training of a folder learns.

    folder, settings: as of `plan_training`. on_plan: called before anything is loaded, with what
    the search takes at most. In a dry run the result has the plan alone.

    Raises what `plan_training` raises; ConfigError for network_args that give weights of a part
    different rates, for a part that is not trained, and for --write without a dsk.toml; Locked
    while another run uses the GPU.
    """
    folder = Path(folder)
    config = _writable_config(folder) if options.write else None
    training = plan_run(folder, settings=settings, change=run_options.searched, context=context)
    for notice in training.plan.notices:
        context.reporter.warn(notice)
    rules.require_one_rate(training.options.network())
    plan = _plan(training, options, config)
    _check(training.options, plan, options)
    context.reporter.finish()
    on_plan(plan)
    if context.dry_run:
        return FindLrResult(plan, failed=training.failed, unused_files=training.plan.left_out)
    context.reporter.phase("loading PyTorch")
    cpu_threads.set_environment()
    from trainer.lr_search import search  # here: it loads torch

    # Held for the search alone: --write waits for the project, where a grid may wait for the GPU.
    with gpus.held(context):
        parts = search.search(
            training.options,
            training.plan,
            plan.parts,
            optimizer=options.optimizer,
            most=options.most,
            seeds=options.seeds,
            sweep_steps=rules.SWEEP_STEPS if options.sweep else 0,
            d0=options.d0,
            reporter=context.reporter,
        )
    result = _result(plan, parts, training, options)
    return _written(result, context)


def _writable_config(folder: Path) -> Path:
    """Return the dsk.toml that --write edits. Raises ConfigError where it cannot be edited: before
    the search, not after it.
    """
    path = toml.named_or_found(folder).path
    if path is None:
        raise ConfigError(
            f"--write needs a dsk.toml, and none governs {display(folder)}",
            hint="make one with dsk init, or search without --write and use --set",
        )
    _edited(path, {"unet_lr": 1.0})
    require_writable(path.parent)
    return path


def _edited(path: Path, settings: Mapping[str, Any]) -> bytes:
    """Return a dsk.toml with settings of [train]. Raises ConfigError."""
    read_text(path)  # for its errors
    text = path.read_bytes().decode("utf-8")  # with its own line ends
    return toml_edit.with_values(text, "train", settings, source=display(path)).encode()


def _plan(training: PlanTrainingResult, options: FindLrOptions, config: Path | None) -> FindLrPlan:
    train = training.options
    family = registry.family(training.model.family) if training.model else None
    parts = _parts(training.rates, options.part, family)
    images = {(p.id, p.subset.block.number) for p in training.plan.images if not p.subset.is_reg}
    grid = min(rules.IMAGES, len(images))
    output = Path(train.output_dir)
    return FindLrPlan(
        name=output_name(train, training.plan),
        base=train.pretrained_model_name_or_path,
        parts=parts,
        titles=tuple(rules.title(part, family.DENOISER if family else None) for part in parts),
        optimizer={"prodigy": "Prodigy", "dadapt": "D-Adaptation"}[options.optimizer],
        seeds=tuple(train.seed + n for n in range(options.seeds)),
        images=grid,
        batch_size=train.train_batch_size,
        rank=train.network_dim,
        alpha=train.network_alpha or train.network_dim,
        betas=run_options.betas_of(train),
        cost=rules.cost(len(parts), options.seeds, options.most, sweep=options.sweep, images=grid),
        plot=output / "find-lr.png",
        record=output / "find-lr.json",
        config=config,
    )


def _parts(
    rates: Mapping[str, float], wanted: str, family: Family | None
) -> tuple[SearchPart, ...]:
    """Return the parts to search: of those that are trained. family: None while it is not known.
    Raises ConfigError for none.
    """
    trained = [
        part for part, names in rules.PROBED_PARTS.items() if any(rates.get(name) for name in names)
    ]
    parts = [part for part in trained if wanted in (part, "both")]
    if not parts and wanted == "text" and family is not None and not family.TRAINS_TEXT:
        raise ConfigError(
            f"--part text: the text encoder of {family.TITLE} is not trained",
            hint="search the rate of the transformer alone: --part unet",
        )
    if not parts:
        part: SearchPart = "text" if wanted == "text" else "unet"
        title = rules.title(part, family.DENOISER if family else None)
        option = "text_encoder_lr" if wanted == "text" else "unet_lr"
        raise ConfigError(
            f"--part {wanted}: the {title} is not trained, by the options of the training",
            hint=f"train it: --set {option}=1e-4, without network_train_..._only",
        )
    return tuple(parts)


def _check(train: TrainOptions, plan: FindLrPlan, options: FindLrOptions) -> None:
    """Raise what the search would raise: a missing package, a folder that cannot be written to."""
    run_checks.check_machine(train)
    require_writable(nearest_folder(plan.record.parent))
    cpu_threads.set_environment()
    for part in plan.parts:
        probe = run_options.of_probe(train, part, train.seed, options.optimizer, options.d0)
        trial.check(probe, options.most)


# ---- the result


def _result(
    plan: FindLrPlan,
    parts: Sequence[PartSearch],
    training: PlanTrainingResult,
    options: FindLrOptions,
) -> FindLrResult:
    rates = {part.part: part.rate for part in parts}
    unet = rates.get("unet")
    measured = rates.get("text")
    tenth = None if unet is None or "text" not in rates else rules.rounded(rules.TENTH * unet)
    # Without the UNet there is nothing to take a tenth of.
    text_from = options.text if "unet" in rates else "measured"
    text = tenth if text_from == "tenth" else measured
    settings: dict[str, Any] = {}
    if unet is not None:
        settings["unet_lr"] = unet
    if text is not None:
        settings["text_encoder_lr"] = text
    if settings:
        settings |= {
            "optimizer_type": "AdamW",
            "optimizer_args": list(run_options.adamw_args(training.options)),
        }
    return FindLrResult(
        plan=plan,
        parts=tuple(parts),
        unet_lr=unet,
        text_encoder_lr=text,
        text_tenth=tenth,
        text_measured=measured,
        text_from=text_from,
        settings=settings or None,
        warnings=tuple(line for part in parts for line in _warnings(part, plan, options)),
        failed=training.failed,
        unused_files=training.plan.left_out,
    )


def _warnings(search: PartSearch, plan: FindLrPlan, options: FindLrOptions) -> list[str]:
    """Return what a person should know of a search before the rate is used."""
    title = search.title
    lines = []
    for probe in search.probes:
        where = f"{title}, seed {probe.seed}"
        if probe.outcome == "never left d0":
            lines.append(
                f"{where}: the estimate never left d0 in {options.most:,} steps, up to d0 = "
                f"{probe.d0:g}; try --most {2 * options.most}"
            )
        elif probe.is_ruined:
            why = "not finite" if probe.change is None else f"loss {probe.change.words()}"
            lines.append(f"{where}: the probe ran away ({why}); its rate is only a candidate")
        if probe.outcome == "growing":
            lines.append(
                f"{where}: the estimate still grew after {options.most:,} steps; try --most "
                f"{2 * options.most}"
            )
    if search.candidate is not None and not search.sweep:
        lines.append(f"{title}: without a sweep, {search.rate:g} is only a candidate")
    if search.sweep and search.rate is None:
        lines.append(f"{title}: no rate of the sweep lowered the loss: look at the dataset first")
    if search.sweep and search.rate == max(point.rate for point in search.sweep):
        lines.append(f"{title}: the sweep took its largest rate; a larger one may be better")
    return lines


def _written(result: FindLrResult, context: RunContext) -> FindLrResult:
    """Write the record and the plot, and with --write dsk.toml, as one entry of the history."""
    plan = result.plan
    from trainer.lr_search import plot

    title = f"{plan.name}: learning rate"
    facts = (
        f"{plan.optimizer}, {len(plan.seeds)} seeds, batch {plan.batch_size}, rank {plan.rank}, "
        f"alpha {plan.alpha:g}; dashed: the probe ran away, dotted: the rate that was taken"
    )
    files = {
        plan.record: json.dumps(_record(result), indent=1).encode() + b"\n",
        plan.plot: plot.png(result.parts, title=title, facts=facts),
    }
    problem: ConfigError | None = None
    edits: dict[Path, bytes] = {}
    if plan.config is not None and result.settings and result.exit_code == Exit.DONE:
        try:
            edits[plan.config] = _edited(plan.config, result.settings)
        except ConfigError as error:  # somebody edited it meanwhile: the result must not be lost
            problem = error
    ops = [WriteBytes(path, data, read_existing(path)) for path, data in (files | edits).items()]
    root = plan.record.parent if plan.config is None else plan.config.parent
    with open_project(root, context, create_folder=True) as project:
        entry = project.apply(Plan(tuple(ops)), "find-lr", plan.name, edited=edits)
    if problem is not None:
        raise problem
    return replace(result, written=bool(edits), entry=entry)


def _record(result: FindLrResult) -> dict[str, Any]:
    """Return what find-lr.json has: everything that the table and the plot are made of."""
    plan = asdict(result.plan)
    for path in ("plot", "record", "config"):
        del plan[path]
    return {
        "version": _VERSION,
        "unet_lr": result.unet_lr,
        "text_encoder_lr": result.text_encoder_lr,
        "text_tenth": result.text_tenth,
        "text_measured": result.text_measured,
        "settings": result.settings,
        "warnings": list(result.warnings),
        "plan": plan,
        "parts": [asdict(part) for part in result.parts],
    }
