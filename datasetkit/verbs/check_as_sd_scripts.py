"""`dsk check --as sd-scripts`: for each image the caption and the bucket that this trainer would
use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datasetkit.checks import sd_scripts
from datasetkit.checks.base import CheckFolder
from datasetkit.checks.summary import below
from datasetkit.core.files import list_images
from datasetkit.core.records import Failed
from datasetkit.dataset.buckets import BucketRules, Size, select
from datasetkit.dataset.reports import csv_text
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, finish_interrupted, open_project
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.folders_to_check import find_places


@dataclass(frozen=True, slots=True)
class SdScriptsImage:
    """One image as the trainer takes it. size: of its pixels as they are stored; bucket, resized:
    width, height.

    caption: before shuffling and dropping. trouble: why it is left out, or why the trainer ends
    there.
    """

    path: Path
    concept: str
    repeats: int
    is_reg: bool
    caption: str
    size: Size | None = None
    bucket: Size | None = None
    resized: Size | None = None
    scale: float = 0.0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class SdScriptsView:
    """All images of a dataset as a trainer takes them, and the folders that it ignores
    in words.
    """

    folder: Path
    trainer: str
    images: tuple[SdScriptsImage, ...]
    ignored: tuple[str, ...]
    files: tuple[Path, ...] = ()
    entry: int | None = None


def as_sd_scripts(
    folder: Path, options: CheckOptions, context: RunContext = DEFAULT_CONTEXT
) -> SdScriptsView:
    """Show what sd-scripts would make of a dataset; nothing is checked. options.csv: where to
    write it as a table.

    Raises DatasetError without images.
    """
    found = find_places(folder, trigger=options.trigger, recursive=options.recursive)
    for place in found.places:
        finish_interrupted(place.folder, context)
    # It has no other rule, whatever this project trains with.
    rules = replace(
        train_options(find(folder), options.resolution).bucket_rules(), selector="kohya"
    )
    look = partial(_look, rules=rules, options=options)
    listed = [
        _ListedImage(path, place) for place in found.places for path in _images(place, options)
    ]
    results = local.each(look, listed, name="reading")
    images = tuple(
        replace(image.blank(), trouble=f"stops: {result.error}")
        if isinstance(result, Failed)
        else result
        for image, result in zip(listed, results, strict=True)
    )
    ignored = tuple(misread.text for _, misread in found.misread if misread.trainers is None)
    files: tuple[Path, ...] = ()
    entry = None
    if options.csv and not context.dry_run:
        files = (Path(options.csv),)
        with open_project(folder, context) as project:
            entry = project.apply(
                Plan((WriteText(files[0], _table(images, folder)),)), "check", "as sd-scripts"
            )
    return SdScriptsView(folder, "sd-scripts", images, ignored, files, entry)


def _images(place: CheckFolder, options: CheckOptions) -> list[Path]:
    listing = list_images(
        place.folder,
        recursive=options.recursive and not place.laid_out,
        follow_links=True,
        any_name=True,
    )
    # sd-scripts sorts its paths as text.
    return sorted(listing.images, key=str)


class _ListedImage(NamedTuple):
    """An image, and the folder that it was listed in."""

    path: Path
    folder: CheckFolder

    def blank(self) -> SdScriptsImage:
        """Return what is known of the image before it is read."""
        folder = self.folder
        return SdScriptsImage(self.path, folder.name, folder.repeats, folder.is_reg, "")


def _look(image: _ListedImage, *, rules: BucketRules, options: CheckOptions) -> SdScriptsImage:
    """Return what sd-scripts makes of one image. Raises InputError."""
    path, folder = image
    if not sd_scripts.is_listed(path):
        problem = f"left out: {path.suffix} is not among its formats"
        return replace(image.blank(), trouble=problem)
    header = pixels.probe(path, max_pixels=options.max_pixels)
    read = sd_scripts.read_caption(path, folder.name if folder.laid_out else "")
    turned = header.orientation >= 5
    stored = (header.height, header.width) if turned else (header.width, header.height)
    bucket = select(rules, *stored)
    return replace(
        image.blank(),
        caption=read.text,
        size=stored,
        bucket=bucket.bucket,
        resized=bucket.resized,
        scale=bucket.scale,
        trouble=f"stops: {read.stops}" if read.stops else "",
    )


def _table(images: tuple[SdScriptsImage, ...], folder: Path) -> str:
    from pandas import DataFrame

    rows = [
        (
            below(p.path, folder),
            p.concept,
            p.repeats,
            "yes" if p.is_reg else "",
            _text(p.size),
            _text(p.bucket),
            _text(p.resized),
            round(p.scale, 4) if p.bucket else "",
            p.caption,
            p.trouble,
        )
        for p in images
    ]
    names = [
        "path",
        "concept",
        "repeats",
        "reg",
        "size",
        "bucket",
        "resized",
        "scale",
        "caption",
        "trouble",
    ]
    return csv_text(DataFrame(rows, columns=names))


def _text(size: Size | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
