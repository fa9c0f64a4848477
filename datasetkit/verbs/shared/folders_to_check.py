"""Places: the folders that a check looks at, those that trainers misread or never reach
among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.checks.base import CheckFolder, UnreachedFiles
from datasetkit.core.errors import DskError
from datasetkit.core.files import MASKS, list_images
from datasetkit.dataset import layout
from datasetkit.dataset.layout import REG, TRAIN
from datasetkit.images.scan import no_images, require_folder
from datasetkit.options.run import ConceptOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    concept_name,
    concept_of,
    find_sets,
)


@dataclass(frozen=True, slots=True)
class FoldersToCheck:
    """The places of a dataset, and what of it is none. recursive: the images of its places lie
    in subfolders too.
    """

    places: tuple[CheckFolder, ...]
    misread: tuple[tuple[Path, layout.Misread], ...] = ()
    empty: tuple[Path, ...] = ()
    astray: tuple[UnreachedFiles, ...] = ()


def find_places(
    folder: Path, *, trigger: tuple[str, ...] = (), recursive: bool = False
) -> FoldersToCheck:
    """Find the folders of a dataset as `find_sets` does, and those that were meant to be some.

    trigger: of all of them; else dsk.toml tells it. Raises DatasetError where there is nothing to
    look at.
    """
    require_folder(folder)
    config = find(folder)
    tree, reg = layout.dataset_roots(folder)
    read = layout.read_tree(tree)
    if read.concepts or _meant(tree, read):
        found = _laid_out(tree, read, config, trigger)
        if reg.is_dir():
            others = _laid_out(reg, layout.read_tree(reg), Config(), (), is_reg=True)
            found = FoldersToCheck(
                found.places + others.places, found.misread + others.misread,
                found.empty + others.empty, found.astray + others.astray,
            )  # fmt: skip
        if not found.places and not found.misread:
            raise no_images(folder)
        return found
    places = tuple(
        _of_set(one, config, trigger) for one in find_sets(folder, recursive=recursive).train
    )
    return FoldersToCheck(
        places, astray=() if recursive else tuple(a for p in places for a in _below(p.folder))
    )


def _meant(tree: Path, read: layout.ConceptFolders) -> bool:
    """Tell whether folders were meant to be concepts although none is: images in numbered
    folders, none beside.
    """
    if tree.name != TRAIN and list_images(tree).images:
        return False
    held = [m for m in read.misread if _holds(tree / m.folder)]
    return any(tree.name == TRAIN or m.folder[:1].isdecimal() for m in held)


def _laid_out(
    tree: Path,
    read: layout.ConceptFolders,
    config: Config,
    trigger: tuple[str, ...],
    *,
    is_reg: bool = False,
) -> FoldersToCheck:
    named = {concept_name(concept): concept for concept in config.concepts}
    places: list[CheckFolder] = []
    empty: list[Path] = []
    misread = [
        m
        for m in read.misread
        if m.folder not in (REG, MASKS) and (m.trainers or _holds(tree / m.folder))
    ]
    taken = [(f.path, f.concept) for f in read.concepts] + [
        (tree / m.folder, m.trainers) for m in misread if m.trainers
    ]
    for path, concept in taken:
        if path.is_symlink():
            continue
        if not list_images(path).images:
            empty.append(path)
            continue
        own = trigger or _trigger(config, named.get(concept.name))
        places.append(
            CheckFolder(
                concept.name, path, concept.repeats, () if is_reg else own, False, is_reg, True
            )
        )
    loose = len(list_images(tree).images)
    beside = (
        (UnreachedFiles(tree, "beside the concept folders: trainers look one level deeper", loose),)
        if loose
        else ()
    )
    below = tuple(astray for path, _ in taken if not path.is_symlink() for astray in _below(path))
    return FoldersToCheck(
        tuple(places), tuple((tree, m) for m in misread), tuple(empty), (*beside, *below)
    )


def _of_set(one: ConceptSet, config: Config, trigger: tuple[str, ...]) -> CheckFolder:
    own = trigger or one.trigger
    if not own and config.root is not None:
        own = _trigger(config, concept_of(config, one.folder))
    return CheckFolder(one.name, one.folder, one.repeats or 1, own)


def _trigger(config: Config, concept: ConceptOptions | None) -> tuple[str, ...]:
    """Return the trigger that dsk.toml gives a concept: its own, else that of [tag]."""
    governing = config.for_concept(concept) if concept is not None else config
    return governing.build(TagOptions, "tag").trigger


def _below(folder: Path) -> list[UnreachedFiles]:
    """Return the subfolders with images, which trainers do not look into."""
    found = []
    for path in sorted(folder.iterdir()):
        if (
            path.is_dir()
            and not path.is_symlink()
            and path.name != MASKS
            and not path.name.startswith(".")
        ):
            number = len(list_images(path, recursive=True).images)
            if number:
                found.append(
                    UnreachedFiles(path, "in a subfolder: trainers look one level deep", number)
                )
    return found


def _holds(folder: Path) -> bool:
    try:
        return bool(list_images(folder, recursive=True).images)
    except DskError:  # it may not be looked into
        return False
