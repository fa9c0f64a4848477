"""`dsk check --as sd-scripts`: the caption and bucket of each image as this trainer reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datasetkit.checks import sd_scripts
from datasetkit.checks.base import CheckFolder
from datasetkit.checks.summary import below
from datasetkit.core.files import CAPTION_SUFFIX, read_existing
from datasetkit.core.records import Failed, LeftOut
from datasetkit.dataset.buckets import Bucket, BucketRules, Size, select
from datasetkit.dataset.exports import ONE_LINE_EXTENSION
from datasetkit.dataset.reports import csv_text
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.images.listing import Listing, list_images
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.folders_to_check import find_folders
from datasetkit.verbs.shared.recovery import recover_dataset


@dataclass(frozen=True, slots=True)
class SdScriptsImage:
    """One image as the trainer reads it. size: of the stored pixels; buckets: at each resolution,
    empty for an image that is not read.

    caption: before shuffling and dropout. trouble: why the trainer skips it, or stops.
    """

    path: Path
    concept: str
    repeats: int
    is_reg: bool
    caption: str
    size: Size | None = None
    buckets: tuple[Bucket, ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class SdScriptsView:
    """All images of a dataset as a trainer reads them, and one line per ignored folder.

    resolutions: (w, h), in the order of the buckets of each image.
    """

    folder: Path
    trainer: str
    resolutions: tuple[Size, ...]
    images: tuple[SdScriptsImage, ...]
    ignored: tuple[str, ...]
    files: tuple[Path, ...] = ()
    entry: int | None = None
    unused_files: tuple[LeftOut, ...] = ()


def as_sd_scripts(
    folder: Path, options: CheckOptions, context: RunContext = DEFAULT_CONTEXT
) -> SdScriptsView:
    """Show how sd-scripts would read a dataset; nothing is checked.

    options.csv: the file for the same as a table. Raises DatasetError without images.
    """
    recover_dataset(folder, context, recursive=options.recursive)
    over = read_existing(Path(options.csv)) if options.csv else None
    to_check = find_folders(folder, trigger=options.trigger, recursive=options.recursive)
    # sd-scripts has only this rule; the project may train with another.
    rules = tuple(
        replace(of_resolution, selector="kohya")
        for of_resolution in train_options(find(folder), options.resolution).all_bucket_rules()
    )
    resolutions = tuple(of_resolution.resolution for of_resolution in rules)
    look = partial(_look, rules=rules, options=options)
    listings = [(f, _list(f, options)) for f in to_check.folders]
    # sd-scripts sorts paths as text.
    listed = [
        _ListedImage(path, f) for f, listing in listings for path in sorted(listing.images, key=str)
    ]
    results = local.each(look, listed, name="reading")
    images = tuple(
        replace(image.blank(), trouble=f"stops: {result.error}")
        if isinstance(result, Failed)
        else result
        for image, result in zip(listed, results, strict=True)
    )
    ignored = tuple(misread.text for _, misread in to_check.misread if misread.trainers is None)
    files: tuple[Path, ...] = ()
    entry = None
    if options.csv and not context.dry_run:
        files = (Path(options.csv),)
        with open_project(folder, context) as project:
            entry = project.apply(
                Plan((WriteText(files[0], _table(images, resolutions, folder), over),)),
                "check",
                "as sd-scripts",
            )
    left_out = tuple(item for _, listing in listings for item in listing.left_out)
    return SdScriptsView(folder, "sd-scripts", resolutions, images, ignored, files, entry, left_out)


def _list(folder: CheckFolder, options: CheckOptions) -> Listing:
    return list_images(
        folder.folder,
        recursive=options.recursive and not folder.laid_out,
        follow_links=True,
        any_name=True,
    )


class _ListedImage(NamedTuple):
    """An image and its folder."""

    path: Path
    folder: CheckFolder

    def blank(self) -> SdScriptsImage:
        """Return the result for an image that is not read yet."""
        folder = self.folder
        return SdScriptsImage(self.path, folder.name, folder.repeats, folder.is_reg, "")


def _look(
    image: _ListedImage, *, rules: Sequence[BucketRules], options: CheckOptions
) -> SdScriptsImage:
    """Return one image as sd-scripts reads it. Raises InputError."""
    path, folder = image
    if not sd_scripts.is_listed(path):
        problem = f"skipped: {path.suffix} is not one of its formats"
        return replace(image.blank(), trouble=problem)
    header = pixels.probe(path, max_pixels=options.max_pixels)
    syntax = syntax_of(path.parent)
    exported = path.with_suffix(ONE_LINE_EXTENSION)
    is_exported = syntax.kind == "mixed" and exported.is_file()
    caption = sd_scripts.read_caption(
        path,
        folder.name if folder.laid_out else "",
        enable_wildcard=syntax.enable_wildcard,
        extension=ONE_LINE_EXTENSION if is_exported else CAPTION_SUFFIX,
    )
    turned = header.orientation >= 5
    stored_size = (header.height, header.width) if turned else (header.width, header.height)
    return replace(
        image.blank(),
        caption=caption.text,
        size=stored_size,
        buckets=tuple(select(of_resolution, *stored_size) for of_resolution in rules),
        trouble=f"stops: {caption.stops}" if caption.stops else "",
    )


def _table(images: tuple[SdScriptsImage, ...], resolutions: Sequence[Size], folder: Path) -> str:
    """Return a table with a row for each image at each resolution; one for an image that is not
    read.
    """
    from pandas import DataFrame

    rows = [
        (
            below(p.path, folder),
            p.concept,
            p.repeats,
            "yes" if p.is_reg else "",
            _text(p.size),
            _text(resolution),
            *((_text(b.bucket), _text(b.resized), round(b.scale, 4)) if b else ("", "", "")),
            p.caption,
            p.trouble,
        )
        for p in images
        for resolution, b in _at_each(p, resolutions)
    ]
    names = [
        "path",
        "concept",
        "repeats",
        "reg",
        "size",
        "resolution",
        "bucket",
        "resized",
        "scale",
        "caption",
        "trouble",
    ]
    return csv_text(DataFrame(rows, columns=names))


def _at_each(
    image: SdScriptsImage, resolutions: Sequence[Size]
) -> Iterator[tuple[Size | None, Bucket | None]]:
    """Yield each resolution with the bucket of an image."""
    if not image.buckets:
        yield None, None
    yield from zip(resolutions, image.buckets, strict=False)


def _text(size: Size | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""
