"""`dsk import`: sidecar files of other tools, turned into captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import with_tags, with_tags_beside
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.files import caption_path, display
from datasetkit.core.records import (
    Caption,
    Done,
    Failed,
    ImageRecord,
    LeftOut,
    Outcome,
    Skipped,
)
from datasetkit.dataset import imports
from datasetkit.dataset.imports import ImportedCaption
from datasetkit.dataset.trigger import KnownTrigger, kept_first
from datasetkit.images.scan import require_images
from datasetkit.options.dataset import ImportOptions
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project, recover_projects
from datasetkit.verbs.shared.caption_writes import with_current_caption, write_captions
from datasetkit.verbs.shared.triggers import triggers_of

KEPT, SAME = "its caption is kept", "its caption says the same"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The changed captions of an import.

    kept: images whose caption was kept; without: images without a sidecar; failed: sidecars and
    captions that cannot be read.
    """

    changes: Sequence[CaptionChange]
    kept: int
    without: int
    failed: tuple[Failed, ...]
    entry: int | None
    unused_files: tuple[LeftOut, ...] = ()


def import_captions(
    folder: Path, options: ImportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ImportResult:
    """Turn the sidecars of the images of a folder into captions.

    Existing captions are kept unless `options.existing` is "overwrite".
    """
    meta = Path(options.meta) if options.meta else None
    if options.source == "captions-json" and meta is None:
        meta = folder / imports.CAPTIONS_JSON
    if options.source == "meta" and meta is None:
        raise ConfigError("no metadata file is given", hint="name it with --meta meta.json")
    recover_projects([folder], context)
    listing = require_images(folder, recursive=options.recursive)
    if meta is not None and not meta.is_file():
        raise InputError(
            f"{display(meta)} does not exist", hint="name the metadata file with --meta"
        )
    with open_project(folder, context) as project:
        if context.wait:  # the other run may have renamed images
            listing = require_images(folder, recursive=options.recursive)
        imported, problems = imports.plan_import(
            listing.images, options.source, meta=meta, encoding=options.encoding
        )
        triggers = triggers_of((image, _caption(image)) for image in listing.images)
        outcomes = [_decide(i, options, triggers[i.image.parent]) for i in imported]
        title = f"{options.source} {display(folder.resolve().name)}"
        written = write_captions(project, outcomes, "import", title, decide=None)
    kept = sum(isinstance(o, Skipped) and o.reason == KEPT for o in written.outcomes)
    failed = (*listing.failed, *problems, *written.failed)
    without = len(listing.images) - len(imported)
    return ImportResult(written.changes, kept, without, failed, written.entry, listing.left_out)


def _caption(image: Path) -> Caption | None:
    record = with_current_caption(ImageRecord(image, "", 0, 0))
    return None if isinstance(record, Failed) else record.caption


def _with_trigger(before: Caption, caption: Caption, trigger: KnownTrigger) -> Caption:
    """Return an imported caption behind the trigger of the one before, whose sentences stay where
    the new one has none.
    """
    words = kept_first(trigger.forms, before.tags, caption.tags)
    if caption.sentences:
        return with_tags(caption, lambda tags: kept_first(trigger.forms, before.tags, tags))
    return with_tags_beside(before, words) if before.sentences else Caption(words)


def _decide(
    imported: ImportedCaption, options: ImportOptions, trigger: KnownTrigger
) -> Outcome[Caption]:
    """Decide between the caption of an image and the one that its sidecar gives, which stands
    behind the trigger.

    The sidecar of some tools has the name of the caption. With commas it counts as a caption,
    unless the tool is named whose captions these are.
    """
    image, caption, source = imported
    is_caption = source == caption_path(image)
    overwrites = options.existing == "overwrite"
    record = with_current_caption(ImageRecord(image, "", 0, 0), any_text=overwrites or is_caption)
    if isinstance(record, Failed):
        return record
    before = record.caption
    is_of_tool = options.source in imports.CAPTION_EDITORS
    is_sidecar = is_caption and (is_of_tool or b"," not in (record.caption_data or b""))
    syntax = syntax_of(image.parent)
    if syntax.kind == "sentence" and not caption.sentences:
        hint = 'captions = "mixed" in dsk.toml takes tags and sentences'
        return Failed(source, "has tags, and the captions of this folder are sentences", hint)
    if before is not None and not is_sidecar:
        caption = _with_trigger(before, caption, trigger)
    if before == caption:
        return Skipped(record, SAME)
    if before is not None and not before.is_empty and not (overwrites or is_sidecar):
        return Skipped(record, KEPT)
    return Done(record, caption)
