"""Commands that make new images: cutout, faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import CommandGroup, Given, command
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL


@command(app, panel=PANEL, table="cutout")
def cutout(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("new images", "IN-cutout")] = None,
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Cut out subjects and place them on one plain colour, without halos; write masks and adapt the
    captions.

    An image without a detected subject is copied unchanged, and listed. A second run redoes only
    what changed.

    Example: dsk cutout ./imgs ./cut --bg grey
    """
    from datasetkit.cli import run, show_images

    options = opt.options(folder, "cutout", given)
    run.verb(
        "cutout",
        lambda api, context: api.cutout(folder, out, options, context),
        show_images.cutout,
        json,
        dry_run,
        wait,
    )


faces = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Faces in images: list, crop or erase them.\n\n"
    "Example: dsk faces crop ./photos ./faces --most 1 --review faces.png",
)
app.add_typer(faces, name="faces", rich_help_panel=PANEL)


@command(faces, "list", table="faces", without=("do", "only", "margin", "size", "min_size", "fill"))
def faces_list(
    folder: opt.Folder,
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """List the positions and scores of faces, and with --text of lines of text.

    Example: dsk faces list ./imgs --text --json
    """
    from datasetkit.cli import run, show_images

    options = opt.options(folder, "faces", given)
    run.verb(
        "faces list",
        lambda api, context: api.list_faces(folder, options, context),
        show_images.faces_list,
        json,
        dry_run,
        wait,
    )


@command(faces, "crop", table="faces", without=("do", "text", "only", "text_threshold", "fill"))
def faces_crop(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("crops", "IN-faces")] = None,
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Crop a square around each face: one file per face, named after its image, with its caption.

    Example: dsk faces crop ./photos ./faces --most 1 --review faces.png
    """
    from datasetkit.cli import run, show_images

    options = opt.options(folder, "faces", given)
    run.verb(
        "faces crop",
        lambda api, context: api.crop_faces(folder, out, options, context),
        show_images.faces,
        json,
        dry_run,
        wait,
    )


@command(faces, "erase", table="faces", without=("do", "size", "min_size"))
def faces_erase(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("new images", "IN-erased")] = None,
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Erase faces, with --text lines of text too, or with --only text these alone; write masks of
    the erased areas, and remove their tags from captions.

    Example: dsk faces erase ./imgs ./clothes --text --review erased.png
    """
    from datasetkit.cli import run, show_images

    options = opt.options(folder, "faces", given)
    run.verb(
        "faces erase",
        lambda api, context: api.erase_faces(folder, out, options, context),
        show_images.faces,
        json,
        dry_run,
        wait,
    )
