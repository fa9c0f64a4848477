"""`dsk check`: find the problems of a dataset before a trainer does."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasetkit.captions.caption_names import caption_files
from datasetkit.captions.tokens import TokenLimit
from datasetkit.checks import registry
from datasetkit.checks.base import (
    CaptionFile,
    Check,
    CheckFinding,
    CheckFolder,
    CheckImage,
    CheckInput,
    Measure,
)
from datasetkit.checks.caption_files import (
    read_caption_file,
    read_folder,
    stale_latents,
    strays,
)
from datasetkit.checks.fixes import FixPlan, plan_fixes
from datasetkit.checks.summary import CheckSummary, find_all, sheet_entries, summarize, table
from datasetkit.checks.tags import LEAST_CAPTIONS
from datasetkit.core.errors import ConfigError, Exit, ModelFileError
from datasetkit.core.files import (
    PROJECT,
    display,
    find_root,
    nearest_folder,
    read_existing,
    require_writable,
)
from datasetkit.core.progress import Reporter, WarningRecorder
from datasetkit.core.records import Failed, ImageRecord, LeftOut
from datasetkit.dataset.layout_sources import layout_sources
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.trigger import KnownTrigger, known_triggers, possible_trigger
from datasetkit.executors import local
from datasetkit.images import contact_sheet, pixels
from datasetkit.images.listing import list_images
from datasetkit.images.scan import Scan, require_folder, scan
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.options.train import TrainOptions
from datasetkit.outputs.visible import require_visible
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.kept_edits import keep_edits, kept_edit
from datasetkit.project.plans import Plan, WriteBytes, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
)
from datasetkit.project.store import Store
from datasetkit.stages.check import RECIPES, open_measuring, unpack_looks, unpack_regions
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.detections import measured
from datasetkit.verbs.shared.folders_to_check import FoldersToCheck, find_folders
from datasetkit.verbs.shared.kept_duplicates import KeptGroups, keep_groups
from datasetkit.verbs.shared.kept_results import (
    NOT_KEPT,
    RunInputs,
    dataset_inputs,
    inputs_of,
    is_idle,
    state_of_base,
)
from datasetkit.verbs.shared.recovery import recover_dataset

_DIGESTS = "pixels 1"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of a check. places: the folders, with the triggers used; quiet: how many checks
    found nothing.

    plan: what --fix did, or would do; at_source: the source images of laid-out ones, where captions
    have to be fixed; files: the table and the contact sheet written. failed: the files that were
    saved meanwhile, and are kept.
    """

    folder: Path
    places: tuple[CheckFolder, ...]
    images: int
    summaries: tuple[CheckSummary, ...]
    findings: tuple[CheckFinding, ...]
    quiet: int
    plan: Plan
    at_source: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    failed: tuple[Failed, ...] = ()
    entry: int | None = None
    unused_files: tuple[LeftOut, ...] = ()

    @property
    def unfixed(self) -> int:
        """Return how many findings are not fixed."""
        return sum(not finding.fixed for finding in self.findings)

    @property
    def exit_code(self) -> Exit:
        """Return the exit code of --strict."""
        return Exit.CHECK_FOUND if self.unfixed else Exit.DONE


