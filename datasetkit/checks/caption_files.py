"""Reading what lies in a folder besides its images: captions under whatever name, stray files,
cached latents.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import decode_caption, parse
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
# What sd-scripts adds to an image's stem: a size and the kind of model (strategy_sd.py), or the
# encoder's outputs.
_LATENTS = re.compile(r"(_\d{4}x\d{4}_\w+|_\w*te_outputs)?\.npz$")


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What one folder holds. captions: by stem; latents: the `.npz` files."""

    captions: Mapping[str, tuple[Path, ...]]
    latents: tuple[Path, ...]


def read_folder(folder: Path) -> FolderContents:
    """List a folder's captions under any of their names, and its cached latents."""
    with reading(folder):
        paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    captions: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in _CAPTIONS and not path.is_dir():
            captions[path.stem].append(path)
    latents = tuple(path for path in paths if path.suffix == ".npz" and path.is_file())
    return FolderContents({stem: tuple(found) for stem, found in captions.items()}, latents)


def captions_of(images: Sequence[Path], beside: FolderContents) -> dict[Path, tuple[Path, ...]]:
    """Return the files that look like each image's captions, `<stem>.txt` first where there is
    one.
    """
    proper = {caption_path(image) for image in images}
    found = {}
    for image in images:
        own = caption_path(image)
        others = [*beside.captions.get(image.stem, ()), *beside.captions.get(image.name, ())]
        mine = [path for path in others if path == own or path not in proper]
        found[image] = tuple(sorted(dict.fromkeys(mine), key=lambda path: path != own))
    return found


def read_written(image: Path, files: Sequence[Path]) -> CaptionFile | None:
    """Read the first of an image's caption files; None where it has none."""
    if not files:
        return None
    path, *others = files
    proper = path == caption_path(image)
    try:
        data = read_regular(path, limit=MAX_CAPTION_BYTES)
        caption = decode_caption(path, data)
    except InputError as error:
        return CaptionFile(path, b"", (), proper, tuple(others), error.message)
    if data is None or caption is None:  # it was taken away meanwhile
        return None
    return CaptionFile(path, data, caption.tags, proper, tuple(others))


def same_tags(one: CaptionFile, other: Path) -> bool:
    """Tell whether another caption file of an image says the same."""
    try:
        data = read_regular(other, limit=MAX_CAPTION_BYTES)
        return data is not None and parse(data.decode("utf-8-sig")).tags == one.tags
    except (InputError, UnicodeDecodeError):
        return False


def strays(
    beside: FolderContents, claimed: Iterable[Path], images: Iterable[Path]
) -> tuple[Path, ...]:
    """Return the caption files that belong to no image. images: all that look like one, readable
    or not.
    """
    taken = {*claimed, *map(caption_path, images)}
    return tuple(path for found in beside.captions.values() for path in found if path not in taken)


def stale_latents(beside: FolderContents, images: Sequence[Path]) -> tuple[tuple[Path, str], ...]:
    """Return the caches that trainers would take although they are of another image."""
    by_stem = {image.stem: image for image in images}
    found = []
    for path in beside.latents:
        image = by_stem.get(_LATENTS.sub("", path.name))
        if image is None:
            found.append((path, "its image is gone"))
        elif path.stat().st_mtime_ns < image.stat().st_mtime_ns:
            found.append((path, "is older than its image"))
    return tuple(found)
