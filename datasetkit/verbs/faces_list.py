"""`dsk faces list`: where the faces, and the lines of text, of a folder's images are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.records import Failed, LeftOut
from datasetkit.images.scan import require_images
from datasetkit.options.images import FacesOptions
from datasetkit.outputs.folder import scan_images
from datasetkit.outputs.visible import require_visible
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.verbs.shared.detections import detect
from datasetkit.verbs.shared.faces import ImageFaces, draw_review, faces_of, require_detector


@dataclass(frozen=True, slots=True)
class FacesListResult:
    """The faces of a folder. sheet: the contact sheet, if one was drawn."""

    folder: Path
    images: tuple[ImageFaces, ...]
    failed: tuple[Failed, ...]
    sheet: Path | None = None
    entry: int | None = None
    unused_files: tuple[LeftOut, ...] = ()


def list_faces(
    folder: Path, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesListResult:
    """Find the faces (and with `text` the lines of text) of every image of a folder; nothing else
    is done.

    Raises DatasetError without images, ConfigError, MissingExtra and ModelFileError for the
    detectors.
    """
    require_detector(options)
    options = replace(options, only="all")
    recover_projects([folder], context)
    require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    require_visible(folder, options, context)
    with open_project(folder, context) as project:
        scan = scan_images(folder, project, options)
        detections = detect(scan.records, options, project)
        images = faces_of(scan.records, detections)
        sheet, entry = draw_review(images, options, project)
    failed = (*detections.failed, *scan.failed)
    return FacesListResult(folder, images, failed, sheet, entry, scan.left_out)
