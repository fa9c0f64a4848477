"""`dsk rename`: give the images of a folder unique, numbered names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import MASKS, companions, display, sweep
from datasetkit.core.records import Failed, LeftOut
from datasetkit.dataset import naming
from datasetkit.images.listing import list_images
from datasetkit.images.scan import no_images, require_folder
from datasetkit.options.images import RenameOptions
from datasetkit.project.plans import Plan
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project, recover_projects


@dataclass(frozen=True, slots=True)
class RenameResult:
    """What rename did, or would do in a dry run."""

    folder: Path
    images: int
    plan: Plan
    entry: int | None
    failed: tuple[Failed, ...]
    unused_files: tuple[LeftOut, ...] = ()


def rename(
    folder: Path, options: RenameOptions, context: RunContext = DEFAULT_CONTEXT
) -> RenameResult:
    """Rename the images of a folder to `PREFIX_001.jpg ...`, with their captions, masks and
    sidecars.

    Raises DatasetError without images, ConfigError without a valid prefix, PlanConflict with
    nothing changed.
    """
    if not options.prefix:
        raise ConfigError(
            "no prefix for the new names", hint="dsk rename DIR PREFIX, or prefix = ... in [rename]"
        )
    recover_projects([folder], context)
    listing = list_images(require_folder(folder), any_name=True)
    if not listing.images and not listing.failed:
        raise no_images(folder, listing.left_out)
    with open_project(folder, context) as project:
        if not context.dry_run:
            sweep(folder)
        # Again: opening the project may have completed a killed rename.
        listing = list_images(folder, any_name=True)
        plan = naming.plan_rename(
            listing.images,
            companions(folder, listing.images),
            options.prefix,
            start=options.start,
            taken=_everything(folder),
        )
        entry = project.apply(
            plan, "rename", f"{display(folder.resolve().name)} -> {options.prefix}"
        )
    return RenameResult(folder, len(listing.images), plan, entry, listing.failed, listing.left_out)


def _everything(folder: Path) -> tuple[Path, ...]:
    """Return every entry of the folder and of its masks: an existing name is never given to another
    file.
    """
    folders = (folder, folder / MASKS)
    return tuple(path for parent in folders if parent.is_dir() for path in parent.iterdir())
