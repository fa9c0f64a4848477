"""Layout: the folder grammar `<repeats>_<concept>`, and the plan that brings a dataset into such
folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

from datasetkit.core.errors import ConfigError, DatasetError, InputError, PlanConflict
from datasetkit.core.files import CAPTION_SUFFIX, MASKS, display, reading
from datasetkit.dataset.naming import fold, name_fault
from datasetkit.project.plans import Copy, FileOp, Link, Move, Plan, WriteBytes, WriteText

# The folders of a laid-out dataset: training images and regularisation images.
TRAIN, REG = "train", "reg"

_GRAMMAR = re.compile(r"([1-9][0-9]*)_(.+)", re.DOTALL)
# `1_000_x` was meant as 1000_x and `2_10_x` was numbered twice; trainers read 1 and 2.
_SECOND_NUMBER = re.compile(r"[0-9]+(_|$)")


@dataclass(frozen=True, slots=True)
class Concept:
    """What a folder's name says: how often its images are seen in an epoch, and what they
    show.
    """

    repeats: int
    name: str


@dataclass(frozen=True, slots=True)
class Misread:
    """A folder that is not `<repeats>_<concept>`. trainers: what other trainers take it for, None:
    they ignore it.
    """

    folder: str
    reason: str
    trainers: Concept | None = None

    @property
    def text(self) -> str:
        """Return the finding as one line for people."""
        reading = "trainers ignore it"
        if self.trainers is not None:
            reading = f"trainers read {self.trainers.repeats} x `{display(self.trainers.name)}`"
        return f"{display(self.folder)}: {self.reason}; {reading}"


@dataclass(frozen=True, slots=True)
class Tree:
    """The names below a training root, sorted: concepts, and what is none."""

    concepts: tuple[Concept, ...]
    ignored: tuple[Misread, ...]


@dataclass(frozen=True, slots=True)
class ConceptFolder:
    """A concept where it lies."""

    path: Path
    concept: Concept


@dataclass(frozen=True, slots=True)
class ConceptFolders:
    """The folders of a training root (or, read apart, of a regularisation root), sorted by name."""

    concepts: tuple[ConceptFolder, ...]
    misread: tuple[Misread, ...]


def dataset_roots(folder: Path) -> tuple[Path, Path]:
    """Return the training root of a dataset's folder (its `train/`, else the folder itself) and
    its regularisation root, which need not exist.
    """
    train = folder / TRAIN if (folder / TRAIN).is_dir() else folder
    return train, (train.parent if train.name == TRAIN else folder) / REG


def trainers_reading(folder: str) -> Concept | None:
    """Return what sd-scripts makes of a folder's name: `int` of what stands before the first `_`,
    then the rest.
    """
    first, _, rest = folder.partition("_")
    try:
        repeats = int(first)  # accepts spaces, signs and the digits of any script
    except ValueError:
        return None
    return Concept(repeats, rest) if repeats >= 1 else None


def parse(folder: str) -> Concept | Misread:
    """Read a folder's name by the one grammar: a number without leading zeros, `_`, the concept."""
    taken_for = trainers_reading(folder)
    match = _GRAMMAR.fullmatch(folder)
    if match is None or taken_for is None:
        return Misread(folder, _misspelt(folder, taken_for), taken_for)
    concept = Concept(int(match[1]), match[2])
    fault = _fault(concept)
    return concept if fault is None else Misread(folder, fault, taken_for)


def folder_name(concept: Concept) -> str:
    """Return the folder's name of a concept; `parse` reads it back. Raises ConfigError for one that
    it would not.
    """
    fault = "the repeats are less than 1" if concept.repeats < 1 else _fault(concept)
    if fault is not None:
        raise ConfigError(
            f"no folder can be named after {concept.repeats} x `{display(concept.name)}`: {fault}",
            hint="choose a plain name for the concept, such as `sks girl`",
        )
    return f"{concept.repeats}_{concept.name}"


def _fault(concept: Concept) -> str | None:
    fault = name_fault(concept.name)
    if fault is None and _SECOND_NUMBER.match(concept.name):
        return "the concept begins with a second number"
    if fault is None:
        fault = name_fault(f"{concept.repeats}_{concept.name}")
    return f"the concept {fault}" if fault is not None else None


def _misspelt(folder: str, taken_for: Concept | None) -> str:
    first, underscore, rest = folder.partition("_")
    if taken_for is None:
        if re.fullmatch(r"\s*[+-]?\d+\s*", first):
            return "the repeats are less than 1"
        if re.match(r"[0-9]+[-. ]", folder):
            return "the number is not followed by an underscore"
        return "no number of repeats stands before the first underscore"
    if not underscore or not rest:
        return "no concept follows the number"
    return "the number is not written as plain digits without a leading zero"


def read(names: Iterable[str]) -> Tree:
    """Read the names of the folders below a training root. Hidden ones are nobody's concept."""
    parsed = [parse(name) for name in sorted(names) if not name.startswith(".")]
    return Tree(
        tuple(entry for entry in parsed if isinstance(entry, Concept)),
        tuple(entry for entry in parsed if isinstance(entry, Misread)),
    )


