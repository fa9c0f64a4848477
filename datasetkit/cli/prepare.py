"""Commands that make images and captions ready: rename, resize, tag, rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, Given, command
from datasetkit.cli.main import app

PANEL = "Prepare images and captions"


@command(app, panel=PANEL, table="rename", without=("prefix",), show="show_prepare.rename")
def rename(
    folder: opt.Folder,
    prefix: Annotated[
        str | None,
        typer.Argument(
            metavar="PREFIX", help="New names are PREFIX_001.jpg, ...", show_default=False
        ),
    ] = None,
    *,
    given: Given,
) -> Call:
    """Give images plain, unique, numbered names; captions, masks and sidecar files are renamed with
    them.

    Images that have such names already keep their numbers: a second run changes nothing. Nothing is
    ever overwritten.

    Example: dsk rename ./imgs MikamiYua
    """
    options = opt.options(folder, "rename", {"prefix": prefix, **given})
    return lambda api, context: api.rename(folder, options, context)


@command(app, panel=PANEL, table="resize", show="show_prepare.resize", on_cluster=True)
def resize(
    folder: opt.In,
    out: Annotated[Path | None, opt.out("new images", "IN-<max>")] = None,
    *,
    given: Given,
) -> Call:
    """Shrink images for training: upright, in sRGB, without metadata. Images are never enlarged,
    and not changed in place without --in-place.

    Captions and masks are copied too. A second run redoes only what changed.

    Example: dsk resize ./photos ./imgs --max 1024
    """
    options = opt.options(folder, "resize", given)
    return lambda api, context: api.resize(folder, out, options, context)


@command(app, panel=PANEL, table="tag", show="show_prepare.tag", on_cluster=True)
def tag(
    folder: opt.Folder,
    *,
    given: Given,
) -> Call:
    """Write a caption for every image: the trigger, then the tagger's tags minus those you exclude.

    The trigger absorbs what you exclude; what stays in the caption can be changed by a prompt.
    Captions that a person edited are kept. Changing a threshold or a rule later needs no inference.

    Example: dsk tag ./imgs --trigger MikamiYua --exclude lips,nose
    """
    options = opt.tag_options(folder, given)
    return lambda api, context: api.tag(folder, options, context)


@command(app, panel=PANEL, table="caption", show="show_prepare.caption", on_cluster=True)
def caption(
    folder: opt.Folder,
    *,
    given: Given,
) -> Call:
    """Write a sentence about every image: the trigger, then what Florence-2, or a model on a
    server, says of it.

    Photos and the newer base models are captioned in sentences. With `captions = "mixed"` in
    dsk.toml a caption has tags and a sentence. Answers are stored: a second run asks nothing again,
    and captions that a person edited are kept.

    Example: dsk caption ./imgs --engine server --prompt training
    """
    options = opt.options(folder, "caption", given)
    return lambda api, context: api.caption(folder, options, context)


@command(
    app,
    panel=PANEL,
    table="tag",
    only=("tagger", "combine", "threshold", "character_threshold", "mcut"),
)
def scores(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="An image that dsk tag has tagged.", show_default=False
        ),
    ],
    *,
    given: Given,
    json: opt.Json = False,
) -> None:
    """Show the tagger's scores for one image: the tags above the threshold, and those at most 0.1
    below it.

    Scores come from the project's store: no model is run, and nothing is changed. Rules are applied
    after the thresholds.

    Example: dsk scores ./imgs/MikamiYua_001.jpg --threshold 0.4
    """
    from datasetkit.cli import run, show_prepare

    options = opt.options(image.parent, "tag", given)
    run.look("scores", lambda api: api.scores(image, options), show_prepare.scores, json)


@command(app, panel=PANEL, table="rules", without=("workers",))
def rules(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|groups", help="The folder with captions; `groups` prints the tag groups."
        ),
    ],
    *,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Edit existing captions: exclude, replace, add, prune. The other tags keep their order.

    `dsk rules groups` prints what @face, @hair, ... stand for.

    Example: dsk rules ./imgs --exclude @face --implies common --dry-run
    """
    from datasetkit.cli import run, show_prepare

    if str(folder) == "groups" and not folder.is_dir():
        run.look("rules groups", lambda api: api.groups(), show_prepare.groups, json)
        return
    options = opt.options(folder, "rules", given)
    run.verb(
        "rules",
        lambda api, context: api.rules(folder, options, context),
        show_prepare.rules,
        json,
        dry_run,
        wait,
    )
