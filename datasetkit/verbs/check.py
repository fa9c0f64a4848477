"""`dsk check`: what a trainer would stumble over in a dataset, before it does."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

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
    captions_of,
    read_folder,
    read_written,
    stale_latents,
    strays,
)
from datasetkit.checks.captions import guess_triggers
from datasetkit.checks.fixes import FixPlan, mend
from datasetkit.checks.summary import CheckSummary, find_all, sheet_entries, summarize, table
from datasetkit.core.errors import ConfigError, Exit
from datasetkit.core.files import (
    PROJECT,
    display,
    find_root,
    list_images,
    nearest_folder,
    require_writable,
)
from datasetkit.core.records import Failed, ImageRecord
from datasetkit.dataset.layout_sources import layout_sources
from datasetkit.executors import local
from datasetkit.images import contact_sheet, pixels
from datasetkit.images.scan import scan
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.options.train import TrainOptions
from datasetkit.project.plans import FileOp, Plan, WriteBytes, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.project.store import Store
from datasetkit.stages.check import RECIPES, open_measuring, unpack_looks, unpack_spots
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.detections import measured
from datasetkit.verbs.shared.folders_to_check import FoldersToCheck, find_places

_DIGESTS = "pixels 1"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. places: with the triggers as they were taken; quiet: how many checks
    found nothing.

    plan: what --fix did, or would do; at_source: where laid-out captions want to be mended; files:
    those written.
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
    entry: int | None = None

    @property
    def left(self) -> int:
        """Return how many findings are not mended."""
        return sum(not finding.fixed for finding in self.findings)

    @property
    def exit_code(self) -> Exit:
        """Return what --strict exits with."""
        return Exit.CHECK_FOUND if self.left else Exit.DONE


def check(
    folder: Path, options: CheckOptions, *, fix: bool = False, context: RunContext = DEFAULT_CONTEXT
) -> CheckResult:
    """Look at a folder, a laid-out dataset or the concepts of a dsk.toml with every check that
    options ask for.

    fix: mend what can be mended without a doubt. Raises ConfigError for unknown checks and for a
    sheet among the images, DatasetError without images, MissingExtra where faces and text are
    looked for without onnxruntime.
    """
    checks = registry.chosen(options)
    config = find(folder)
    train = train_options(config, options.resolution)
    found = find_places(folder, trigger=options.trigger, recursive=options.recursive)
    for place in found.places:
        finish_interrupted(place.folder, context)
    _require_outputs(folder, found.places, options, fix=fix, context=context)
    with _project(folder, context, changes=fix or bool(options.csv or options.sheet)) as project:
        material = look(folder, found, options, train, checks, project)
        findings = find_all(material, checks)
        trash = project.root / PROJECT / "trash" / f"check-{project.journal.next_id()}"
        mended = (
            mend(material, findings, project.root, trash)
            if fix
            else FixPlan(Plan(), frozenset(), ())
        )
        findings = tuple(replace(f, fixed=(f.check, f.path) in mended.findings) for f in findings)
        outputs = _outputs(material, findings, options)
        paths = tuple(op.path for op in outputs if isinstance(op, WriteText | WriteBytes))
        if not context.dry_run:
            title = f"{display(folder.resolve().name)}{' --fix' if fix else ''}"
            entry = (
                project.apply(mended.plan + Plan(outputs), "check", title)
                if mended.plan or outputs
                else None
            )
        else:
            entry = project.apply(mended.plan, "check")
    summaries = summarize(findings, checks)
    quiet = len(checks) - len(summaries)
    return CheckResult(
        folder, material.places, len(material.items) + len(material.failed), summaries, findings,
        quiet, mended.plan, mended.at_source, () if context.dry_run else paths, entry,
    )  # fmt: skip


def _require_outputs(
    folder: Path,
    places: Sequence[CheckFolder],
    options: CheckOptions,
    *,
    fix: bool,
    context: RunContext,
) -> None:
    """Refuse a sheet that would be an image of the dataset; prove that all that is asked for can
    be written.
    """
    goals = [Path(name).absolute() for name in (options.csv, options.sheet) if name]
    for place in places if options.sheet else ():
        if goals[-1].resolve().is_relative_to(place.folder.resolve()):
            raise ConfigError(
                f"the sheet {display(options.sheet)} would lie among the images of "
                f"{display(place.folder)}",
                hint="name a file outside of that folder",
            )
    if not context.dry_run:
        for goal in (*((folder,) if fix else ()), *(nearest_folder(goal.parent) for goal in goals)):
            require_writable(goal)


@contextmanager
def _project(folder: Path, context: RunContext, *, changes: bool) -> Iterator[Project]:
    """Open the project, or, where it cannot be written and nothing has to be, a copy of its
    memory.
    """
    root = find_root(folder)
    place = root / PROJECT if (root / PROJECT).is_dir() else root
    if not context.dry_run and not changes and not os.access(place, os.W_OK):
        context.reporter.warn(
            f"{display(place)} cannot be written: what is found out is not remembered"
        )
        context = replace(context, dry_run=True)
    with open_project(folder, context) as project:
        yield project


# ---- looking
# --------------------------------------------------------------------------------------------------


def look(
    folder: Path,
    found: FoldersToCheck,
    options: CheckOptions,
    train: TrainOptions,
    checks: Sequence[Check],
    project: Project,
) -> CheckInput:
    """Read all that the checks look at: sizes, captions, and of the pixels what they need."""
    places: list[CheckFolder] = []
    items: list[CheckImage] = []
    failed: list[Failed] = []
    astray_captions: list[Path] = []
    latents: list[tuple[Path, str]] = []
    for place in found.places:
        scanned = scan(
            place.folder, project.store, recursive=options.recursive and not place.laid_out,
            follow_links=options.follow_links, max_pixels=options.max_pixels, with_ids=True,
            captions=False, reporter=project.context.reporter,
        )  # fmt: skip
        failed.extend(scanned.failed)
        captions: dict[Path, CaptionFile | None] = {}
        by_folder: defaultdict[Path, list[Path]] = defaultdict(list)
        for record in scanned.records:
            by_folder[record.path.parent].append(record.path)
        for below, paths in by_folder.items():
            beside = read_folder(below)
            files = captions_of(paths, beside)
            captions |= {path: read_written(path, files[path]) for path in paths}
            every = list_images(below, any_name=True, follow_links=True).images
            claimed = (path for several in files.values() for path in several)
            astray_captions += strays(beside, claimed, [*every, *(f.path for f in scanned.failed)])
            latents += stale_latents(beside, paths)
        place = _with_triggers(place, [c for c in captions.values() if c is not None])
        places.append(place)
        items += (
            CheckImage(r.path, r.id, r.width, r.height, place, captions[r.path])
            for r in scanned.records
        )
    needs = tuple(
        measure
        for measure in RECIPES
        if any(measure in check.needs for check in checks)
        and not (measure == "faces" and options.kind == "style")
    )
    items, broken = _measured(items, needs, options, project)
    return CheckInput(
        folder, options, train.bucket_rules(), train.max_token_length, tuple(places), tuple(items),
        (*failed, *broken), found.misread, found.astray, tuple(astray_captions), tuple(latents),
        found.empty, layout_sources(place.folder for place in places if place.laid_out),
        _Digests(project.store, options.max_pixels, remember=not project.context.dry_run),
    )  # fmt: skip


def _with_triggers(place: CheckFolder, captions: Sequence[CaptionFile]) -> CheckFolder:
    if place.triggers or place.is_reg:
        return place
    return replace(place, triggers=guess_triggers(captions), guessed=True)


def _measured(
    items: Sequence[CheckImage], needs: Sequence[Measure], options: CheckOptions, project: Project
) -> tuple[list[CheckImage], list[Failed]]:
    """Give the items what their pixels say, from the store or by looking; those that cannot be
    decoded are failed.
    """
    records = [ImageRecord(item.path, item.id, item.width, item.height) for item in items]
    recipes = {measure: RECIPES[measure] for measure in needs}
    stage = partial(open_measuring, tuple(needs), options.max_pixels)
    rows, failed_ids = measured(records, recipes, stage, options.workers, project)
    whole = [
        replace(
            item,
            looks=unpack_looks(rows["looks"][item.id]) if "looks" in rows else None,
            text=unpack_spots(rows["text"][item.id]) if "text" in rows else None,
            faces=unpack_spots(rows["faces"][item.id]) if "faces" in rows else None,
        )
        for item in items
        if item.id not in failed_ids
    ]
    return whole, [
        replace(failed_ids[item.id], path=item.path) for item in items if item.id in failed_ids
    ]


class _Digests:
    """Hashes of all pixels, from the store or by decoding on all cores."""

    def __init__(self, store: Store, max_pixels: int, *, remember: bool) -> None:
        self.store, self.max_pixels, self.remember = store, max_pixels, remember
        self._known = {image: row.decode() for image, row in store.measurements(_DIGESTS).items()}

    def __call__(self, items: Sequence[CheckImage]) -> dict[Path, str]:
        new = {item.id: item.path for item in items if item.id not in self._known}
        hashes = local.each(self._digest, list(new.values()), name="hashing")
        # A reduced decode may pass over damage; a damaged image has no equal.
        computed = {
            image: digest
            for image, digest in zip(new, hashes, strict=True)
            if not isinstance(digest, Failed)
        }
        self._known |= computed
        if computed and self.remember:
            self.store.put_measurements(
                _DIGESTS, [(image, digest.encode()) for image, digest in computed.items()]
            )
        return {item.path: self._known[item.id] for item in items if item.id in self._known}

    def _digest(self, path: Path) -> str:
        """Hash the pixels as they are shown. Raises InputError for an image that cannot be decoded
        whole.
        """
        image = pixels.load(path, alpha="keep", max_pixels=self.max_pixels)
        return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()[
            :32
        ]


def _outputs(
    of: CheckInput, findings: Sequence[CheckFinding], options: CheckOptions
) -> tuple[FileOp, ...]:
    """Return the table and the sheet that were asked for."""
    ops: list[FileOp] = []
    if options.csv:
        ops.append(WriteText(Path(options.csv), table(of.folder, findings)))
    if options.sheet:
        entries = sheet_entries(of, findings)
        ops.append(
            WriteBytes(
                Path(options.sheet), contact_sheet.draw(entries, max_pixels=options.max_pixels)
            )
        )
    return tuple(ops)
