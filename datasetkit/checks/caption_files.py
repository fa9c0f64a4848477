"""Read the files beside images: captions under any name, stray captions, cached latents."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import decode_caption
from datasetkit.checks.base import CaptionFile
from datasetkit.core.errors import InputError
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    MAX_CAPTION_BYTES,
    caption_path,
    read_regular,
    reading,
)

_CAPTIONS = frozenset({CAPTION_SUFFIX, ".caption"})
# What sd-scripts appends to the stem of an image: a size and the kind of model (strategy_sd.py), or
# the outputs of the encoder.
_LATENTS = re.compile(r"(_\d{4}x\d{4}_\w+|_\w*te_outputs)?\.npz$")


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The caption files (by stem) and the `.npz` files of one folder."""

    captions: Mapping[str, tuple[Path, ...]]
    latents: tuple[Path, ...]


def read_folder(folder: Path) -> FolderContents:
    """List the caption files of a folder, under any name, and its cached latents."""
    with reading(folder):
        paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    captions: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in _CAPTIONS and not path.is_dir():
            captions[path.stem].append(path)
    latents = tuple(path for path in paths if path.suffix == ".npz" and path.is_file())
    return FolderContents({stem: tuple(found) for stem, found in captions.items()}, latents)


def captions_of(images: Sequence[Path], beside: FolderContents) -> dict[Path, tuple[Path, ...]]:
    """Return the files that look like captions of each image, `<stem>.txt` first."""
    proper_paths = {caption_path(image) for image in images}
    captions = {}
    for image in images:
        proper = caption_path(image)
        named = [*beside.captions.get(image.stem, ()), *beside.captions.get(image.name, ())]
        # `a.txt` beside a.jpg and a.jpg.txt: never claim the proper caption of another image.
        free = [path for path in named if path == proper or path not in proper_paths]
        captions[image] = tuple(sorted(dict.fromkeys(free), key=lambda path: path != proper))
    return captions


def read_caption_file(image: Path, files: Sequence[Path]) -> CaptionFile | None:
    """Read the first of the caption files of an image; None if there is none."""
    if not files:
        return None
    path, *others = files
    proper = path == caption_path(image)
    try:
        data = read_regular(path, limit=MAX_CAPTION_BYTES)
        caption = decode_caption(path, data)
    except InputError as error:
        return CaptionFile(path, b"", (), proper, tuple(others), error.message)
    if data is None or caption is None:  # removed meanwhile
        return None
    return CaptionFile(path, data, caption.tags, proper, tuple(others))


def files_of_same_tags(caption: CaptionFile) -> dict[Path, bytes]:
    """Return the other caption files of an image that have the same tags, with their content."""
    same: dict[Path, bytes] = {}
    for path in caption.others:
        try:
            data = read_regular(path, limit=MAX_CAPTION_BYTES)
            other = decode_caption(path, data)
        except InputError:
            continue
        if data is not None and other is not None and other.tags == caption.tags:
            same[path] = data
    return same


def strays(
    beside: FolderContents, claimed: Iterable[Path], images: Iterable[Path]
) -> tuple[Path, ...]:
    """Return the caption files without an image. images: all image files, readable or not."""
    claimed = {*claimed, *map(caption_path, images)}
    return tuple(
        path for paths in beside.captions.values() for path in paths if path not in claimed
    )


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
