"""`dsk import SHARDS --out DIR`: the images and captions of WebDataset shards, as files."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.encodings import decode_other, decode_utf8
from datasetkit.core.disk_sync import can_sync_disks, sync_disks
from datasetkit.core.errors import ConfigError, InputError, PlanConflict
from datasetkit.core.files import (
    TEMP_PREFIX,
    caption_path,
    display,
    fold,
    mask_path,
    nearest_folder,
    read_existing,
    write_new,
    writing,
)
from datasetkit.core.records import Failed
from datasetkit.dataset.imports import parse_post
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.shards import ShardFile, ShardSample, find_shards, read_samples
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.images.listing import list_images
from datasetkit.options.dataset import ImportOptions
from datasetkit.project.disk_space import require_free
from datasetkit.project.plans import FileOp, Link, Plan, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.project.staging import staging_folder


@dataclass(frozen=True, slots=True)
class ImportShardsResult:
    """The files that an import wrote to a folder.

    images: that are new; unchanged: that were there already. captions: that are new or replaced;
    kept: existing captions that differ. without_caption, without_image: samples of the shards.
    """

    out: Path
    shards: tuple[Path, ...]
    images: int
    unchanged: int
    captions: int
    kept: int
    without_caption: int
    without_image: int
    failed: tuple[Failed, ...]
    entry: int | None


@dataclass(frozen=True, slots=True)
class _NewImage:
    """A sample whose image is to be written. path: where to; mask: the same, None for none."""

    sample: ShardSample
    path: Path
    mask: Path | None


@dataclass(frozen=True, slots=True)
class _Captions:
    """The captions that are written, and what becomes of the others."""

    writes: tuple[WriteText, ...]
    kept: int
    without: int
    failed: tuple[Failed, ...]


# A shard may come from anywhere, so all headers are read and checked first, and every image is
# opened below `.dsk/` before one takes its place: what cannot be used as a whole changes nothing.
def import_shards(
    path: Path, options: ImportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ImportShardsResult:
    """Write the images, captions and masks of a shard, or of the shards of a folder, to
    `options.out`.

    Captions that exist are kept unless `options.existing` is "overwrite". Raises InputError for a
    shard that is damaged or must not be used, PlanConflict for an image that is there already and
    differs; then nothing is changed.
    """
    if not options.out:
        raise ConfigError("no folder for the images is given", hint="name it: --out photos")
    out = Path(options.out)
    require_names(out)
    shards = find_shards(path)
    context.reporter.phase("reading the shards")
    read = read_samples(shards)
    if not read.samples:
        raise InputError(
            f"{display(path)} has no images",
            hint="an image has a name such as 0001.jpg, and its caption 0001.txt",
        )
    recover_projects([out], context)
    with open_project(out, context, create_folder=True) as project:
        targets = {s.key: out / f"{s.key}.{s.image.extension}" for s in read.samples}
        new = _new_images(read.samples, targets)
        with _staging(project) as staging:
            _require_space(staging, new)
            links, failed = _stage(new, staging, out, project)
            failed_paths = {failure.path for failure in failed}
            captions = _captions(
                [s for s in read.samples if targets[s.key] not in failed_paths], targets, options
            )
            ops: list[FileOp] = [*captions.writes]
            if not context.dry_run:  # what they link to is not written in a dry run
                ops += links
            title = f"webdataset {display(path.resolve().name)}"
            entry = project.apply(Plan.of(ops), "import", title)
    return ImportShardsResult(
        out,
        tuple(shards),
        len(new) - len(failed),
        len(targets) - len(new),
        len(captions.writes),
        captions.kept,
        captions.without,
        read.without_image,
        (*failed, *captions.failed),
        entry,
    )


@contextmanager
def _staging(project: Project) -> Iterator[Path]:
    """Yield the folder where images are opened before they are put into place."""
    if not project.context.dry_run:
        with staging_folder(project) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX) as name:
        yield Path(name)


# ---- images


def _new_images(samples: Sequence[ShardSample], targets: Mapping[str, Path]) -> list[_NewImage]:
    """Return the samples whose images are not there yet. Raises PlanConflict for a name that is
    taken.
    """
    taken = _images_by_name({path.parent for path in targets.values()})
    new: list[_NewImage] = []
    differing: list[str] = []
    for sample in samples:
        path = targets[sample.key]
        other = taken.get((path.parent, fold(path.stem)), path)
        mask = mask_path(path) if sample.mask is not None else None
        if other != path:
            raise PlanConflict(
                f"{display(other)} would share its caption with {display(path.name)}",
                hint="name another folder with --out, or move that image away",
            )
        if not os.path.lexists(path):
            new.append(_NewImage(sample, path, mask))
        elif not _is_there(path, sample.image):
            differing.append(display(path))
        if mask is not None and os.path.lexists(mask):
            if sample.mask is not None and not _is_there(mask, sample.mask):
                differing.append(display(mask))
            elif new and new[-1].path == path:
                new[-1] = _NewImage(sample, path, None)
    if differing:
        more = f" and {len(differing) - 1:,} more" if len(differing) > 1 else ""
        raise PlanConflict(
            f"{differing[0]}{more} would be replaced by other images",
            hint="name another folder with --out, or move them away",
        )
    return new


def _images_by_name(folders: set[Path]) -> dict[tuple[Path, str], Path]:
    """Return the images of folders by folder and name without suffix, as some disks compare it."""
    return {
        (folder, fold(image.stem)): image
        for folder in folders
        if folder.is_dir()
        for image in list_images(folder, any_name=True).images
    }


def _is_there(path: Path, file: ShardFile) -> bool:
    info = os.lstat(path)
    return info.st_size == file.size and read_existing(path) == file.read()


def _require_space(folder: Path, new: Sequence[_NewImage]) -> None:
    files = [file for image in new for file in (image.sample.image, image.sample.mask) if file]
    require_free(nearest_folder(folder), sum(file.size for file in files), "images")


def _stage(
    new: Sequence[_NewImage], staging: Path, out: Path, project: Project
) -> tuple[list[FileOp], list[Failed]]:
    """Write images below the staging folder and open them there; return what links them into place,
    and those that cannot be read. In a dry run each is deleted again.
    """
    for folder in {image.path.parent.relative_to(out) for image in new}:
        (staging / folder).mkdir(parents=True, exist_ok=True)
    is_trial = project.context.dry_run
    sync_each = not is_trial and not can_sync_disks()

    def stage(image: _NewImage) -> list[FileOp]:
        links: list[FileOp] = []
        for file, target in ((image.sample.image, image.path), (image.sample.mask, image.mask)):
            if file is None or target is None:
                continue
            staged = staging / target.relative_to(out)
            with writing(staged):
                staged.parent.mkdir(exist_ok=True)
                write_new(staged, file.read(), sync=sync_each)
            try:
                pixels.probe(staged)
            except InputError as error:
                staged.unlink()
                message = error.message.replace(display(staged), display(target.name))
                raise InputError(message, hint=error.hint) from error
            if is_trial:
                staged.unlink()
            links.append(Link(staged, target))
        return links

    links: list[FileOp] = []
    failed: list[Failed] = []
    reporter = project.context.reporter
    for result in local.each(stage, new, name="unpacking images", reporter=reporter):
        if isinstance(result, Failed):
            failed.append(result)
        else:
            links += result
    if not is_trial and not sync_each:
        with writing(staging):
            sync_disks([staging])
    return links, failed


# ---- captions


def _captions(
    samples: Sequence[ShardSample], targets: Mapping[str, Path], options: ImportOptions
) -> _Captions:
    """Return the captions to write beside the images of samples."""
    writes: list[WriteText] = []
    failed: list[Failed] = []
    count: defaultdict[str, int] = defaultdict(int)
    for sample in samples:
        path = caption_path(targets[sample.key])
        try:
            text = _caption_text(sample, options)
        except InputError as error:
            failed.append(Failed(targets[sample.key], f"its caption {error.message}", error.hint))
            continue
        existing = read_existing(path)
        if not text:
            count["without"] += 1
        elif existing is not None and existing != text.encode() and options.existing == "skip":
            count["kept"] += 1
        elif existing != text.encode():
            writes.append(WriteText(path, text, existing))
    return _Captions(tuple(writes), count["kept"], count["without"], tuple(failed))


def _caption_text(sample: ShardSample, options: ImportOptions) -> str:
    """Return the caption of a sample as it is written: a text as it is, or what a JSON object has
    under `caption`, else its tags. "" for none. Raises InputError.
    """
    if sample.text is None:
        return ""
    data = sample.text.read()
    text = decode_utf8(data)
    text = decode_other(data, options.encoding) if text is None else text
    if text is None:
        raise InputError("is not UTF-8 text", hint="name its encoding, e.g. --encoding cp1252")
    if sample.text.extension == "json":
        caption = _of_json(text)
        text = f"{caption}\n" if caption else ""
    return text if text.strip() else ""


def _of_json(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None  # parse_post says what is wrong
    caption = value.get("caption") if isinstance(value, dict) else None
    return " ".join(caption.split()) if isinstance(caption, str) else parse_post(text).text()
