"""Commands that make and describe the dataset: plan-repeats, layout, reg, report, export,
import.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Call, Given, command
from datasetkit.cli.main import app

# A tar file; of a compressed one the import says how to unpack it.
_TAR = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+)$")
PANEL = "Make and describe the dataset"
DataSet = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A folder of images, a laid-out dataset, a dsk.toml, or its folder.",
    ),
]


@command(app, "plan-repeats", panel=PANEL, table="plan-repeats", show="show_dataset.plan_repeats")
def plan_repeats(
    folder: DataSet = Path(),
    *,
    given: Given,
    apply: Annotated[
        bool, typer.Option("--apply", help="Rename the laid-out folders to the planned repeats.")
    ] = False,
) -> Call:
    """Print how many repeats give the steps that you want, and the exact optimizer steps of the
    training.

    repeats = steps / epochs / images x batch, rounded to the nearest exact steps; several concepts
    are balanced.

    Example: dsk plan-repeats --steps 1000 --epochs 10
    """
    folder = opt.folder_of(folder)
    options = opt.plan_options(folder, given)
    return lambda api, context: api.plan_repeats(folder, options, apply=apply, context=context)


@command(app, panel=PANEL, table="layout", without=("images",), show="show_dataset.layout")
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
    *,
    given: Given,
) -> Call:
    """Make the folders that trainers read: OUT/train/<repeats>_<concept>, with copies of images and
    captions.

    Run it again to refresh them: new images and captions are added, stale ones go to .dsk/trash.
    Without arguments it lays out the concepts of dsk.toml.

    Example: dsk layout 20_MikamiYua=./imgs --out dataset
    """
    options = opt.options(Path(), "layout", given)
    return lambda api, context: api.layout(concepts or [], options, context)


@command(app, panel=PANEL, table="reg", without=("folder",), show="show_dataset.reg")
def reg(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The folder of class images.", show_default=False),
    ] = None,
    *,
    given: Given,
) -> Call:
    """Make the regularisation set OUT/reg/<repeats>_<class>, and check its balance with the
    training folders.

    Example: dsk reg ./women --class 1girl --out dataset
    """
    named = {"folder": str(folder) if folder else None, **given}
    options = opt.options(Path(), "reg", named)
    return lambda api, context: api.reg(options, context)


@command(
    app, "reg generate", panel=PANEL, table="reg-generate", show="show_dataset.reg_generate",
    on_gpu=True,
)  # fmt: skip
def reg_generate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The dataset (with train/ in it), a dsk.toml, or its folder."
        ),
    ] = Path(),
    *,
    given: Given,
) -> Call:
    """Generate a regularisation set OUT/reg/<repeats>_<class> with a base model; a second run
    generates what is missing.

    Example: dsk reg generate dataset --base model.safetensors --class 1girl --count 100
    --from-captions --trigger sks
    """
    folder = opt.folder_of(folder)
    options = opt.options(folder, "reg-generate", given)
    return lambda api, context: api.generate_reg(folder, options, context)


@command(app, panel=PANEL, table="report", show="show_dataset.report")
def report(
    folder: DataSet = Path(),
    *,
    given: Given,
) -> Call:
    """Count tags per concept and in total (tags.csv), and pairs of tags (pairs.csv).

    Example: dsk report ./imgs --plot
    """
    folder = opt.folder_of(folder)
    options = opt.options(folder, "report", given)
    return lambda api, context: api.report(folder, options, context)


@command(app, panel=PANEL, table="export", show="show_dataset.export")
def export(
    folder: DataSet = Path(),
    *,
    given: Given,
) -> Call:
    """Write the dataset in another tool's format; images stay where they are.

    Example: dsk export dataset --format kohya
    """
    folder = opt.folder_of(folder)
    options = opt.options(folder, "export", given)
    return lambda api, context: api.export(folder, options, context)


@command(app, "import", panel=PANEL, table="import", show="show_dataset.import_")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE",
            help="A folder of images, the dataset file of another trainer, or WebDataset shards.",
            show_default=False,
        ),
    ],
    *,
    given: Given,
) -> Call:
    """Convert other tools' sidecar files (gallery-dl, hydrus, .caption, ...) to captions, the
    dataset of OneTrainer, ai-toolkit or diffusion-pipe to a dsk.toml here, or WebDataset shards to
    images and captions.

    Example: dsk import ./downloads --from gallery-dl
    """
    is_shard = bool(_TAR.search(path.name.lower())) and not path.is_dir()
    if is_shard or given["source"] == "webdataset":
        opt.refuse_given(
            {name: given[name] for name in ("meta", "recursive")}, "shards have the captions inside"
        )
        if given["source"] not in (None, "auto", "webdataset"):
            opt.refuse_given({"source": given["source"]}, "a shard says itself what it is")
        options = opt.options(path.parent if is_shard else path, "import", given)
        return lambda api, context: api.import_shards(path, options, context)
    if path.is_file():
        opt.refuse_given(given, "a dataset file says itself whose it is")
        return lambda api, context: api.import_dataset(path, context)
    options = opt.options(path, "import", given)
    return lambda api, context: api.import_captions(path, options, context)
