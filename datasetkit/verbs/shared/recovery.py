"""The one door to a dataset: interrupted commands are completed before it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from datasetkit.dataset import layout
from datasetkit.options.dataset import LayoutOptions
from datasetkit.options.toml import find
from datasetkit.project.session import RunContext, recover_projects
from datasetkit.verbs.shared.concept_folders import work_folder


def recover_dataset(folder: Path, context: RunContext, *, recursive: bool = False) -> None:
    """Complete what was interrupted in the projects of a dataset, before its folders are listed.

    These are the project of the folder, and those of its concept folders and of the concepts of its
    dsk.toml. recursive: also those of all its subfolders. Raises HalfDone in a dry run, Locked,
    UnsignedEntry.
    """
    recover_projects([folder], context, recursive=recursive)
    # Only now: an interrupted command may have moved a folder.
    recover_projects(_concept_folders(folder), context, recursive=recursive)


def recover_datasets(folders: Iterable[Path], context: RunContext) -> None:
    """Do `recover_dataset` for several folders."""
    for folder in folders:
        recover_dataset(folder, context)


def _concept_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that may hold images of a dataset, with and without images in them now."""
    if not folder.is_dir():
        return
    for tree in dict.fromkeys((*layout.dataset_roots(folder), folder)):
        if tree.is_dir():
            yield tree
            yield from (concept.path for concept in layout.read_tree(tree).concepts)
    config = find(folder)
    if config.concepts and config.root == folder.resolve():
        for concept in config.concepts:
            yield from (config.root / concept.folder, work_folder(config, concept))
        out = config.locate(config.build(LayoutOptions, "layout", only_read=True).out, folder)
        yield from (path for path in (out, out / layout.TRAIN, out / layout.REG) if path.is_dir())
