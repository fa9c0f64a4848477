"""The folders of a dataset: laid-out concept folders, the concepts of dsk.toml, or one folder of
images.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display, find_root
from datasetkit.core.records import LeftOut
from datasetkit.dataset import layout
from datasetkit.images.listing import list_images
from datasetkit.images.scan import no_images, require_folder
from datasetkit.options.run import ConceptOptions, RunOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.toml import Config, find
from datasetkit.project import caption_syntax


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """The image folder of one concept. repeats: of a laid-out folder or from dsk.toml, None to be
    planned. trigger: that dsk.toml declares; `dataset.trigger` knows the others.
    """

    name: str
    folder: Path
    repeats: int | None = None
    trigger: tuple[str, ...] = ()
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class ConceptSets:
    """A dataset: its concepts, its regularisation sets, and how it was found.

    misread: folders that trainers ignore or misread. unused_files: the files of concept folders
    without an image that can be read.
    """

    train: tuple[ConceptSet, ...]
    reg: tuple[ConceptSet, ...] = ()
    origin: Literal["laid out", "dsk.toml", "folder"] = "folder"
    misread: tuple[layout.Misread, ...] = ()
    unused_files: tuple[LeftOut, ...] = ()


def history_folder(folder: Path, out: Path) -> Path:
    """Return the folder whose history records files written to `out`: `folder` if its project has
    them.
    """
    return folder if out.resolve().is_relative_to(find_root(folder)) else out


def find_sets(folder: Path, *, recursive: bool = False, to_write: bool = False) -> ConceptSets:
    """Find the dataset in a folder. to_write: its captions will be changed.

    In this order: its `train/` (and `reg/`); its folders `<repeats>_<name>`; the concepts of its
    dsk.toml; its images. Raises DatasetError if there is none of these, ConfigError if concepts
    will be changed that lie outside of the folder of a dsk.toml that was only found.
    """
    require_folder(folder)
    config = find(folder)
    tree, reg = layout.dataset_roots(folder)
    laid_out = layout.read_tree(tree)
    if laid_out.concepts:
        reg_tree = layout.read_tree(reg) if reg.is_dir() else layout.ConceptFolders((), ())
        train_sets, left_out = _of_tree(laid_out, config)
        reg_sets, more = _of_tree(reg_tree, None)
        return ConceptSets(
            train_sets, reg_sets, "laid out", (*laid_out.misread, *reg_tree.misread),
            (*left_out, *more),
        )  # fmt: skip
    if config.concepts and config.root == folder.resolve():
        sets = tuple(of_config(config, c) for c in config.concepts)
        for concept in sets if to_write else ():
            config.require_inside(
                concept.folder, f"[[concept]] {concept.name}", "name the folder of images:"
            )
        return ConceptSets(sets, origin="dsk.toml")
    listing = list_images(folder, recursive=recursive)
    if listing.images:
        return ConceptSets((_alone(config, folder, recursive=recursive),))
    raise no_images(
        folder.resolve(),
        listing.left_out,
        but=", no <repeats>_<concept> folders and no dsk.toml with concepts",
        has_datasets=True,
    )


def _alone(config: Config, folder: Path, *, recursive: bool) -> ConceptSet:
    """Return a folder of images as one concept: that of dsk.toml with this folder, else one with
    the folder's name.
    """
    concepts = _concepts_at(config, folder)
    if len(concepts) != 1:
        trigger = declared_trigger(config)
        return ConceptSet(folder.resolve().name, folder, None, trigger, recursive)
    concept = concepts[0]
    trigger = declared_trigger(config, concept)
    return ConceptSet(concept_name(concept), folder, concept.repeats, trigger, recursive)


def _of_tree(
    tree: layout.ConceptFolders, config: Config | None
) -> tuple[tuple[ConceptSet, ...], list[LeftOut]]:
    """Return the folders of a tree with images, and what is left out in the others. config: None
    for a regularisation set, which has no trigger.
    """
    by_name = {concept_name(c): c for c in config.concepts} if config is not None else {}
    sets: list[ConceptSet] = []
    left_out: list[LeftOut] = []
    for folder in tree.concepts:
        listing = list_images(folder.path)
        if not listing.images:
            left_out += listing.left_out
            continue
        name = folder.concept.name
        trigger = () if config is None else declared_trigger(config, by_name.get(name))
        sets.append(ConceptSet(name, folder.path, folder.concept.repeats, trigger))
    return tuple(sets), left_out


def declared_trigger(config: Config, concept: ConceptOptions | None = None) -> tuple[str, ...]:
    """Return the trigger that dsk.toml gives a concept: its own, else that of [tag]."""
    governing = config.for_concept(concept) if concept is not None else config
    return governing.build(TagOptions, "tag", only_read=True).trigger


def declared_exclude(config: Config, concept: ConceptOptions | None = None) -> tuple[str, ...]:
    """Return what dsk.toml excludes from the captions of a concept."""
    governing = config.for_concept(concept) if concept is not None else config
    return governing.build(TagOptions, "tag", only_read=True).exclude


def declared_at(folder: Path) -> tuple[str, ...]:
    """Return the trigger that dsk.toml gives the images of a folder, raw, finished or laid out; ()
    if several concepts share it.
    """
    config = find(folder)
    concepts = _concepts_at(config, folder)
    name = layout.parse(folder.resolve().name)
    if not concepts and isinstance(name, layout.Concept):
        concepts = [c for c in config.concepts if concept_name(c) == name.name]
    if len(concepts) > 1:
        return ()
    return declared_trigger(config, concepts[0] if concepts else None)


def declared_additional(config: Config, name: str) -> tuple[str, ...]:
    """Return the additional tags that dsk.toml gives the concept of a name."""
    concept = next((c for c in config.concepts if concept_name(c) == name), None)
    governing = config.for_concept(concept) if concept is not None else config
    return governing.build(TagOptions, "tag", only_read=True).additional


def concept_name(concept: ConceptOptions) -> str:
    """Return the name of a concept: of dsk.toml, else its first trigger, else its folder's name."""
    return caption_syntax.concept_name(concept.name, concept.trigger, concept.folder)


