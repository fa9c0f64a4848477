"""Commands that make and describe the dataset: plan-repeats, layout, reg, report, export,
import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app

PANEL = "Make and describe the dataset"
Steps = Annotated[
    int | None, typer.Option(help="Optimizer steps wanted for each concept.", show_default="1000")
]
Epochs = Annotated[
    int | None, typer.Option(help="Epochs.", show_default="max_train_epochs of [train], 10")
]
Batch = Annotated[
    int | None,
    typer.Option(help="Images a batch.", show_default="train_batch_size of [train], 1"),
]
Resolution = Annotated[
    int | None, typer.Option(help="Training resolution.", show_default="that of [train], 512")
]
Kind = Annotated[
    Literal["character", "style"] | None,
    typer.Option(help="Whose usual numbers to advise by.", show_default="character"),
]
Out = Annotated[
    str | None,
    typer.Option(help="The dataset's folder: train/ and reg/ in it.", show_default="dataset"),
]
DataSet = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A folder of images, a laid-out dataset, or the folder of a dsk.toml.",
    ),
]


@app.command(name="plan-repeats", rich_help_panel=PANEL)
def plan_repeats(
    folder: DataSet = Path(),
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: Batch = None,
    resolution: Resolution = None,
    images: Annotated[
        int | None, typer.Option(help="Count on this many images instead of looking into DIR.")
    ] = None,
    kind: Kind = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Rename the laid-out folders to the planned repeats.")
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Say how many repeats give the steps that you want, and the exact optimizer steps that the
    trainer will make.

    repeats = steps / epochs / images x batch, rounded to the nearest exact steps; several concepts
    are balanced.

    Example: dsk plan-repeats --steps 1000 --epochs 10
    """
    from datasetkit.cli import run, show_dataset

    given = {
        "steps": steps, "epochs": epochs, "batch_size": batch_size, "resolution": resolution,
        "images": images, "kind": kind,
    }  # fmt: skip
    options = opt.plan_options(folder, given)
    run.verb(
        "plan-repeats",
        lambda api, context: api.plan_repeats(folder, options, apply=apply, context=context),
        show_dataset.plan_repeats,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def layout(
    concepts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[REPEATS_]NAME=]DIR...",
            help="Each concept: a folder, with a name (default: the folder's) and repeats "
            "(default: planned).",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    repeats: Annotated[
        int | None, typer.Option(help="Repeats of every concept that gives none itself.")
    ] = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: Batch = None,
    resolution: Resolution = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Make the folders that trainers read: OUT/train/<repeats>_<concept>, images hard-linked,
    captions copied.

    Laying out again refreshes them: new images and captions come, stale ones go to .dsk/trash.
    Without concepts, those of dsk.toml are laid out.

    Example: dsk layout 20_MikamiYua=./imgs --out dataset
    """
    from datasetkit.cli import run, show_dataset

    given = {
        "out": out, "repeats": repeats, "steps": steps, "epochs": epochs, "batch_size": batch_size,
        "resolution": resolution,
    }  # fmt: skip
    options = opt.options(Path(), "layout", given)
    run.verb(
        "layout",
        lambda api, context: api.layout(concepts or [], options, context),
        show_dataset.layout,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def reg(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The folder of class images.", show_default=False),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", "--reg-class", help="The class, e.g. 1girl; any name is allowed."),
    ] = None,
    out: Out = None,
    repeats: Annotated[
        int | None, typer.Option(help="Repeats; by default the most that still use every image.")
    ] = None,
    captions: Annotated[
        Literal["none", "derive"] | None,
        typer.Option(
            "--captions",
            "--reg-captions",
            help="none: the class is the caption. derive: the training captions with trigger "
            "-> class.",
            show_default="none",
        ),
    ] = None,
    trigger: opt.Trigger = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Make the regularisation set OUT/reg/<repeats>_<class> and say whether it balances the
    training folders.

    Example: dsk reg ./women --class 1girl --out dataset
    """
    from datasetkit.cli import run, show_dataset

    given = {
        "folder": str(folder) if folder else None, "class_name": class_name, "out": out,
        "repeats": repeats, "captions": captions, "trigger": opt.words(trigger),
    }  # fmt: skip
    options = opt.options(Path(), "reg", given)
    run.verb(
        "reg", lambda api, context: api.reg(options, context), show_dataset.reg, json, dry_run, wait
    )


@app.command(name="reg generate", rich_help_panel=PANEL)
def reg_generate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The dataset (train/ lies in it), or the folder of a dsk.toml."
        ),
    ] = Path(),
    base: Annotated[
        str | None,
        typer.Option(
            help="The model that draws; tiny is part of the package.",
            show_default="that of [train]",
        ),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="The class, e.g. 1girl.", show_default="that of [reg]"),
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many images.", show_default="100")] = None,
    from_captions: Annotated[
        bool | None,
        typer.Option(
            "--from-captions/--no-from-captions",
            help="Draw the training captions, trigger -> class.",
        ),
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option(
            help="The words whose place the class takes, comma-separated.",
            show_default="those of dsk.toml",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Repeats of the set.", show_default="the most that use every image"),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="What shall not be drawn.", show_default="nothing")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the sampler.", show_default="30")
    ] = None,
    cfg: Annotated[
        float | None, typer.Option(help="Guidance; at 1 and below none.", show_default="7.5")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="As sample_sampler of train.", show_default="ddim")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 512 or 512x768.", show_default="the buckets of the training set"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first image; the next has one more.")
    ] = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Draw a regularisation set OUT/reg/<repeats>_<class> with a base model; a second run draws
    what is missing.

    Example: dsk reg generate dataset --base model.safetensors --class 1girl --count 100
    --from-captions --trigger sks
    """
    from datasetkit.cli import run, show_dataset

    given = {
        "base": base, "class_name": class_name, "count": count, "from_captions": from_captions,
        "trigger": opt.words(trigger), "repeats": repeats, "negative": negative, "steps": steps,
        "cfg": cfg, "sampler": sampler, "size": opt.sides(size), "seed": seed,
    }  # fmt: skip
    options = opt.options(folder, "reg-generate", given)
    run.verb(
        "reg generate",
        lambda api, context: api.generate_reg(folder, options, context),
        show_dataset.reg_generate,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def report(
    folder: DataSet = Path(),
    out: Annotated[
        str | None, typer.Option(help="Where the tables go.", show_default="report/ in the project")
    ] = None,
    trigger: opt.Trigger = None,
    excel: Annotated[
        bool | None,
        typer.Option("--excel/--no-excel", help="Keep spreadsheets from reading =_= as a formula."),
    ] = None,
    plot: Annotated[
        bool | None, typer.Option("--plot/--no-plot", help="Also draw tags.png, a bar chart.")
    ] = None,
    where: opt.Where = None,
    recursive: opt.Recursive = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Count the tags per concept and in total (tags.csv), and which stand together (pairs.csv).

    Example: dsk report ./imgs --plot
    """
    from datasetkit.cli import run, show_dataset

    given = {
        "out": out, "trigger": opt.words(trigger), "excel": excel, "plot": plot, "where": where,
        "recursive": recursive,
    }  # fmt: skip
    options = opt.options(folder, "report", given)
    run.verb(
        "report",
        lambda api, context: api.report(folder, options, context),
        show_dataset.report,
        json,
        dry_run,
        wait,
    )


