"""The folders that a check examines, with those that trainers misread or do not find."""

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
    """The image folders of a dataset.

    misread: folders that are not concepts, with their parent. empty: concept folders without
    images. astray: images that trainers do not find.
    """

    folders: tuple[CheckFolder, ...]
    misread: tuple[tuple[Path, layout.Misread], ...] = ()
    empty: tuple[Path, ...] = ()
    astray: tuple[UnreachedFiles, ...] = ()


def find_folders(
    folder: Path, *, trigger: tuple[str, ...] = (), recursive: bool = False
) -> FoldersToCheck:
    """Find the image folders of a dataset like `find_sets`, and folders that were meant to be some.

    trigger: of all folders; by default from dsk.toml. Raises DatasetError if there is nothing to
    check.
    """
    require_folder(folder)
    config = find(folder)
    tree, reg = layout.dataset_roots(folder)
    concept_folders = layout.read_tree(tree)
    if concept_folders.concepts or _meant_as_concepts(tree, concept_folders):
        to_check = _laid_out(tree, concept_folders, config, trigger)
        if reg.is_dir():
            reg_folders = _laid_out(reg, layout.read_tree(reg), Config(), (), is_reg=True)
            to_check = FoldersToCheck(
                to_check.folders + reg_folders.folders, to_check.misread + reg_folders.misread,
                to_check.empty + reg_folders.empty, to_check.astray + reg_folders.astray,
            )  # fmt: skip
        if not to_check.folders and not to_check.misread:
            raise no_images(folder)
        return to_check
    folders = tuple(
        _of_concept(concept, config, trigger)
        for concept in find_sets(folder, recursive=recursive).train
    )
    return FoldersToCheck(
        folders, astray=() if recursive else tuple(a for f in folders for a in _below(f.folder))
    )


def _meant_as_concepts(tree: Path, folders: layout.ConceptFolders) -> bool:
    """Tell whether folders were meant as concepts though none is valid: numbered folders have
    images, the parent has none.
    """
    if tree.name != TRAIN and list_images(tree).images:
        return False
    with_images = [m for m in folders.misread if _has_images(tree / m.folder)]
    return any(tree.name == TRAIN or m.folder[:1].isdecimal() for m in with_images)


def _laid_out(
    tree: Path,
    concept_folders: layout.ConceptFolders,
    config: Config,
    trigger: tuple[str, ...],
    *,
    is_reg: bool = False,
) -> FoldersToCheck:
    by_name = {concept_name(concept): concept for concept in config.concepts}
    folders: list[CheckFolder] = []
    empty: list[Path] = []
    misread = [
        m
        for m in concept_folders.misread
        if m.folder not in (REG, MASKS) and (m.trainers or _has_images(tree / m.folder))
    ]
    trained = [(f.path, f.concept) for f in concept_folders.concepts] + [
        (tree / m.folder, m.trainers) for m in misread if m.trainers
    ]
    for path, concept in trained:
        if path.is_symlink():
            continue
        if not list_images(path).images:
            empty.append(path)
            continue
        triggers = () if is_reg else trigger or _trigger(config, by_name.get(concept.name))
        folders.append(
            CheckFolder(concept.name, path, concept.repeats, triggers, is_reg=is_reg, laid_out=True)
        )
    loose = len(list_images(tree).images)
    beside = (
        (UnreachedFiles(tree, "beside the concept folders: trainers search only these", loose),)
        if loose
        else ()
    )
    below = tuple(astray for path, _ in trained if not path.is_symlink() for astray in _below(path))
    return FoldersToCheck(
        tuple(folders), tuple((tree, m) for m in misread), tuple(empty), (*beside, *below)
    )


def _of_concept(concept: ConceptSet, config: Config, trigger: tuple[str, ...]) -> CheckFolder:
    triggers = trigger or concept.trigger
    if not triggers and config.root is not None:
        triggers = _trigger(config, concept_of(config, concept.folder))
    return CheckFolder(concept.name, concept.folder, concept.repeats or 1, triggers)


def _trigger(config: Config, concept: ConceptOptions | None) -> tuple[str, ...]:
    """Return the trigger that dsk.toml gives a concept: its own, else that of [tag]."""
    governing = config.for_concept(concept) if concept is not None else config
    return governing.build(TagOptions, "tag").trigger


def _below(folder: Path) -> list[UnreachedFiles]:
    """Return the subfolders with images, which trainers do not search."""
    unreached = []
    for path in sorted(folder.iterdir()):
        if (
            path.is_dir()
            and not path.is_symlink()
            and path.name != MASKS
            and not path.name.startswith(".")
        ):
            number = len(list_images(path, recursive=True).images)
            if number:
                unreached.append(
                    UnreachedFiles(path, "in a subfolder: trainers do not search it", number)
                )
    return unreached


def _has_images(folder: Path) -> bool:
    try:
        return bool(list_images(folder, recursive=True).images)
    except DskError:  # no permission
        return False
