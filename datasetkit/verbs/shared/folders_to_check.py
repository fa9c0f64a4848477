"""The folders that a check examines, with those that trainers misread or do not find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.checks.base import CheckFolder
from datasetkit.core.files import MASKS
from datasetkit.dataset import layout, unreached
from datasetkit.dataset.layout import REG, TRAIN
from datasetkit.dataset.unreached import UnreachedFiles
from datasetkit.images.listing import list_images
from datasetkit.images.scan import no_images, require_folder
from datasetkit.options.toml import Config, find
from datasetkit.verbs.shared.concept_folders import (
    ConceptSet,
    concept_name,
    concept_of,
    declared_exclude,
    declared_trigger,
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
    folder: Path,
    *,
    trigger: tuple[str, ...] = (),
    recursive: bool = False,
    to_write: bool = False,
) -> FoldersToCheck:
    """Find the image folders of a dataset like `find_sets`, and folders that were meant to be some.

    trigger: of all folders; by default from dsk.toml. to_write: see find_sets. Raises DatasetError
    if there is nothing to check.
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
        beside = unreached.beside_roots(folder, (tree, reg))
        to_check = replace(to_check, astray=(*to_check.astray, *beside))
        if not to_check.folders and not to_check.misread:
            raise no_images(folder, has_datasets=True)
        return to_check
    sets = find_sets(folder, recursive=recursive, to_write=to_write)
    for concept in sets.train:
        require_folder(concept.folder)
    folders = tuple(_of_concept(concept, config, trigger) for concept in sets.train)
    return FoldersToCheck(
        folders,
        astray=()
        if recursive
        else tuple(a for f in folders for a in unreached.below_concept(f.folder)),
    )


def _meant_as_concepts(tree: Path, folders: layout.ConceptFolders) -> bool:
    """Tell whether folders were meant as concepts though none is valid: numbered folders have
    images, the parent has none.
    """
    is_train = tree.name.casefold() == TRAIN
    if not is_train and list_images(tree).images:
        return False
    with_images = [m for m in folders.misread if unreached.count(tree / m.folder)]
    return any(is_train or m.folder[:1].isdecimal() for m in with_images)


def _laid_out(
    tree: Path,
    concept_folders: layout.ConceptFolders,
    config: Config,
    trigger: tuple[str, ...],
    *,
    is_reg: bool = False,
) -> FoldersToCheck:
    """Return the folders below a training or regularisation root."""
    misread = [m for m in concept_folders.misread if _is_a_problem(m, tree)]
    trained = _trained_folders(tree, concept_folders, misread)
    triggers: dict[str, tuple[str, ...]] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    if not is_reg:
        by_name = {concept_name(concept): concept for concept in config.concepts}
        excluded = {c.name: declared_exclude(config, by_name.get(c.name)) for c in trained.values()}
        triggers = {
            c.name: trigger or declared_trigger(config, by_name.get(c.name))
            for c in trained.values()
        }
    folders: list[CheckFolder] = []
    empty: list[Path] = []
    astray = unreached.beside_concepts(tree)
    for path, concept in trained.items():
        astray += unreached.below_concept(path)
        if not list_images(path).images:
            empty.append(path)
            continue
        folders.append(
            CheckFolder(
                concept.name, path, concept.repeats, triggers.get(concept.name, ()),
                excluded=excluded.get(concept.name, ()), is_reg=is_reg, laid_out=True,
            )
        )  # fmt: skip
    return FoldersToCheck(
        tuple(folders), tuple((tree, m) for m in misread), tuple(empty), tuple(astray)
    )


def _is_a_problem(misread: layout.Misread, tree: Path) -> bool:
    """Tell whether a folder that is not a concept matters: trainers read it, or it has images."""
    if misread.folder.casefold() in (REG, MASKS):
        return False
    return misread.trainers is not None or unreached.count(tree / misread.folder) > 0


def _trained_folders(
    tree: Path, concept_folders: layout.ConceptFolders, misread: Sequence[layout.Misread]
) -> dict[Path, layout.Concept]:
    """Return the folders that trainers read, with the concept that they read, without links."""
    folders = {f.path: f.concept for f in concept_folders.concepts}
    folders |= {tree / m.folder: m.trainers for m in misread if m.trainers is not None}
    return {path: concept for path, concept in folders.items() if not path.is_symlink()}


def _of_concept(concept: ConceptSet, config: Config, trigger: tuple[str, ...]) -> CheckFolder:
    triggers = trigger or concept.trigger
    excluded: tuple[str, ...] = ()
    if config.root is not None:
        declared = concept_of(config, concept.folder)
        triggers = triggers or declared_trigger(config, declared)
        excluded = declared_exclude(config, declared)
    return CheckFolder(
        concept.name, concept.folder, concept.repeats or 1, triggers, excluded=excluded
    )