def check(
    folder: Path, options: CheckOptions, *, fix: bool = False, context: RunContext = DEFAULT_CONTEXT
) -> CheckResult:
    """Run the selected checks on a folder, a laid-out dataset or the concepts of a dsk.toml.

    fix: fix what needs no decision of the user. Raises ConfigError for unknown checks and for a
    contact sheet among the images, DatasetError without images, MissingExtra where faces and text
    are searched for without onnxruntime.
    """
    checks = registry.selected(options)
    config = find(folder)
    train = train_options(config, options.resolution)
    recover_dataset(folder, context, recursive=options.recursive)
    changes = fix or bool(options.csv or options.sheet or options.keep_duplicates)
    inputs = NOT_KEPT if changes else _inputs(folder, options, train, context.reporter)
    if (unchanged := inputs.kept(CheckResult)) is not None:
        return unchanged
    warnings = WarningRecorder(context.reporter)
    context = replace(context, reporter=warnings)
    to_check = find_folders(
        folder, trigger=options.trigger, recursive=options.recursive, to_write=fix
    )
    _require_outputs(folder, to_check.folders, options, fix=fix, context=context)
    for checked_folder in to_check.folders:
        reading = replace(options, recursive=options.recursive and not checked_folder.laid_out)
        require_visible(checked_folder.folder, reading, context)
    with _project(folder, context, changes=changes) as project:
        placeholders = _placeholders(folder, options)
        project.require_own(Plan(placeholders))
        title = f"{display(folder.resolve().name)}{' --fix' if fix else ''}"

        def attempt(kept: Collection[Path], _: Collection[Path]) -> _CheckRun:
            data = gather(folder, to_check, options, train, checks, project)
            if options.keep_duplicates:
                keep_groups(data, options, project)
            findings = find_all(data, checks)
            trash = project.root / PROJECT / "trash" / f"check-{project.journal.next_id()}"
            fixes = FixPlan(Plan(), frozenset(), ())
            if fix:
                fixes = plan_fixes(data, findings, project.root, trash, kept=kept)
            done = fixes.findings
            findings = tuple(replace(f, fixed=(f.check, f.path) in done) for f in findings)
            wanted = [op for op in placeholders if op.path not in kept]
            outputs = _outputs(data, findings, wanted, options.max_pixels)
            plan = fixes.plan + Plan(() if context.dry_run else outputs)
            return _CheckRun(data, findings, fixes, outputs, project.apply(plan, "check", title))

        checked, kept = keep_edits(project, attempt, again=True)
        data, findings, fixes = checked.data, checked.findings, checked.fixes
        files = () if context.dry_run else tuple(op.path for op in checked.outputs)
        summaries = summarize(findings, checks)
        quiet = len(checks) - len(summaries)
        result = CheckResult(
            folder, data.folders, len(data.items) + len(data.failed), summaries, findings,
            quiet, fixes.plan, fixes.at_source, files, tuple(map(kept_edit, kept)), checked.entry,
            tuple(item for item in data.left_out if item.group != "folder"),  # it is a finding
        )  # fmt: skip
        # What is wrong with a laid-out caption also depends on its source, wherever that is.
        changed = bool(data.sources or warnings.warnings)
        if is_idle(project, checked.entry, changed=changed):
            inputs.keep(project.store, result)
    return result


def _inputs(
    folder: Path, options: CheckOptions, train: TrainOptions, reporter: Reporter
) -> RunInputs:
    require_folder(folder)
    base = state_of_base(train)
    if base is None:
        return NOT_KEPT
    roots, folders = dataset_inputs(folder, recursive=True)
    about = (options, roots, base)
    return inputs_of("check", find_root(folder), folders, about, reporter=reporter)


@dataclass(frozen=True, slots=True)
class _CheckRun:
    data: CheckInput
    findings: tuple[CheckFinding, ...]
    fixes: FixPlan
    outputs: tuple[WriteText | WriteBytes, ...]
    entry: int | None


def _require_outputs(
    folder: Path,
    folders: Sequence[CheckFolder],
    options: CheckOptions,
    *,
    fix: bool,
    context: RunContext,
) -> None:
    """Refuse a contact sheet among the images, and outputs that cannot be written."""
    outputs = [Path(name).absolute() for name in (options.csv, options.sheet) if name]
    require_names(*outputs)
    for image_folder in folders if options.sheet else ():
        if outputs[-1].resolve().is_relative_to(image_folder.folder.resolve()):
            raise ConfigError(
                f"the contact sheet {display(options.sheet)} would be among the images of "
                f"{display(image_folder.folder)}",
                hint="name a file outside of that folder",
            )
    if not context.dry_run:
        written = (nearest_folder(output.parent) for output in outputs)
        for path in (*((folder,) if fix else ()), *written):
            require_writable(path)


@contextmanager
def _project(folder: Path, context: RunContext, *, changes: bool) -> Iterator[Project]:
    """Open the project; if it is read-only and nothing is to change, a copy of its store."""
    root = find_root(folder)
    written = root / PROJECT if (root / PROJECT).is_dir() else root
    if not context.dry_run and not changes and not os.access(written, os.W_OK):
        context.reporter.warn(
            f"{display(written)} is not writable: the measurements are not stored"
        )
        context = replace(context, dry_run=True)
    with open_project(folder, context) as project:
        yield project


# ---- gathering the data
# --------------------------------------------------------------------------------------------------


