"""The plan of a training, which `dsk train` and `dsk find-lr` make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from sys import intern
from typing import Any, Final

from datasetkit.captions.caption import caption_lines, parse
from datasetkit.captions.grammar import PLAIN, kept_and_free, simple_tags
from datasetkit.core.collection import paused_collection
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.core.records import Failed
from datasetkit.dataset.keep_tokens import ConceptCaptions, KeepTokens, keep_tokens
from datasetkit.dataset.repeats import Totals
from datasetkit.dataset.trigger import known_trigger
from datasetkit.options import toml
from datasetkit.options.train import TrainOptions
from datasetkit.project.session import RunContext
from datasetkit.verbs.shared.concept_folders import declared_at
from datasetkit.verbs.shared.recovery import recover_datasets
from trainer import config as train_config
from trainer import precision
from trainer.config import Format, TranslatedConfig
from trainer.data.captions import CaptionSettings
from trainer.families import option_checks, registry
from trainer.families.base import rates as part_rates
from trainer.families.detect import DetectedModel
from trainer.files import saved_states
from trainer.files.run_files import EarlierRun
from trainer.optimizers import schedule_options
from trainer.plan import (
    disk,
    encoded_captions,
    memory,
    model_shapes,
    report,
    run_checks,
    stored_images,
    token_limit,
)
from trainer.plan.disk import DiskEstimate
from trainer.plan.memory import CardFit, MemoryEstimate
from trainer.plan.model_shapes import ModelShapes
from trainer.plan.plan import TrainingPlan, find_subsets, make_plan
from trainer.plan.report import BlockUse, BucketUse, CaptionUse, SubsetUse

# So many captions of a concept tell its trigger; so many first tags of each tell whether it begins
# with it.
_ENOUGH: Final = 20_000
_FIRST_TAGS: Final = 4
# How a plan alone is made: nothing is written.
LOOKING = RunContext(dry_run=True)


@dataclass(frozen=True, slots=True)
class PlanTrainingResult:
    """A plan, and what a person should know of it before the first step.

    steps, epochs: of the whole run; totals: of an epoch. held_out: images that are validated, not
    trained. rates: part of the model -> learning rate, of the parts that are trained. lr_schedule:
    the name, or the class of lr_scheduler_type, which overrides it. memory_bytes: the sum of the
    estimate; fits: with which options smaller cards suffice; disk: space for its files. model: None
    where the base is not a file that can be read now. ignored: keys of other trainers' files
    without an effect here -> why. read_as: those files, each with the format that it was read as.
    keep_tokens_lowered_by: the images whose captions do not begin with the trigger, which
    keep_tokens is to keep in place. to_download: a line for each model that the run downloads, and
    checks then.
    earlier_run: of the same name in output_dir; its files are moved to `previous/` before step 1.
    resume: the run continues a training state, that of step `start`; extend: also where another
    number of steps changes the LR schedule.
    """

    options: TrainOptions
    plan: TrainingPlan = field(repr=False)  # every image with its caption: too long to print
    steps: int
    epochs: int
    totals: Totals
    subsets: tuple[SubsetUse, ...]
    held_out: tuple[Path, ...]
    buckets: tuple[BucketUse, ...]
    blocks: tuple[BlockUse, ...]
    captions: CaptionUse
    rates: Mapping[str, float]
    lr_schedule: str
    model: DetectedModel | None
    memory: MemoryEstimate
    memory_bytes: float
    fits: tuple[CardFit, ...]
    disk: DiskEstimate
    ignored: Mapping[str, str]
    keep_tokens_lowered_by: tuple[Path, ...] = ()
    earlier_run: EarlierRun | None = None
    to_download: tuple[str, ...] = ()
    read_as: str = ""
    resume: bool = False
    extend: bool = False
    start: int = 0

    @property
    def failed(self) -> tuple[Failed, ...]:
        return self.plan.failed


@paused_collection()
def plan_run(
    folder: Path,
    options: TrainOptions | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    dataset_config: Path | None = None,
    allow_import: bool = False,
    processes: int = 1,
    resume: bool = False,
    change: Callable[[TrainOptions], TrainOptions] | None = None,
    context: RunContext = LOOKING,
) -> PlanTrainingResult:
    """Plan a run as `plan_training` does, without a look at the results of earlier ones. change:
    makes other options of those that were read.
    """
    folder, config_file = _foreign(folder, config_file)
    if config_file is None and dataset_config is None:
        here = folder.parent if folder.is_file() else folder
        folders = [here, train_config.data_folder(here, toml.named_or_found(folder))]
    else:
        folders = train_config.named_folders(config_file, dataset_config)
        folders = folders or [folder]
    recover_datasets(folders, context)
    context.reporter.phase("reading the dataset")
    read = _read(folder, options, settings or {}, config_file, dataset_config, allow_import)
    if change is not None:
        read = replace(read, options=change(read.options))
    run_checks.check_options(read.options)
    if line := precision.notice(read.options):
        options = precision.decided(read.options)
        read = replace(read, options=options, notices=(*read.notices, line))
    plan = make_plan(
        read.subsets,
        read.options,
        processes=processes,
        notices=read.notices,
        whole=not context.dry_run or resume or _needs_contents(read.options),
        record=None if context.dry_run else stored_images.write,
        reporter=context.reporter,
    )
    model = option_checks.detect_base(read.options)
    shapes = run_checks.base_shapes(read.options)
    run_checks.check_plan(read.options, plan, shapes, resume=resume, reporter=context.reporter)
    plan = replace(
        plan,
        notices=(
            *plan.notices,
            *run_checks.notices(read.options, model),
            *run_checks.preview_notices(read.options, plan),
        ),
    )
    return replace(_reported(read.options, plan, read.ignored, model, shapes), read_as=read.read_as)


def _needs_contents(options: TrainOptions) -> bool:
    """Tell whether a plan that only looks depends on the contents of the images: they choose those
    that are held out, and are compared with those of a training state.
    """
    output = Path(options.output_dir)
    return bool(options.validation_split or saved_states.names(output))


def _foreign(folder: Path, config_file: Path | None) -> tuple[Path, Path | None]:
    """Return the folder and the file of options: a file in the place of the folder that is not a
    dsk.toml is the file of options.
    """
    if not folder.is_file() or folder.name == CONFIG_NAME:
        return folder, config_file
    if folder.suffix.lower() not in train_config.SUFFIXES:
        raise ConfigError(
            f"{display(folder)} is not a file of options",
            hint="name a dataset's folder, a dsk.toml, or a .toml or .json of another trainer",
        )
    file = train_config.read_file(folder)
    if not file.data:
        raise ConfigError(
            f"{display(folder)} has no options", hint="write some into it, or name the dataset"
        )
    if file.format is Format.PROJECT:
        return folder, config_file  # refused: it is not called dsk.toml
    if config_file is not None:
        raise ConfigError(
            f"{display(folder)} and {display(config_file)} are both files of options",
            hint="name one of them, and the dataset's folder",
        )
    return Path(), folder


def _read(
    folder: Path,
    options: TrainOptions | None,
    settings: Mapping[str, Any],
    config_file: Path | None,
    dataset_config: Path | None,
    allow_import: bool,
) -> TranslatedConfig:
    """Return the options and the subsets, from the one source that was named."""
    named = config_file is not None or dataset_config is not None
    if options is not None and (settings or named):
        raise ConfigError("options are complete: give no settings or files beside them")
    if named:
        return train_config.translate(
            config_file,
            dataset_config,
            settings,
            data_dir=None if folder == Path() else folder,
            allow_import=allow_import,
        )
    project = replace(toml.named_or_found(folder), allow_import=allow_import)
    if folder.is_file():
        folder = folder.parent
    notices: tuple[str, ...] = ()
    if options is None:
        options = train_config.of_project(project, settings)
        notices = (*train_config.outside_notices(project, settings), *_one_size(options))
    subsets, more = find_subsets(train_config.data_folder(folder, project), options)
    return TranslatedConfig(options, subsets, {}, (*notices, *more))


def _one_size(options: TrainOptions) -> tuple[str, ...]:
    """Return a line where a pair might have been meant as two resolutions, as other trainers read
    it.
    """
    size = options.resolution
    if options.resolutions or isinstance(size, int) or size[0] == size[1]:
        return ()
    return (
        f"resolution = {list(size)} is one size, {size[0]} wide and {size[1]} high; for two "
        f"resolutions write resolutions = {list(size)}",
    )


def _reported(
    options: TrainOptions,
    plan: TrainingPlan,
    ignored: Mapping[str, str],
    model: DetectedModel | None,
    shapes: ModelShapes | None,
) -> PlanTrainingResult:
    """Add to a plan its folders, buckets and captions, and an estimate of its memory."""
    buckets = report.bucket_use(plan)
    blocks = report.block_use(plan)
    # The block whose batches take the most memory decides.
    sizes = [
        (replace(options, train_batch_size=block.batch_size), block.largest) for block in blocks
    ]
    estimate, size = max(
        ((memory.estimate(*each, shapes), each) for each in sizes), key=lambda pair: pair[0].bytes
    )
    caption_use = report.caption_use(
        plan, token_limit.of_base(options), weighted=options.weighted_captions
    )
    encoded = encoded_captions.estimate(
        options, plan, shapes or model_shapes.assumed(), caption_use.tokens
    )
    if encoded.count and not encoded.on_disk:
        estimate = memory.with_captions(estimate, encoded.share())
    space = disk.estimate(options, plan, shapes, encoded)
    kept = _keep_tokens(options, plan)
    plan = replace(plan, notices=(*plan.notices, *kept.notes))
    return PlanTrainingResult(
        options=options,
        plan=plan,
        steps=plan.steps,
        epochs=plan.epochs,
        totals=plan.totals,
        subsets=report.subset_use(plan),
        held_out=tuple(dict.fromkeys(image.path for image in plan.held_out)),
        buckets=buckets,
        blocks=blocks,
        captions=caption_use,
        lr_schedule=schedule_options.name(options),
        rates=_rates(options, model),
        model=model,
        to_download=tuple(run_checks.to_download(options)),
        memory=estimate,
        memory_bytes=estimate.bytes,
        fits=memory.fits(*size, shapes),
        disk=space,
        ignored=ignored,
        keep_tokens_lowered_by=kept.lowered_by,
    )


def _keep_tokens(options: TrainOptions, plan: TrainingPlan) -> KeepTokens:
    """Return which captions do not begin with the trigger, where their order is not kept."""
    concepts = []
    for images in report.used_by_captions(plan):
        if not images:
            continue
        subset = images[0].subset
        order = subset.captions
        if (
            subset.is_reg
            or order.caption_prefix
            or not (order.shuffle_caption or order.caption_tag_dropout_rate)
        ):
            continue
        lines = {
            image.path: line
            for image in images
            if image.captioned == "written"
            and (line := _first_tags(image.caption, order))
            and kept_and_free(line, order.keep_tokens_separator) is None
        }
        trigger = known_trigger(
            subset.folder,
            (_tags(line) for line in _some(list(lines.values()))),
            declared=declared_at(subset.folder),
            concept=subset.name,
        )
        first = 2 * len(trigger.words) + _FIRST_TAGS
        captions = {path: _tags(_until_comma(line, first)) for path, line in lines.items()}
        concepts.append(ConceptCaptions(captions.items(), trigger))
    return keep_tokens(concepts, given=options.keep_tokens)


def _some(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines by which a trigger is known: of very many, some from all over."""
    return lines[:: max(1, len(lines) // _ENOUGH)]


def _until_comma(line: str, number: int) -> str:
    """Return a line up to so many commas: the trigger comes first, and a million captions of all
    tags take gigabytes.
    """
    parts = line.split(",", number)
    return line if len(parts) <= number else line[: -len(parts[-1]) - 1]


def _tags(line: str) -> tuple[str, ...]:
    tags = simple_tags(line, PLAIN) or parse(line).tags  # the former takes half the time
    return tuple(map(intern, tags))


def _first_tags(caption: str, options: CaptionSettings) -> str:
    """Return the first line of a caption, of sentences only the tags that stand before them."""
    if options.kind == "tags":
        return caption.partition("\n")[0] if "\n" in caption else caption
    return ", ".join(caption_lines(parse(caption, options.syntax))[0].tags)


def _rates(options: TrainOptions, model: DetectedModel | None) -> dict[str, float]:
    """Return the learning rate of each part that is trained. model: None if it is not on this
    machine.
    """
    if model is None and isinstance(options.text_encoder_lr, tuple):
        rates = options.rates()
    else:
        name = registry.ASSUMED if model is None else model.family
        rates = part_rates(registry.family(name), options)
    return {part: rate for part, rate in rates.items() if rate}