def of_config(config: Config, concept: ConceptOptions) -> ConceptSet:
    """Return a concept of dsk.toml with the folder of its finished images (before a run, the raw
    ones).
    """
    root = config.root or Path()
    work = work_folder(config, concept)
    folder = work if work.is_dir() else root / concept.folder
    trigger = declared_trigger(config, concept)
    return ConceptSet(concept_name(concept), folder, concept.repeats, trigger)


def concept_of(config: Config, folder: Path) -> ConceptOptions | None:
    """Return the concept of dsk.toml with this work folder, or else with this folder of raw images.

    Raises ConfigError for a folder of raw images that several concepts share: its captions cannot
    follow the rules of all.
    """
    shared = _concepts_at(config, folder)
    if len(shared) > 1:
        names = ", ".join(display(concept_name(concept)) for concept in shared)
        raise ConfigError(
            f"{display(folder)} is the folder of several concepts: {names}",
            hint="name the work folder of one of them, e.g. "
            f"{display(work_folder(config, shared[0]))}",
        )
    return shared[0] if shared else None


def _concepts_at(config: Config, folder: Path) -> list[ConceptOptions]:
    """Return the concept with this work folder, else those with this folder of raw images."""
    root, here = config.root or Path(), folder.resolve()
    for concept in config.concepts:
        if work_folder(config, concept).resolve() == here:
            return [concept]
    return [concept for concept in config.concepts if (root / concept.folder).resolve() == here]


def tag_options(
    folder: Path, given: Mapping[str, object], *, only_read: bool = False
) -> TagOptions:
    """Build the options of `dsk tag`: in the folder of a concept, [tag] with its [[concept]] table,
    as in a run. only_read: see Config.build.
    """
    config = find(folder)
    concept = concept_of(config, folder)
    if concept is not None:
        config = config.for_concept(concept)
    return config.build(TagOptions, "tag", given, only_read=only_read)


def refuse_concepts_below(folder: Path) -> None:
    """Raise ConfigError if subfolders are concepts of dsk.toml: their triggers would be missing."""
    config = find(folder)
    below = [work_folder(config, concept) for concept in config.concepts if concept.trigger]
    below = [work for work in below if work.is_dir() and folder.resolve() in work.resolve().parents]
    if below:
        raise ConfigError(
            f"{display(folder)} has folders of concepts, each with its own trigger",
            hint=f"run dsk tag {shlex.quote(display(below[0]))} for each, or dsk run for all; "
            "--trigger gives all the same one",
        )


# The steps of a run that make images from images: each reads the output of the previous one.
IMAGE_STEPS = ("faces", "resize", "cutout")


@dataclass(frozen=True, slots=True)
class StepFolders:
    """The input and output folder of a step, for one concept."""

    source: Path
    out: Path


def step_folders(
    steps: Sequence[str], work: Path, source: Path, name: str
) -> dict[str, StepFolders]:
    """Return the folders of each image step: the last one writes to `work/<name>`, others to hidden
    folders.

    work, source: the folders of finished and of raw images. name: of the concept.
    """
    image_steps = [step for step in IMAGE_STEPS if step in steps]
    folders: dict[str, StepFolders] = {}
    for step in image_steps:
        out = work / name if step == image_steps[-1] else work / f".{step}" / name
        folders[step] = StepFolders(source, out)
        source = out
    return folders


def work_folder(config: Config, concept: ConceptOptions) -> Path:
    """Return the folder in which `dsk run` has the images and captions of a concept: a work folder
    if it makes images, else the folder of the concept.
    """
    run = config.build(RunOptions, "run", only_read=True)
    root = config.root or Path()
    return (
        root / run.work / concept_name(concept)
        if set(IMAGE_STEPS) & set(run.steps)
        else root / concept.folder
    )