def gather(
    folder: Path,
    to_check: FoldersToCheck,
    options: CheckOptions,
    train: TrainOptions,
    checks: Sequence[Check],
    project: Project,
) -> CheckInput:
    """Read the data that the checks need: sizes, captions, and measurements of the pixels."""
    folders: list[CheckFolder] = []
    items: list[CheckImage] = []
    failed: list[Failed] = []
    stray_captions: list[Path] = []
    latents: list[tuple[Path, str]] = []
    same_names: dict[Path, Path] = {}
    left_out = [item for path in to_check.empty for item in list_images(path).left_out]
    for image_folder in to_check.folders:
        scanned = scan(
            image_folder.folder, project.store,
            recursive=options.recursive and not image_folder.laid_out,
            follow_links=options.follow_links, max_pixels=options.max_pixels, with_ids=True,
            captions=False, unique_on="", reporter=project.context.reporter,
        )  # fmt: skip
        failed.extend(scanned.failed)
        left_out.extend(scanned.left_out)
        same_names |= scanned.same_names
        files = _files_beside(scanned, options.encoding)
        stray_captions += files.stray_captions
        latents += files.stale_latents
        with_triggers = _with_triggers(image_folder, files.captions)
        folders.extend(dict.fromkeys(with_triggers.values()) or (image_folder,))
        items += (
            CheckImage(
                r.path,
                r.id,
                r.width,
                r.height,
                with_triggers[r.path.parent],
                files.captions[r.path],
            )
            for r in scanned.records
        )
    items, broken = _measured(items, _measures(checks, options), options, project)
    return CheckInput(
        folder, options, train.all_bucket_rules(), _token_limit(train, checks, project),
        tuple(folders), tuple(items),
        (*failed, *broken), tuple(left_out), same_names, to_check.misread, to_check.astray,
        tuple(stray_captions), tuple(latents), to_check.empty,
        layout_sources(f.folder for f in folders if f.laid_out),
        _Digests(project.store, options.max_pixels, remember=not project.context.dry_run),
        KeptGroups(project.store, options.max_pixels),
    )  # fmt: skip


def _token_limit(train: TrainOptions, checks: Sequence[Check], project: Project) -> TokenLimit:
    """Return the limit of the base model; CLIP's where its tokenizer cannot be read."""
    if all(check.name != "tokens" for check in checks):
        return TokenLimit(train.max_token_length)
    from trainer.plan import token_limit  # here: no other check needs the trainer

    limit = token_limit.of_base(train)
    try:
        limit.count("")
    except ModelFileError as error:
        limit = TokenLimit(limit.limit, steps=limit.steps, option=limit.option)
        project.context.reporter.warn(f"{error}: CLIP's tokens are counted instead")
    return limit


@dataclass(frozen=True, slots=True)
class _FilesBeside:
    """The files beside the images of a folder. captions: of each image, None if it has none."""

    captions: Mapping[Path, CaptionFile | None]
    stray_captions: Sequence[Path]
    stale_latents: Sequence[tuple[Path, str]]


def _files_beside(scanned: Scan, encoding: str) -> _FilesBeside:
    captions: dict[Path, CaptionFile | None] = {}
    stray_captions: list[Path] = []
    latents: list[tuple[Path, str]] = []
    by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
    for record in scanned.records:
        by_folder[record.path.parent].append(record.path)
    without_record: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in (*(f.path for f in scanned.failed), *(item.path for item in scanned.left_out)):
        without_record[path.parent].append(path)
    for folder, images in by_folder.items():
        listing = list_images(folder, any_name=True, follow_links=True)
        beside = read_folder(listing)
        files = caption_files(images, beside.captions)
        syntax = syntax_of(folder)
        captions |= {
            image: read_caption_file(image, files[image], syntax, encoding) for image in images
        }
        claimed = (path for image_files in files.values() for path in image_files)
        stray_captions += strays(beside, claimed, [*listing.images, *without_record[folder]])
        latents += stale_latents(beside, images)
    return _FilesBeside(captions, stray_captions, latents)


def _measures(checks: Sequence[Check], options: CheckOptions) -> tuple[Measure, ...]:
    """Return the measurements that the checks need; only a character must have one face."""
    return tuple(
        measure
        for measure in RECIPES
        if (
            any(measure in check.needs for check in checks)
            or (measure == "looks" and options.keep_duplicates)
        )
        and not (measure == "faces" and options.kind != "character")
    )


def _with_triggers(
    folder: CheckFolder, captions: Mapping[Path, CaptionFile | None]
) -> dict[Path, CheckFolder]:
    """Return the folder with its triggers, by the folder of the images. Subfolders with other
    triggers are checked as folders of their own.
    """
    tags = {path: () if caption is None else caption.tags for path, caption in captions.items()}
    subfolders = dict.fromkeys(path.parent for path in captions)
    if folder.triggers or folder.is_reg:
        return dict.fromkeys(subfolders, folder)
    triggers = known_triggers(tags.items(), lambda _: ())
    if len({trigger.words for trigger in triggers.values()}) < 2:
        trigger = next(iter(triggers.values()), KnownTrigger())
        return dict.fromkeys(subfolders, _with_trigger(folder, trigger, list(tags.values())))
    return {
        path: _with_trigger(
            replace(folder, name=path.name, folder=path),
            trigger,
            [each for image, each in tags.items() if image.parent == path],
        )
        for path, trigger in triggers.items()
    }


