"""Read the files beside images: captions under any name, stray captions, cached latents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import decode_caption
from datasetkit.captions.encodings import decode_other
from datasetkit.checks.base import CaptionFile
from datasetkit.core.errors import InputError
from datasetkit.core.files import MAX_CAPTION_BYTES, caption_path, read_regular
from datasetkit.core.records import CaptionSyntax
from datasetkit.images.listing import Listing

# What sd-scripts appends to the stem of an image: a size and the kind of model (strategy_sd.py), or
# the outputs of the encoder.
_LATENTS = re.compile(r"(_\d{4}x\d{4}_\w+|_\w*te_outputs)?\.npz$")


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The files of one folder that may be captions, and its `.npz` files."""

    captions: tuple[Path, ...]
    latents: tuple[Path, ...]


def read_folder(listing: Listing) -> FolderContents:
    """Return the caption files of a folder, under any name, and its cached latents."""
    latents = tuple(p for p in sorted(listing.other) if p.suffix == ".npz" and p.is_file())
    return FolderContents(tuple(sorted(listing.captions)), latents)


def read_caption_file(
    image: Path, files: Sequence[Path], syntax: CaptionSyntax, encoding: str = ""
) -> CaptionFile | None:
    """Read the first of the caption files of an image; None if there is none. encoding: of files
    that are not UTF-8.
    """
    if not files:
        return None
    path, *others = files
    proper = path == caption_path(image)
    data: bytes | None = None
    try:
        data = read_regular(path, limit=MAX_CAPTION_BYTES)
        caption = decode_caption(path, data, syntax)
    except InputError as error:
        converted = decode_other(data or b"", encoding) or ""
        return CaptionFile(path, data or b"", (), proper, tuple(others), error.message, converted)
    if data is None or caption is None:  # removed meanwhile
        return None
    return CaptionFile(
        path, data, caption.tags, proper, tuple(others),
        syntax=caption.syntax, sentences=caption.sentences,
    )  # fmt: skip


def files_of_same_tags(caption: CaptionFile) -> dict[Path, bytes]:
    """Return the other caption files of an image that have the same tags, with their content."""
    same: dict[Path, bytes] = {}
    for path in caption.others:
        try:
            data = read_regular(path, limit=MAX_CAPTION_BYTES)
            other = decode_caption(path, data, caption.syntax)
        except InputError:
            continue
        if data is not None and other == caption.caption:
            same[path] = data
    return same


def strays(
    beside: FolderContents, claimed: Iterable[Path], owners: Iterable[Path]
) -> tuple[Path, ...]:
    """Return the caption files without an owner.

    owners: all files that may have a caption: images, readable or not, and those that are left out.
    """
    claimed, names = set(claimed), {name for p in owners for name in (p.stem, p.name)}
    return tuple(p for p in beside.captions if p not in claimed and p.stem not in names)


def stale_latents(beside: FolderContents, images: Sequence[Path]) -> tuple[tuple[Path, str], ...]:
    """Return the caches that do not fit their image, with the reason; trainers would use them."""
    by_stem = {image.stem: image for image in images}
    stale = []
    for path in beside.latents:
        image = by_stem.get(_LATENTS.sub("", path.name))
        if image is None:
            stale.append((path, "its image is gone"))
        elif path.stat().st_mtime_ns < image.stat().st_mtime_ns:
            stale.append((path, "is older than its image"))
    return tuple(stale)
