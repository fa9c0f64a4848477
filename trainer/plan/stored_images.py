"""What the store of a project has of the images of a dataset: a plan opens each only once.

A plan of a million images would read all of their bytes and decode them again otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from datasetkit.core.errors import DskError
from datasetkit.core.file_stamp import state_of
from datasetkit.core.files import find_root
from datasetkit.dataset.buckets import Size
from datasetkit.project.locks import lock
from datasetkit.project.store import FileFacts, Store, has_store

# The name of the measurement: the image was decoded without an error, as training decodes it.
DECODED: Final = "training 1"


class StoredImage(NamedTuple):
    """A file that has not changed since it was recorded. id: "" if it was not hashed; is_decoded:
    it was decoded as a whole.
    """

    id: str
    size: Size
    is_decoded: bool


class ReadImageFacts(NamedTuple):
    """An image that was read and decoded now. info: from before it was read."""

    path: Path
    info: os.stat_result
    id: str
    size: Size


def read(folder: Path) -> dict[str, StoredImage]:
    """Return the images of a folder that its project has recorded, by name; none of a store that
    cannot be read.
    """
    root = find_root(folder)
    stored: dict[str, StoredImage] = {}
    sizes: dict[Size, Size] = {}  # few differ, and an object for each image takes memory
    prefix = f"{folder}{os.sep}"
    with suppress(DskError):
        for name, state, image_id, width, height, decoded in Store.stored_files(
            root, folder, DECODED
        ):
            try:
                if state_of(os.stat(prefix + name)) != state:  # noqa: PTH116 - half the time
                    continue
            except OSError:
                continue
            size = (width, height)
            stored[name] = StoredImage(image_id, sizes.setdefault(size, size), bool(decoded))
    return stored


def write(images: Sequence[ReadImageFacts]) -> None:
    """Record images in the stores of their projects. One that has no store, cannot be written, or
    is in use by another command gets none: the next run reads these images again.
    """
    by_root: dict[Path, list[ReadImageFacts]] = {}
    roots: dict[Path, Path] = {}
    for image in images:
        folder = image.path.parent
        if folder not in roots:
            roots[folder] = find_root(folder)
        by_root.setdefault(roots[folder], []).append(image)
    for root, inside in by_root.items():
        if not has_store(root):
            continue
        with suppress(DskError), lock(root), Store.open(root) as store:
            store.put_facts([(i.path, i.info, FileFacts(i.id, *i.size)) for i in inside])
            store.put_measurements(DECODED, ((image.id, b"") for image in inside))
