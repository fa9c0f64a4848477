"""`dsk cutout`: the subjects of images before one plain colour, their masks, and captions that
say so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasetkit.captions import backgrounds
from datasetkit.core.errors import InputError
from datasetkit.core.files import display, mask_path, write_atomic
from datasetkit.core.records import Caption, ImageRecord, RunReport
from datasetkit.images import pixels
from datasetkit.images.scan import Scan
from datasetkit.options.images import CutoutOptions
from datasetkit.outputs.produce import OutputSpec, Targets, beside, look, make
from datasetkit.outputs.renamed_sources import RenamedSource, follow
from datasetkit.outputs.sidecars import (
    CaptionRewrite,
    CaptionRewriteResult,
    announce,
    carry,
    copy,
    due,
    edited_at_origin,
    reword,
)
from datasetkit.project.journal import OpenEntry
from datasetkit.project.session import DEFAULT_CONTEXT, Project, RunContext, open_project
from datasetkit.project.store import Output
from datasetkit.stages.cutout import CutoutImage, open_cutout
from datasetkit.vision import colours, providers
from datasetkit.vision.subject import licence, require_name, require_rembg

WAITING = "would be cut out"


@dataclass(frozen=True, slots=True)
class CutoutResult:
    """What cutout did: one outcome an image, where the images are now, and how their captions
    followed.

    licence: of the model's weights. kept: the images that are in `out` as they were, since no
    subject was found. entry: the images' number in the history; the captions have their own.
    """

    report: RunReport[CutoutImage]
    out: Path
    model: str
    licence: str
    captions: CaptionRewriteResult
    kept: tuple[Path, ...]
    entry: int | None
    followed: tuple[RenamedSource, ...] = ()


def cutout(
    folder: Path, out: Path | None, options: CutoutOptions, context: RunContext = DEFAULT_CONTEXT
) -> CutoutResult:
    """Cut the subject out of every image of `folder` into `out` (default: a sibling
    `<folder>-cutout`).

    Captions follow: one `<colour> background`, `simple background`, no places. Masks go to
    `masks/`. An image whose subject is not found is `Failed`, and copied as it is. A second run
    redoes only what changed. Raises DatasetError without images, PlanConflict where an output
    would replace a file that dsk did not make, ConfigError, MissingExtra and ModelFileError for the
    model.
    """
    require_model(options)
    out = beside(folder, out, "cutout", options, context)
    if not context.dry_run:
        require_installed(options)
    with open_project(out, context) as project:
        found = look(folder, project, options)
        making = _making(output_names(found, out), out, options)
        store = project.store
        followed = follow(found, making.images(found.records), out, project, "cutout")
        mains = {r.path: making.targets[r.path][0] for r in found.records}
        rewordings = {r.path: _rewording(r, mains[r.path], options) for r in found.records}
        edited = edited_at_origin(rewordings.values(), store)
        kept = {
            r.path for r in found.records if store.is_current(mains[r.path], r.id, _kept(options))
        }
        current = {
            r.path for r in found.records if store.is_current(mains[r.path], r.id, making.recipe)
        }
        if not context.dry_run:
            announce(
                [one for path, one in rewordings.items() if path not in current | kept],
                "cutout",
                store,
            )
        with project.journal.recording("cutout", display(found.folder.name)) as recording:
            report = make(found, making, project, recording)
            uncut = _keep(report, found, making.targets, kept, options, project, recording)
        failed = {problem.path for problem in report.failed}
        anew = [
            CaptionRewrite(one.image, one.origin) if one.origin in failed else one for one in edited
        ]
        captions = reword(
            due(report, WAITING, rewordings, store),
            "cutout",
            _title(found, options),
            project,
            anew=anew,
        )
        return CutoutResult(
            report,
            out,
            options.model,
            licence(options.model),
            captions,
            uncut,
            recording.entry,
            followed,
        )


def require_model(options: CutoutOptions) -> None:
    """Raise ConfigError for a model or a provider that there is not, before any work is spent."""
    require_name(options.model)
    providers.require_known(options.provider)


def require_installed(options: CutoutOptions) -> None:
    """Raise MissingExtra without rembg or the provider that was asked for; "auto" takes what is
    there.
    """
    require_rembg()
    if options.provider != providers.AUTO:
        providers.choose(options.provider)


def output_names(found: Scan, out: Path) -> dict[Path, tuple[Path, ...]]:
    """Return each image's output and mask: a PNG at its own place below `out`, never one name
    twice.
    """
    taken: set[Path] = set()
    targets: dict[Path, tuple[Path, ...]] = {}
    for record in found.records:
        place = (out / record.path.relative_to(found.folder)).with_suffix(".png")
        target, n = place, 1
        while target in taken:
            n += 1
            target = place.with_name(f"{place.stem}_{n}.png")
        taken.add(target)
        targets[record.path] = (target, mask_path(target))
    return targets


def recipe(options: CutoutOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code
    that makes it.
    """
    return (
        f"cutout-1 {options.model} {options.bg} {options.keep_alpha} {options.feather} "
        f"{options.min_area}"
    )


def _kept(options: CutoutOptions) -> str:
    return f"{recipe(options)} kept"


def _making(targets: Targets, out: Path, options: CutoutOptions) -> OutputSpec[CutoutImage]:
    stage = partial(open_cutout, options)
    return OutputSpec(out, recipe(options), targets, stage, WAITING, options.workers)


def _rewording(record: ImageRecord, target: Path, options: CutoutOptions) -> CaptionRewrite:
    return CaptionRewrite(
        target, record.path, partial(_with_backdrop, options=options, image=record.id)
    )


def _with_backdrop(caption: Caption, *, options: CutoutOptions, image: str) -> Caption:
    return Caption(backgrounds.reworded(caption.tags, backdrop_name(options.bg, image)))


def backdrop_name(bg: str, image: str) -> str:
    """Return what captions call the colour behind an image."""
    colour = backgrounds.colour(bg, image)
    named = {rgb: name for name, rgb in backgrounds.NAMED.items()}
    return named.get(colour) or colours.name(colour)


def _title(found: Scan, options: CutoutOptions) -> str:
    return f"captions of {display(found.folder.name)}: {options.bg} background"


def _keep(
    report: RunReport[CutoutImage],
    found: Scan,
    targets: Targets,
    kept: set[Path],
    options: CutoutOptions,
    project: Project,
    recording: OpenEntry,
) -> tuple[Path, ...]:
    """Copy the images that failed to where their cut-outs would be, with their captions and masks
    as they are.

    kept: those that an earlier run copied, and that nobody touched since. One that cannot be read,
    or whose name is too long, is left out.
    """
    if project.context.dry_run:
        return ()
    failed = {problem.path for problem in report.failed}
    uncut: list[ImageRecord] = []
    for record in found.records:
        if record.path not in failed:
            continue
        target, mask = targets[record.path]
        output = Output(target, record.id, _kept(options), record.path)
        try:
            data = pixels.encode(pixels.load(record.path, max_pixels=options.max_pixels), "PNG")
            if record.path in kept:
                project.store.put_finished([output])
            else:
                if os.path.lexists(mask) and project.store.is_ours(mask):
                    mask.unlink()
                write_atomic(target, data)
                recording.record(output)
        except InputError:
            continue
        uncut.append(record)
    mains = {record.path: targets[record.path][0] for record in uncut}
    copy(carry(uncut, mains, project.store), project, recording)
    return tuple(mains.values())
