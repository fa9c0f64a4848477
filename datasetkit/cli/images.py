"""Commands that make new images: cutout, faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, CommandGroup, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL


@command(app, panel=PANEL, table="cutout", show="show_images.cutout", on_cluster=True)
def cutout(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("new images", "IN-cutout")] = None,
    *,
    given: Given,
) -> Call:
    """Cut out subjects and place them on one plain colour, without halos; write masks and adapt the
    captions.

    An image without a detected subject is copied unchanged, and listed. A second run redoes only
    what changed.

    Example: dsk cutout ./imgs ./cut --bg grey
    """
    options = opt.options(folder, "cutout", given)
    return lambda api, context: api.cutout(folder, out, options, context)


faces = typer.Typer(
    name="faces",
    cls=CommandGroup,
    no_args_is_help=True,
    help="Faces in images: list, crop or erase them.\n\n"
    "Example: dsk faces crop ./photos ./faces --most 1 --review faces.png",
)
app.add_typer(faces, name="faces", rich_help_panel=PANEL)


@command(
    faces,
    "list",
    table="faces",
    without=("do", "only", "margin", "size", "min_size", "fill"),
    show="show_images.faces_list",
    on_cluster=True,
)
def faces_list(
    folder: opt.Folder,
    *,
    given: Given,
) -> Call:
    """List the positions and scores of faces, and with --text of lines of text.

    Example: dsk faces list ./imgs --text --json
    """
    options = opt.options(folder, "faces", given)
    return lambda api, context: api.list_faces(folder, options, context)


@command(
    faces,
    "crop",
    table="faces",
    without=("do", "text", "only", "text_threshold", "fill"),
    show="show_images.faces",
    on_cluster=True,
)
def faces_crop(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("crops", "IN-faces")] = None,
    *,
    given: Given,
) -> Call:
    """Crop a square around each face: one file per face, named after its image, with its caption.

    Example: dsk faces crop ./photos ./faces --most 1 --review faces.png
    """
    options = opt.options(folder, "faces", given)
    return lambda api, context: api.crop_faces(folder, out, options, context)


@command(
    faces,
    "erase",
    table="faces",
    without=("do", "size", "min_size"),
    show="show_images.faces",
    on_cluster=True,
)
def faces_erase(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("new images", "IN-erased")] = None,
    *,
    given: Given,
) -> Call:
    """Erase faces, with --text lines of text too, or with --only text these alone; write masks of
    the erased areas, and remove their tags from captions.

    Example: dsk faces erase ./imgs ./clothes --text --review erased.png
    """
    options = opt.options(folder, "faces", given)
    return lambda api, context: api.erase_faces(folder, out, options, context)
