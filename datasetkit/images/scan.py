"""Scanning: turn a folder of files into image records; each file is read once, and stored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from datasetkit.captions.caption import decode_caption, read_caption_data
from datasetkit.core.errors import DatasetError, DskError, InputError
from datasetkit.core.file_kinds import advice_on, counts_of, is_image_name
from datasetkit.core.file_stamp import state_of
from datasetkit.core.files import caption_path, display, image_id, reading
from datasetkit.core.packed import PackedList
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import CaptionSyntax, Failed, ImageRecord, LeftOut
from datasetkit.executors import local
from datasetkit.images import pixels
from datasetkit.images.listing import (
    Listing,
    holds_images,
    list_images,
    same_names,
    subfolders,
)
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import FileFacts, Store

# How many folders a hint names, how many it looks for, and so many levels deep.
_NEAR = 5
_MOST = 100
_LEVELS = 4
# The names in a laid-out dataset: its concept folders, and the folders that hold them.
_CONCEPT = re.compile("[1-9][0-9]*_.")
_ROOTS = frozenset({"train", "img", "reg"})
# How many images are looked at, and stored, at once.
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Scan:
    """The readable images of a folder in natural order, those that cannot be used with the reason,
    and the other files that are left out. same_names: on any disk, see `listing.same_names`.
    """

    folder: Path
    records: Sequence[ImageRecord]
    failed: tuple[Failed, ...]
    left_out: tuple[LeftOut, ...] = ()
    same_names: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def paths(self) -> Iterator[Path]:
        return (record.path for record in self.records)


def require_folder(folder: Path, hint: str = "name the folder that holds the images") -> Path:
    """Return the folder, or raise DatasetError when it is not one."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{display(folder)} {what}", hint=hint)
    return folder


def require_images(folder: Path, *, recursive: bool = False, follow_links: bool = False) -> Listing:
    """List a folder's images. Raises DatasetError if there are none."""
    listing = list_images(require_folder(folder), recursive=recursive, follow_links=follow_links)
    if not listing.images and not listing.failed:
        raise no_images(folder, listing.left_out)
    return listing


def require_an_image(folder: Path, *, recursive: bool = False, follow_links: bool = False) -> None:
    """Do `require_images` without listing the folder where it has an image."""
    require_folder(folder)
    with reading(folder), os.scandir(folder) as entries:
        if any(is_image_name(e.name) and e.is_file(follow_symlinks=False) for e in entries):
            return
    require_images(folder, recursive=recursive, follow_links=follow_links)


def no_images(
    folder: Path,
    left_out: Sequence[LeftOut] = (),
    *,
    but: str = "",
    has_datasets: bool = False,
) -> DatasetError:
    """Return the error of a folder without images, which names what is there instead, and the
    folders below it that hold some. but: words after "holds no images". has_datasets: a laid-out
    dataset is named as a whole.
    """
    left_out = left_out or list_images(folder).left_out
    others = [item for item in left_out if item.group not in ("system", "folder")]
    nearest = list(islice(_with_images(folder, _LEVELS), _MOST))
    if has_datasets:
        nearest = [_dataset_of(path, folder) for path in nearest]
    below = [display(path) for path in dict.fromkeys(nearest)]
    more = " ..." if len(below) > _NEAR else ""
    hint = f"these hold some: {', '.join(below[:_NEAR])}{more}" if below else advice_on(others)
    has = f"; it has {counts_of(others)}" if others else ""
    return DatasetError(
        f"{display(folder)} holds no images{but}{has}",
        hint=hint or "name the folder that holds the images",
    )


def _with_images(folder: Path, levels: int) -> Iterator[Path]:
    """Yield the nearest folders below one that hold images, so many levels deep."""
    for path in _readable_subfolders(folder):
        if _can_read_images(path):
            yield path
        elif levels > 1:
            yield from _with_images(path, levels - 1)


def _readable_subfolders(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)
    except InputError:
        return []


def _dataset_of(folder: Path, top: Path) -> Path:
    """Return the laid-out dataset below `top` that a folder belongs to, else the folder itself."""
    if not _CONCEPT.match(folder.name) or folder.parent == top:
        return folder
    root = folder.parent
    is_inside = root.name.casefold() in _ROOTS and root.parent != top
    return root.parent if is_inside else root


def _can_read_images(folder: Path) -> bool:
    try:
        return holds_images(folder)
    except DskError:  # it cannot be read
        return False


def scan(
    folder: Path,
    store: Store,
    *,
    recursive: bool = False,
    follow_links: bool = False,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    with_ids: bool = False,
    captions: bool = True,
    any_text: bool = False,
    unique_on: Literal["this disk", "any disk", ""] = "this disk",
    listing: Listing | None = None,
    reporter: Reporter = SILENT,
) -> Scan:
    """Read every image of a folder; the stored facts of an unchanged file are not computed again.

    with_ids: hash the files (ids are "" otherwise). captions: read the captions. any_text: keep an
    image whose caption is not UTF-8, with `caption_fault`. unique_on: where an image must not share
    its caption with an earlier one, see `listing.same_names`. listing: the folder's files, if the
    caller has listed them. Raises DatasetError if the folder is missing or holds no image files.
    """
    if listing is None:
        listing = list_images(
            require_folder(folder), recursive=recursive, follow_links=follow_links
        )
    if not listing.images and not listing.failed:
        raise no_images(folder, listing.left_out)
    alike = same_names(listing.images, any_disk=True)
    records: PackedList[ImageRecord] = PackedList()
    failed = list(listing.failed)
    for image in each_image(
        listing, store, alike,
        max_pixels=max_pixels, with_ids=with_ids, captions=captions, any_text=any_text,
        unique_on=unique_on, reporter=reporter,
    ):  # fmt: skip
        if isinstance(image, Failed):
            failed.append(image)
        else:
            records.append(image)
    return Scan(folder, records, tuple(failed), listing.left_out, alike)


