"""Commands that make images and captions ready: rename, resize, tag, rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app

PANEL = "Prepare images and captions"


@app.command(rich_help_panel=PANEL)
def rename(
    folder: opt.Folder,
    prefix: Annotated[
        str | None, typer.Argument(help="New names are PREFIX_001.jpg, ...", show_default=False)
    ] = None,
    start: Annotated[int | None, typer.Option(help="The first number.", show_default="1")] = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Give images plain, unique, numbered names; captions, masks and side-cars travel with them.

    Images that are named so already keep their numbers, so a second run does nothing. Nothing is
    ever overwritten.

    Example: dsk rename ./imgs MikamiYua
    """
    from datasetkit.cli import run, show_prepare

    options = opt.options(folder, "rename", {"prefix": prefix, "start": start})
    run.verb(
        "rename",
        lambda api, context: api.rename(folder, options, context),
        show_prepare.rename,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def resize(
    folder: Annotated[
        Path,
        typer.Argument(metavar="IN", help="The folder that holds the images.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            help="Where the new images go; by default IN-<max> beside IN.", show_default=False
        ),
    ] = None,
    max: Annotated[
        int | None,
        typer.Option(help="The long edge in pixels, or the side of the area.", show_default="1024"),
    ] = None,
    mode: Annotated[
        Literal["long-edge", "area"] | None,
        typer.Option(
            help="Cap the long edge, or the area (max x max pixels; better for SDXL).",
            show_default="long-edge",
        ),
    ] = None,
    format: Annotated[
        Literal["keep", "jpg", "png", "webp"] | None,
        typer.Option(help="The format to write.", show_default="keep"),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="JPEG and WebP quality.", show_default="95")
    ] = None,
    alpha: Annotated[
        Literal["flatten", "keep"] | None,
        typer.Option(
            help="Lay transparent images onto white, or keep transparency.",
            show_default="flatten",
        ),
    ] = None,
    in_place: Annotated[
        bool | None,
        typer.Option(
            "--in-place/--no-in-place",
            help="Replace the images; the originals go to .dsk/originals.",
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
    """Shrink images to what trainers use: upright, in sRGB, without metadata; never enlarged,
    never in place unasked.

    Captions and masks go along. A second run redoes only what changed.

    Example: dsk resize ./photos ./imgs --max 1024
    """
    from datasetkit.cli import run, show_prepare

    given = {
        "max": max, "mode": mode, "format": format, "quality": quality, "alpha": alpha,
        "in_place": in_place, "recursive": recursive, "follow_links": follow_links,
        "workers": workers, "max_pixels": max_pixels,
    }  # fmt: skip
    options = opt.options(folder, "resize", given)
    run.verb(
        "resize",
        lambda api, context: api.resize(folder, out, options, context),
        show_prepare.resize,
        json,
        dry_run,
        wait,
    )


def _threshold(text: str | None) -> float | str | None:
    """Read a threshold: a number, or `pr`."""
    if text is None or text == "pr":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor pr") from None


Tagger = Annotated[
    str | None,
    typer.Option(
        # The backslashes keep Rich from reading styles in the brackets.
        help=r"auto: WD14, or offline the stand-in `basic`. A name of `dsk models list`, or "
        r"owner/repo\[/folder]\[@revision]; several, comma-separated, are combined.",
        show_default="auto",
    ),
]
Combine = Annotated[
    Literal["union", "intersection", "mean"] | None,
    typer.Option(
        help="Of several taggers' scores take the highest, the lowest or the mean.",
        show_default="union",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        help="Least score of a general tag; pr: the value of the model's card.", show_default="0.35"
    ),
]
CharacterThreshold = Annotated[
    float | None, typer.Option(help="Least score of a character tag.", show_default="0.85")
]
Mcut = Annotated[
    bool | None,
    typer.Option("--mcut/--no-mcut", help="Find the thresholds from each image's scores (MCut)."),
]


@app.command(rich_help_panel=PANEL)
def tag(
    folder: opt.Folder,
    trigger: opt.Trigger = None,
    exclude: opt.Exclude = None,
    additional: opt.Additional = None,
    replace: opt.Replace = None,
    implies: opt.Implies = None,
    tagger: Tagger = None,
    combine: Combine = None,
    model_dir: Annotated[
        str | None, typer.Option(help="A folder with model.onnx and its label file.")
    ] = None,
    provider: opt.Provider = None,
    precision: Annotated[
        Literal["float32", "int8", "bf16", "fp16"] | None,
        typer.Option(
            help="int8: for a CPU; bf16: by OpenVINO; fp16: for a card. They change some tags.",
            show_default="float32",
        ),
    ] = None,
    fast_decode: Annotated[
        bool | None,
        typer.Option(
            "--fast-decode/--no-fast-decode",
            help="Decode large JPEGs at a fraction; changes few tags.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images a call; 0: what suits model and device.", show_default="0"),
    ] = None,
    threshold: Threshold = None,
    character_threshold: CharacterThreshold = None,
    mcut: Mcut = None,
    rating: Annotated[
        Literal["none", "first", "last"] | None,
        typer.Option(
            help="Write the rating (general, sensitive, ...) first or last.", show_default="none"
        ),
    ] = None,
    existing: Annotated[
        Literal["skip", "overwrite", "append", "prepend"] | None,
        typer.Option(
            help="What to do with captions that a person wrote or edited.", show_default="skip"
        ),
    ] = None,
    escape_brackets: opt.EscapeBrackets = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Write a caption beside every image: the trigger, then what the tagger sees, less what you
    exclude.

    What is excluded is absorbed by the trigger; what stays can be changed by a prompt.
    Captions that a person edited are kept. Another threshold or rule later needs no inference.

    Example: dsk tag ./imgs --trigger MikamiYua --exclude lips,nose
    """
    from datasetkit.cli import run, show_prepare

    given = {
        "trigger": opt.words(trigger), "exclude": opt.words(exclude),
        "additional": opt.words(additional), "replace": opt.words(replace), "implies": implies,
        "tagger": tagger, "model_dir": model_dir, "provider": provider,
        "threshold": _threshold(threshold), "character_threshold": character_threshold,
        "mcut": mcut, "rating": rating, "existing": existing, "escape_brackets": escape_brackets,
        "combine": combine, "precision": precision, "fast_decode": fast_decode,
        "batch_size": batch_size, "recursive": recursive, "follow_links": follow_links,
        "workers": workers, "max_pixels": max_pixels,
    }  # fmt: skip
    options = opt.tag_options(folder, given)
    run.verb(
        "tag",
        lambda api, context: api.tag(folder, options, context),
        show_prepare.tag,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def scores(
    image: Annotated[
        Path, typer.Argument(help="An image that dsk tag has seen.", show_default=False)
    ],
    tagger: Tagger = None,
    combine: Combine = None,
    threshold: Threshold = None,
    character_threshold: CharacterThreshold = None,
    mcut: Mcut = None,
    json: opt.Json = False,
) -> None:
    """Show what the tagger gave one image: the tags that are in, and those that missed the
    threshold by 0.1 or less.

    Scores come from the project's store: no model is run, and nothing is changed. Rules come after
    the thresholds.

    Example: dsk scores ./imgs/MikamiYua_001.jpg --threshold 0.4
    """
    from datasetkit.cli import run, show_prepare

    given = {
        "tagger": tagger, "combine": combine, "threshold": _threshold(threshold),
        "character_threshold": character_threshold, "mcut": mcut,
    }  # fmt: skip
    options = opt.options(image.parent, "tag", given)
    run.look("scores", lambda api: api.scores(image, options), show_prepare.scores, json)


@app.command(rich_help_panel=PANEL)
def rules(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|groups", help="The folder with captions; `groups` prints the tag groups."
        ),
    ],
    trigger: opt.Trigger = None,
    exclude: opt.Exclude = None,
    additional: opt.Additional = None,
    replace: opt.Replace = None,
    implies: opt.Implies = None,
    escape_brackets: opt.EscapeBrackets = None,
    where: opt.Where = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Change the captions that exist: exclude, replace, add, prune. The order of the other tags
    stays as it is.

    `dsk rules groups` prints what @face, @hair, ... stand for.

    Example: dsk rules ./imgs --exclude @face --implies common --dry-run
    """
    from datasetkit.cli import run, show_prepare

    if str(folder) == "groups" and not folder.is_dir():
        run.look("rules groups", lambda api: api.groups(), show_prepare.groups, json)
        return
    given = {
        "trigger": opt.words(trigger), "exclude": opt.words(exclude),
        "additional": opt.words(additional), "replace": opt.words(replace), "implies": implies,
        "escape_brackets": escape_brackets, "where": where, "recursive": recursive,
        "follow_links": follow_links,
    }  # fmt: skip
    options = opt.options(folder, "rules", given)
    run.verb(
        "rules",
        lambda api, context: api.rules(folder, options, context),
        show_prepare.rules,
        json,
        dry_run,
        wait,
    )