def read_tree(root: Path) -> ConceptFolders:
    """Read the folders of a training root, or of a regularisation root, one level deep; links are
    not followed.

    Raises DatasetError where there is no such folder, InputError where it cannot be read.
    """
    if not root.is_dir():
        raise DatasetError(
            f"{display(root)} is no folder", hint="dsk layout makes the folders that trainers read"
        )
    with reading(root), os.scandir(root) as scan:
        entries = sorted((entry.name, entry.is_symlink()) for entry in scan if _is_folder(entry))
    linked = {name for name, is_link in entries if is_link}
    tree = read(name for name, is_link in entries if not is_link)
    links = tuple(
        Misread(name, "is a symbolic link, which is not followed", trainers_reading(name))
        for name in sorted(linked)
        if not name.startswith(".")
    )
    folders = tuple(
        ConceptFolder(root / folder_name(concept), concept) for concept in tree.concepts
    )
    return ConceptFolders(folders, tuple(sorted((*tree.ignored, *links), key=lambda m: m.folder)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """One image to lay out. caption_text: what its caption file shall hold, None for none; mask:
    its mask file.
    """

    image: Path
    caption_text: str | None = None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class LayoutFolder:
    """The folder of one concept, and the images that belong there."""

    folder: Path
    sources: tuple[LayoutImage, ...]


def wanted(targets: Sequence[LayoutFolder]) -> tuple[FileOp, ...]:
    """Return what fills empty folders: a link to each image, its caption, a copy of its mask.

    Raises PlanConflict for two images of one stem in a folder, InputError for an empty caption.
    """
    _check_stems(targets)
    empty = [
        s.image
        for t in targets
        for s in t.sources
        if s.caption_text is not None and not s.caption_text.strip()
    ]
    if empty:
        raise InputError(
            f"empty captions, at which trainers stop: {_listed(empty)}",
            hint="write a tag, or remove the caption file",
        )
    return tuple(
        op for target in targets for source in target.sources for op in _fill(target.folder, source)
    )


def _fill(folder: Path, source: LayoutImage) -> list[FileOp]:
    ops: list[FileOp] = [Link(source.image, folder / source.image.name)]
    if source.caption_text is not None:
        ops.append(
            WriteText((folder / source.image.name).with_suffix(CAPTION_SUFFIX), source.caption_text)
        )
    if source.mask is not None:
        ops.append(Copy(source.mask, folder / MASKS / f"{source.image.stem}{source.mask.suffix}"))
    return ops


def _check_stems(targets: Sequence[LayoutFolder]) -> None:
    """Two images of one stem would share a caption; two whose names differ by case would be one
    on some disks.
    """
    first: dict[tuple[Path, str], Path] = {}
    twins = []
    for target in targets:
        for source in target.sources:
            key = (target.folder, fold(source.image.stem))
            if key in first:
                twins.append(f"{display(first[key])} and {display(source.image)}")
            first.setdefault(key, source.image)
    if twins:
        more = f"; and {len(twins) - 5} more" if len(twins) > 5 else ""
        raise PlanConflict(
            f"images of one name: {'; '.join(twins[:5])}{more}",
            hint="dsk rename makes names unique",
        )


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(display(path.name) for path in paths[:5]) + more


def plan_layout(
    targets: Sequence[LayoutFolder], *, root: Path, existing: Mapping[Path, bool], trash: Path
) -> Plan:
    """Bring the folders below `root` to what `targets` say, with as few operations as can be.

    existing: the images, captions and masks that stand in the folders now, and whether each
    already holds what `wanted` puts there (False also for a file that nobody wants). Stale captions
    are rewritten; every other stale file moves to the same relative path below `trash`, which must
    be a fresh folder. Files not listed stay.
    """
    ops = wanted(targets)
    fresh = [op for op in ops if not existing.get(_target(op), False)]
    rewritten = {op.path for op in fresh if isinstance(op, WriteText)}
    keep = {_target(op) for op in ops} - {_target(op) for op in fresh}
    stale = sorted(path for path in existing if path not in keep and path not in rewritten)
    return Plan((*(Move(path, trash / path.relative_to(root)) for path in stale), *fresh))


def _target(op: FileOp) -> Path:
    return op.path if isinstance(op, WriteText | WriteBytes) else op.dst


def plan_repeats_change(tree: ConceptFolders, repeats: Mapping[str, int]) -> Plan:
    """Rename the folders of concepts whose repeats change; images stay in them.

    repeats: concept -> repeats. Raises ConfigError for a concept that has no folder, PlanConflict
    where two folders would have one name.
    """
    known = {folder.concept.name for folder in tree.concepts}
    for name in repeats:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = (
                f"did you mean `{display(near[0])}`?"
                if near
                else f"there are: {', '.join(sorted(known)) or 'none'}"
            )
            raise ConfigError(f"no folder holds the concept `{display(name)}`", hint=hint)
    new = {
        folder.path: folder.path.with_name(
            folder_name(
                Concept(
                    repeats.get(folder.concept.name, folder.concept.repeats), folder.concept.name
                )
            )
        )
        for folder in tree.concepts
    }
    paths = sorted(new.values())
    twice = sorted({path for path, following in pairwise(paths) if path == following})
    if twice:
        raise PlanConflict(
            f"two folders would both become {_listed(twice)}",
            hint="merge them, or leave their repeats as they are",
        )
    return Plan.of(Move(src, dst) for src, dst in new.items() if src != dst)