def each_image(
    listing: Listing,
    store: Store,
    alike: Mapping[Path, Path],
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
    with_ids: bool = False,
    captions: bool = True,
    any_text: bool = False,
    unique_on: Literal["this disk", "any disk", ""] = "this disk",
    reporter: Reporter = SILENT,
) -> Iterator[ImageRecord | Failed]:
    """Yield the images of a listing as `scan` returns them, in order, without keeping them. alike:
    `listing.same_names` of them, on any disk.
    """
    facts = _facts(
        listing.images, store, with_ids=with_ids, max_pixels=max_pixels, reporter=reporter
    )
    owners = same_names(listing.images) if unique_on == "this disk" and alike else alike
    syntaxes: dict[str, CaptionSyntax] = {}
    for path, file_facts in facts:
        try:
            if path in owners and unique_on:
                refuse_shared_caption(path, owners[path])
            if isinstance(file_facts, Failed):
                yield file_facts
                continue
            record = ImageRecord(path, file_facts.id, file_facts.width, file_facts.height)
            if captions:
                parent = str(path).rpartition(os.sep)[0]
                if parent not in syntaxes:
                    syntaxes[parent] = syntax_of(path.parent)
                data = read_caption_data(path)
                record = with_caption(record, data, syntaxes[parent], any_text=any_text)
            yield record
        except DskError as error:
            yield Failed(path, error.message, error.hint)


def with_caption(
    record: ImageRecord,
    data: bytes | None,
    syntax: CaptionSyntax,
    *,
    any_text: bool,
) -> ImageRecord:
    """Return a record with the caption that the bytes of its file hold. Raises InputError if they
    are not UTF-8; with `any_text` this becomes `caption_fault`.
    """
    caption, fault = None, None
    try:
        if data is not None:
            caption = decode_caption(caption_path(record.path), data, syntax)
    except InputError as error:
        if not any_text:
            raise
        fault = Failed(record.path, error.message, error.hint)
    return ImageRecord(
        record.path, record.id, record.width, record.height, caption, data, fault
    )  # three times as fast as `replace`


def _facts(
    paths: Sequence[Path], store: Store, *, with_ids: bool, max_pixels: int, reporter: Reporter
) -> Iterator[tuple[Path, FileFacts | Failed]]:
    """Yield each file with its facts, in order; files that are not in the store are read on all
    cores, and stored a few thousand at a time.
    """
    reporter.start("looking", len(paths))
    read = partial(read_facts, with_ids=with_ids, max_pixels=max_pixels)
    remaining = iter(paths)
    while chunk := list(islice(remaining, _AT_ONCE)):
        facts, unknown = _stored_facts(chunk, store, with_ids=with_ids, max_pixels=max_pixels)
        reporter.advance(len(facts))
        new: list[tuple[Path, os.stat_result, FileFacts]] = []
        results = local.each(read, [path for path, _ in unknown], name="looking")
        for (path, info), result in zip(unknown, results, strict=True):
            facts[path] = result
            if isinstance(result, FileFacts):
                new.append((path, info, result))
            reporter.advance()
        if new:
            store.put_facts(new)
        yield from ((path, facts[path]) for path in chunk)
    reporter.finish()


def _stored_facts(
    paths: Sequence[Path], store: Store, *, with_ids: bool, max_pixels: int
) -> tuple[dict[Path, FileFacts | Failed], list[tuple[Path, os.stat_result]]]:
    """Return the facts of the files that have not changed since they were stored, and the other
    files.
    """
    keys = list(store.keys(paths))
    stored_facts = store.facts_of(keys)
    facts: dict[Path, FileFacts | Failed] = {}
    unknown: list[tuple[Path, os.stat_result]] = []
    for path, key in zip(paths, keys, strict=True):
        try:
            info = path.stat()
        except OSError as error:
            facts[path] = Failed(path, f"cannot be read: {error.strerror or error}")
            continue
        state, stored = stored_facts.get(key, ("", None))
        if (
            stored is None
            or state != state_of(info)
            or (with_ids and not stored.id)
            or stored.width * stored.height > max_pixels
        ):
            unknown.append((path, info))
        else:
            facts[path] = stored
    return facts, unknown


def refuse_shared_caption(path: Path, owner: Path) -> None:
    """Refuse an image whose caption file belongs to another image."""
    name = display(owner.name)
    raise DatasetError(
        f"would share its caption with {name}"
        if owner.stem == path.stem
        else f"on some disks it has the name of {name}, and would share its caption",
        hint="dsk rename makes the names unique",
    )


def read_facts(path: Path, *, with_ids: bool, max_pixels: int) -> FileFacts:
    """Read an image's size from its header and, if wanted, hash its bytes."""
    header = pixels.probe(path, max_pixels=max_pixels)
    return FileFacts(image_id(path) if with_ids else "", header.width, header.height)


def sizes(records: Iterable[ImageRecord]) -> tuple[tuple[int, int], ...]:
    """Return the images' sizes in pixels, width first."""
    # Few differ, and an object for each of a million images takes 60 MB.
    known: dict[tuple[int, int], tuple[int, int]] = {}
    return tuple(known.setdefault((r.width, r.height), (r.width, r.height)) for r in records)
