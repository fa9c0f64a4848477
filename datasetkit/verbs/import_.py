"""`dsk import`: side-car files of other tools, turned into captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text, read_caption
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import caption_path, display
from datasetkit.core.records import Failed
from datasetkit.dataset import imports
from datasetkit.images.scan import require_images
from datasetkit.options.dataset import ImportOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project, recover_projects


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The changed captions of an import.

    kept: images whose caption was kept; without: images without a side-car; failed: side-cars and
    captions that cannot be read.
    """

    changes: tuple[CaptionChange, ...]
    kept: int
    without: int
    failed: tuple[Failed, ...]
    entry: int | None


def import_captions(
    folder: Path, options: ImportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ImportResult:
    """Turn the side-cars of the images of a folder into captions.

    Existing captions are kept unless `options.existing` is "overwrite".
    """
    meta = Path(options.meta) if options.meta else None
    if options.source == "meta" and meta is None:
        raise ConfigError("no metadata file is given", hint="name it with --meta meta.json")
    recover_projects([folder], context)
    listing = require_images(folder, recursive=options.recursive)
    if meta is not None and not meta.is_file():
        raise InputError(
            f"{display(meta)} does not exist", hint="name sd-scripts' metadata file with --meta"
        )
    changes: list[CaptionChange] = []
    unreadable: list[Failed] = []
    kept = 0
    with open_project(folder, context) as project:
        if context.wait:  # the other run may have renamed images
            listing = require_images(folder, recursive=options.recursive)
        imported, problems = imports.plan_import(listing.images, options.source, meta=meta)
        for image, caption, _source in imported:
            try:
                before = read_caption(image)
            except InputError as error:
                unreadable.append(Failed(image, error.message, error.hint))
                continue
            if before is not None and before.tags and options.existing == "skip":
                kept += before != caption
            elif before != caption and caption.tags:
                changes.append(CaptionChange(image, before, caption))
        plan = Plan(tuple(WriteText(caption_path(c.path), file_text(c.after)) for c in changes))
        entry = project.apply(plan, "import", f"{options.source} {display(folder.name)}")
    failed = (*listing.failed, *problems, *unreadable)
    return ImportResult(tuple(changes), kept, len(listing.images) - len(imported), failed, entry)
