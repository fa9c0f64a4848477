"""Commands that make better images of images: cutout, faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL

In = Annotated[
    Path,
    typer.Argument(metavar="IN", help="The folder that holds the images.", show_default=False),
]


@app.command(rich_help_panel=PANEL)
def cutout(
    folder: In,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Where the new images go; by default IN-cutout beside IN.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="What finds the subject: a model of rembg by name.", show_default="u2netp, shipped"
        ),
    ] = None,
    bg: Annotated[
        str | None,
        typer.Option(
            help="Behind the subject: white, black, grey, ..., #rrggbb, or random.",
            show_default="white",
        ),
    ] = None,
    keep_alpha: Annotated[
        bool | None,
        typer.Option(
            "--keep-alpha/--no-keep-alpha",
            help="Write transparent images; below lies the colour.",
        ),
    ] = None,
    feather: Annotated[
        float | None, typer.Option(help="Soften the edge by so many pixels.", show_default="0")
    ] = None,
    provider: opt.Provider = None,
    min_area: Annotated[
        float | None,
        typer.Option(
            help="A mask of less, or of all but this share, is none.", show_default="0.01"
        ),
    ] = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Cut subjects out and lay them onto one plain colour, without halos; masks are kept, and
    captions follow.

    An image whose subject is not found is copied as it is, and listed. A second run redoes only
    what changed.

    Example: dsk cutout ./imgs ./cut --bg grey
    """
    from datasetkit.cli import run, show_images

    given = {
        "model": model, "bg": bg, "keep_alpha": keep_alpha, "feather": feather,
        "min_area": min_area, "provider": provider, "recursive": recursive,
        "follow_links": follow_links, "workers": workers, "max_pixels": max_pixels,
    }  # fmt: skip
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
    no_args_is_help=True, help="Faces in images: list them, crop them out, or erase them."
)
app.add_typer(faces, name="faces", rich_help_panel=PANEL)

Threshold = Annotated[
    float | None, typer.Option(help="The least score of a face, 0.3 to 1.", show_default="0.5")
]
Detector = Annotated[
    str | None, typer.Option(help="What finds the faces.", show_default="blazeface, shipped")
]
Text = Annotated[
    bool | None, typer.Option("--text/--no-text", help="Lines of text and watermarks too.")
]
TextThreshold = Annotated[
    float | None,
    typer.Option(help="The least score of a line of text, 0.6 to 1.", show_default="0.7"),
]
Most = Annotated[
    int | None, typer.Option(help="Only the largest faces of an image; 0: all.", show_default="0")
]
Review = Annotated[
    str | None, typer.Option(help="Draw all images with what was found in them: a PNG.")
]


@faces.command(name="list")
def faces_list(
    folder: opt.Folder,
    text: Text = None,
    threshold: Threshold = None,
    text_threshold: TextThreshold = None,
    most: Most = None,
    detector: Detector = None,
    review: Review = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Say where faces (and with --text lines of text) are, with their scores.

    Example: dsk faces list ./imgs --text --json
    """
    from datasetkit.cli import run, show_images

    given = {
        "text": text, "threshold": threshold, "text_threshold": text_threshold, "most": most,
        "detector": detector, "review": review, "recursive": recursive,
        "follow_links": follow_links, "workers": workers, "max_pixels": max_pixels,
    }  # fmt: skip
    options = opt.options(folder, "faces", given)
    run.verb(
        "faces list",
        lambda api, context: api.list_faces(folder, options, context),
        show_images.faces_list,
        json,
        dry_run,
        wait,
    )


@faces.command(name="crop")
def faces_crop(
    folder: In,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Where the crops go; by default IN-faces beside IN.", show_default=False
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Pixels of a side; larger crops are shrunk to it.", show_default="512"),
    ] = None,
    min_size: Annotated[
        int | None,
        typer.Option(help="Crops of fewer pixels a side are left out.", show_default="128"),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Room on each side, as a share of the face's size.", show_default="0.5"),
    ] = None,
    most: Most = None,
    threshold: Threshold = None,
    detector: Detector = None,
    review: Review = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Cut a square out around each face: one file a face, named after its image; captions go
    along.

    Example: dsk faces crop ./photos ./faces --most 1 --review faces.png
    """
    from datasetkit.cli import run, show_images

    given = {
        "size": size, "min_size": min_size, "margin": margin, "most": most, "threshold": threshold,
        "detector": detector, "review": review, "recursive": recursive,
        "follow_links": follow_links, "workers": workers, "max_pixels": max_pixels,
    }  # fmt: skip
    options = opt.options(folder, "faces", given)
    run.verb(
        "faces crop",
        lambda api, context: api.crop_faces(folder, out, options, context),
        show_images.faces,
        json,
        dry_run,
        wait,
    )


@faces.command(name="erase")
def faces_erase(
    folder: In,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Where the new images go; by default IN-erased beside IN.", show_default=False
        ),
    ] = None,
    fill: Annotated[
        Literal["white", "blur", "paint"] | None,
        typer.Option(help="Put there: white, a blur, or the colours around.", show_default="white"),
    ] = None,
    text: Text = None,
    margin: Annotated[
        float | None,
        typer.Option(help="How far around a face, as a share of its size.", show_default="0.2"),
    ] = None,
    most: Most = None,
    threshold: Threshold = None,
    text_threshold: TextThreshold = None,
    detector: Detector = None,
    review: Review = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Fill faces, and with --text lines of text; masks say where, and captions lose the words for
    it.

    Example: dsk faces erase ./imgs ./clothes --text --review erased.png
    """
    from datasetkit.cli import run, show_images

    given = {
        "fill": fill, "text": text, "margin": margin, "most": most, "threshold": threshold,
        "text_threshold": text_threshold, "detector": detector, "review": review,
        "recursive": recursive, "follow_links": follow_links, "workers": workers,
        "max_pixels": max_pixels,
    }  # fmt: skip
    options = opt.options(folder, "faces", given)
    run.verb(
        "faces erase",
        lambda api, context: api.erase_faces(folder, out, options, context),
        show_images.faces,
        json,
        dry_run,
        wait,
    )
