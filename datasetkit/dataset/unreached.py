"""Images in reach of a dataset that belong to no concept, so that no trainer finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import DskError
from datasetkit.core.files import MASKS, display
from datasetkit.core.words import counted
from datasetkit.dataset import layout
from datasetkit.dataset.layout import REG
from datasetkit.images.listing import list_images, subfolders


@dataclass(frozen=True, slots=True)
class UnreachedFiles:
    """Images in or below a folder that trainers do not find."""

    folder: Path
    reason: str
    count: int

    @property
    def text(self) -> str:
        """Return the fact as one line."""
        return f"{display(self.folder)}: {counted(self.count, 'image')} {self.reason}"


def beside_concepts(root: Path) -> list[UnreachedFiles]:
    """Return the images directly in a training or regularisation root."""
    reason = "beside the concept folders: trainers search only these"
    return _if_any(root, reason, list_images(root).image_files)


def below_concept(folder: Path) -> list[UnreachedFiles]:
    """Return the subfolders of a concept folder with images."""
    reason = "in a subfolder: trainers do not search it"
    return [found for path in subfolders(folder) for found in _if_any(path, reason, count(path))]


def beside_roots(folder: Path, roots: Sequence[Path]) -> list[UnreachedFiles]:
    """Return the images of a dataset's folder beside its training and regularisation roots:
    directly in it, in concept folders, and in folders that were meant as `reg/`.
    """
    root = roots[0]
    if root == folder:
        return []
    reason = f"beside {display(root.name)}/: trainers search only its folders and reg/"
    unreached = _if_any(folder, reason, list_images(folder).image_files)
    for path in subfolders(folder):
        named = isinstance(layout.parse(path.name), layout.Concept)
        if path not in roots and (named or path.name.casefold().startswith(REG)):
            unreached += _if_any(path, reason, count(path))
    return unreached


def count(folder: Path) -> int:
    """Return the number of images in and below a folder, 0 if it cannot be read; masks do not
    count.
    """
    if folder.name == MASKS:
        return 0
    try:
        return list_images(folder, recursive=True).image_files
    except DskError:  # no permission
        return 0


def _if_any(folder: Path, reason: str, number: int) -> list[UnreachedFiles]:
    return [UnreachedFiles(folder, reason, number)] if number else []