@app.command(rich_help_panel=PANEL)
def export(
    folder: DataSet = Path(),
    format: Annotated[
        Literal["kohya", "imagefolder", "meta"] | None,
        typer.Option(
            help="kohya: dataset.toml + config.toml. imagefolder: metadata.jsonl. meta: "
            "sd-scripts' meta JSON.",
            show_default="kohya",
        ),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Where the files go.", show_default="DIR")] = None,
    keep_tokens: Annotated[
        int | None,
        typer.Option(
            help="Fixed tags at the front of captions.", show_default="found from the captions"
        ),
    ] = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Write the dataset in another tool's format; images stay where they are.

    Example: dsk export dataset --format kohya
    """
    from datasetkit.cli import run, show_dataset

    given = {"format": format, "out": out, "keep_tokens": keep_tokens}
    options = opt.options(folder, "export", given)
    run.verb(
        "export",
        lambda api, context: api.export(folder, options, context),
        show_dataset.export,
        json,
        dry_run,
        wait,
    )


@app.command(name="import", rich_help_panel=PANEL)
def import_(
    folder: opt.Folder,
    source: Annotated[
        Literal["auto", "gallery-dl", "hydrus", "caption", "meta"] | None,
        typer.Option("--from", help="Whose side-cars to read.", show_default="auto"),
    ] = None,
    meta: Annotated[str | None, typer.Option(help="The meta JSON file, with --from meta.")] = None,
    existing: Annotated[
        Literal["skip", "overwrite"] | None,
        typer.Option(help="What to do with captions that exist.", show_default="skip"),
    ] = None,
    recursive: opt.Recursive = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Turn other tools' side-cars (gallery-dl, hydrus, .caption, sd-scripts' meta JSON) into
    captions.

    Example: dsk import ./downloads --from gallery-dl
    """
    from datasetkit.cli import run, show_dataset

    given = {"source": source, "meta": meta, "existing": existing, "recursive": recursive}
    options = opt.options(folder, "import", given)
    run.verb(
        "import",
        lambda api, context: api.import_captions(folder, options, context),
        show_dataset.import_,
        json,
        dry_run,
        wait,
    )