def _with_trigger(
    folder: CheckFolder, trigger: KnownTrigger, captions: Sequence[Sequence[str]]
) -> CheckFolder:
    if trigger.words:
        guessed = trigger.source in ("captions", "folder")
        return replace(folder, triggers=trigger.words, guessed=guessed)
    return replace(folder, possible_trigger=possible_trigger(captions, least=LEAST_CAPTIONS))


def _measured(
    items: Sequence[CheckImage], needs: Sequence[Measure], options: CheckOptions, project: Project
) -> tuple[list[CheckImage], list[Failed]]:
    """Add the measurements of the pixels; images that cannot be decoded are failures."""
    records = [ImageRecord(item.path, item.id, item.width, item.height) for item in items]
    recipes = {measure: RECIPES[measure] for measure in needs}
    stage = partial(open_measuring, tuple(needs), options.max_pixels)
    rows, failed_ids = measured(records, recipes, stage, options.workers, project)
    decoded = [
        replace(
            item,
            measures=unpack_looks(rows["looks"][item.id]) if "looks" in rows else None,
            text=unpack_regions(rows["text"][item.id]) if "text" in rows else None,
            faces=unpack_regions(rows["faces"][item.id]) if "faces" in rows else None,
        )
        for item in items
        if item.id not in failed_ids
    ]
    return decoded, [
        replace(failed_ids[item.id], path=item.path) for item in items if item.id in failed_ids
    ]


class _Digests:
    """Hashes of all pixels, stored or computed on all cores."""

    def __init__(self, store: Store, max_pixels: int, *, remember: bool) -> None:
        self.store, self.max_pixels, self.remember = store, max_pixels, remember
        self._stored = {image: row.decode() for image, row in store.measurements(_DIGESTS).items()}

    def __call__(self, items: Sequence[CheckImage]) -> dict[Path, str]:
        new = {item.id: item.path for item in items if item.id not in self._stored}
        hashes = local.each(self._digest, list(new.values()), name="hashing")
        # A reduced decode may miss damage; a damaged image has no duplicate.
        computed = {
            image: digest
            for image, digest in zip(new, hashes, strict=True)
            if not isinstance(digest, Failed)
        }
        self._stored |= computed
        if computed and self.remember:
            self.store.put_measurements(
                _DIGESTS, [(image, digest.encode()) for image, digest in computed.items()]
            )
        return {item.path: self._stored[item.id] for item in items if item.id in self._stored}

    def _digest(self, path: Path) -> str:
        """Hash the pixels as displayed. Raises InputError if the image cannot be fully decoded."""
        image = pixels.load(path, alpha="keep", max_pixels=self.max_pixels)
        return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()[
            :32
        ]


def _placeholders(folder: Path, options: CheckOptions) -> tuple[WriteText | WriteBytes, ...]:
    """Return the requested table and contact sheet without their content, which takes minutes to
    compute, over the files that they will replace.
    """
    ops: list[WriteText | WriteBytes] = []
    if options.csv:
        path = Path(options.csv)
        ops.append(WriteText(path, table(folder, ()), read_existing(path)))
    if options.sheet:
        path = Path(options.sheet)
        ops.append(WriteBytes(path, b"", read_existing(path)))
    return tuple(ops)


def _outputs(
    data: CheckInput,
    findings: Sequence[CheckFinding],
    placeholders: Sequence[WriteText | WriteBytes],
    max_pixels: int,
) -> tuple[WriteText | WriteBytes, ...]:
    """Fill in the content of the table and the contact sheet."""
    ops: list[WriteText | WriteBytes] = []
    for op in placeholders:
        if isinstance(op, WriteText):
            ops.append(replace(op, text=table(data.folder, findings)))
        else:
            entries = sheet_entries(data, findings)
            flagged = f"{len(entries)} flagged of {len(data.items) + len(data.failed)} images"
            title = data.folder.resolve().name
            png = contact_sheet.draw(entries, title, flagged, max_pixels=max_pixels)
            ops.append(replace(op, data=png))
    return tuple(ops)
