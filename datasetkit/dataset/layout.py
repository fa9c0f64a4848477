"""Layout: the folder grammar `<repeats>_<concept>`, and the plan of a dataset in such folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

from datasetkit.core.errors import ConfigError, DatasetError, InputError, PlanConflict
from datasetkit.core.file_kinds import is_searched
from datasetkit.core.files import CAPTION_SUFFIX, MASKS, display, fold, reading
from datasetkit.core.suggest import did_you_mean
from datasetkit.dataset.naming import existing_name_fault, name_fault
from datasetkit.project.plans import Copy, FileOp, Link, Move, Plan, WriteBytes, WriteText

# The folders of a laid-out dataset: training images and regularisation images.
TRAIN, REG = "train", "reg"
# Where the web interfaces of sd-scripts have the training images.
IMG = "img"

_GRAMMAR = re.compile(r"([1-9][0-9]*)_(.+)", re.DOTALL)
# `1_000_x` was meant as 1000_x, and `2_10_x` has two numbers; trainers read 1 and 2.
_SECOND_NUMBER = re.compile(r"[0-9]+(_|$)")


@dataclass(frozen=True, slots=True)
class Concept:
    """The parts of a folder's name: the samples per image and epoch, and the concept."""

    repeats: int
    name: str


@dataclass(frozen=True, slots=True)
class Misread:
    """A folder that is not `<repeats>_<concept>`.

    trainers: how other trainers read it, None if they ignore it.
    """

    folder: str
    reason: str
    trainers: Concept | None = None

    @property
    def text(self) -> str:
        """Return the problem as one line."""
        reading = "trainers ignore it"
        if self.trainers is not None:
            reading = f"trainers read {self.trainers.repeats} x `{display(self.trainers.name)}`"
        return f"{display(self.folder)}: {self.reason}; {reading}"


@dataclass(frozen=True, slots=True)
class Tree:
    """The folder names below a training root, sorted: concepts, and others."""

    concepts: tuple[Concept, ...]
    ignored: tuple[Misread, ...]


@dataclass(frozen=True, slots=True)
class ConceptFolder:
    """A concept and its folder."""

    path: Path
    concept: Concept


@dataclass(frozen=True, slots=True)
class ConceptFolders:
    """The folders of a training root or of a regularisation root, sorted by name."""

    concepts: tuple[ConceptFolder, ...]
    misread: tuple[Misread, ...]


def dataset_roots(folder: Path) -> tuple[Path, Path]:
    """Return the training root of a dataset's folder (its `train/`, or its `img/` with concept
    folders, as other programs lay out, else the folder itself) and its regularisation root, which
    need not exist. Names in another case, such as `IMG`, count where they hold concept folders.
    """
    names = _subfolders(folder)
    train = folder
    if (folder / TRAIN).is_dir():
        train = folder / TRAIN
    elif (other := _with_concepts(folder, names, TRAIN, IMG)) is not None:
        train = other
    name = train.name.casefold()
    has_reg_beside = name == TRAIN or (name == IMG and bool(read_tree(train).concepts))
    beside = train.parent if has_reg_beside else folder
    names = names if beside == folder else _subfolders(beside)
    return train, _with_concepts(beside, names, REG) or beside / REG


def _subfolders(folder: Path) -> list[str]:
    """Return the names of the subfolders of a folder, none of one that does not exist."""
    if not folder.is_dir():
        return []
    with reading(folder), os.scandir(folder) as entries:
        return [entry.name for entry in entries if _is_folder(entry)]


def _with_concepts(folder: Path, subfolders: Sequence[str], *names: str) -> Path | None:
    """Return the first subfolder of one of these names, in any case, that has concept folders; None
    without.
    """
    for name in names:
        alike = [spelling for spelling in subfolders if spelling.casefold() == name]
        for spelling in sorted(alike, key=lambda each: (each != name, each)):
            if read_tree(folder / spelling).concepts:
                return folder / spelling
    return None


def is_concept(folder: Path) -> bool:
    """Tell whether the name of a folder is `<repeats>_<concept>`."""
    return isinstance(parse(folder.name), Concept)


def laid_out_root(path: Path) -> Path | None:
    """Return the training or regularisation folder that a path lies in: `train/`, `reg/` or
    kohya_ss's `img/` with folders `<repeats>_<concept>`. None if it lies in none.
    """
    for folder in path.absolute().parents:
        is_named = folder.name.casefold() in (TRAIN, REG, IMG)
        if is_named and folder.is_dir() and read_tree(folder).concepts:
            return folder
    return None


def outside_of(folder: Path, root: Path, suffix: str) -> Path:
    """Return a folder beside the dataset for what is made of the images of a laid-out folder."""
    concept = parse(folder.name)
    name = concept.name if isinstance(concept, Concept) else folder.name
    return root.absolute().parent.with_name(f"{name}-{suffix}")


def trainers_reading(folder: str) -> Concept | None:
    """Return a folder's name as sd-scripts reads it: `int` of the text before the first `_`, then
    the rest.
    """
    first, _, rest = folder.partition("_")
    try:
        repeats = int(first)  # accepts spaces, + and -, and the digits of any script
    except ValueError:
        return None
    return Concept(repeats, rest) if repeats >= 1 else None


def parse(folder: str) -> Concept | Misread:
    """Parse a folder's name: a number without leading zeros, `_`, the concept."""
    as_trainers_read = trainers_reading(folder)
    match = _GRAMMAR.fullmatch(folder)
    if match is None or as_trainers_read is None:
        reason = _syntax_fault(folder, as_trainers_read)
        return Misread(folder, reason, as_trainers_read)
    concept = Concept(int(match[1]), match[2])
    fault = _fault(concept, existing_name_fault)
    return concept if fault is None else Misread(folder, fault, as_trainers_read)


def folder_name(concept: Concept, *, exists: bool = False) -> str:
    """Return the folder name of a concept. Raises ConfigError if `parse` would not read it back, or
    another system would refuse it. exists: a folder of the concept exists, so its name stays.
    """
    fault_of = existing_name_fault if exists else name_fault
    fault = "the repeats are less than 1" if concept.repeats < 1 else _fault(concept, fault_of)
    if fault is not None:
        raise ConfigError(
            f"no valid folder name for {concept.repeats} x `{display(concept.name)}`: {fault}",
            hint="choose another name for the concept, e.g. `sks girl`",
        )
    return f"{concept.repeats}_{concept.name}"


def _fault(concept: Concept, fault_of: Callable[[str], str | None]) -> str | None:
    fault = fault_of(concept.name)
    if fault is None and _SECOND_NUMBER.match(concept.name):
        return "the concept begins with a second number"
    if fault is None:
        fault = fault_of(f"{concept.repeats}_{concept.name}")
    return f"the concept {fault}" if fault is not None else None


def _syntax_fault(folder: str, as_trainers_read: Concept | None) -> str:
    first, underscore, rest = folder.partition("_")
    if as_trainers_read is None:
        if re.fullmatch(r"\s*[+-]?\d+\s*", first):
            return "the repeats are less than 1"
        if re.match(r"[0-9]+[-. ]", folder):
            return "the number is not followed by an underscore"
        return "there is no number of repeats before the first underscore"
    if not underscore or not rest:
        return "no concept follows the number"
    return "the number has other characters than digits, or a leading zero"


def read(names: Iterable[str]) -> Tree:
    """Parse the folder names below a training root; hidden folders and those of the
    system are skipped.
    """
    parsed = [parse(name) for name in sorted(names) if is_searched(name)]
    return Tree(
        tuple(entry for entry in parsed if isinstance(entry, Concept)),
        tuple(entry for entry in parsed if isinstance(entry, Misread)),
    )


def read_tree(root: Path) -> ConceptFolders:
    """Read the folders of a training or regularisation root, one level deep, without following
    links.

    Raises DatasetError if there is no such folder, InputError if it cannot be read.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"{display(root)} {what}", hint="run dsk layout to create the folders")
    with reading(root), os.scandir(root) as scan:
        entries = sorted((entry.name, entry.is_symlink()) for entry in scan if _is_folder(entry))
    linked = {name for name, is_link in entries if is_link}
    tree = read(name for name, is_link in entries if not is_link)
    links = tuple(
        Misread(name, "is a symbolic link, which is not followed", trainers_reading(name))
        for name in sorted(linked)
        if is_searched(name)
    )
    folders = tuple(
        ConceptFolder(root / f"{concept.repeats}_{concept.name}", concept)
        for concept in tree.concepts
    )
    return ConceptFolders(folders, tuple(sorted((*tree.ignored, *links), key=lambda m: m.folder)))


def as_trainers_read(root: Path, tree: ConceptFolders) -> ConceptFolders:
    """Return the folders of a root with those that only other trainers read as concepts, such as
    `007_x` and `2_3_x`; links are still not followed. misread: what is left.
    """
    more = [
        ConceptFolder(root / folder.folder, folder.trainers)
        for folder in tree.misread
        if folder.trainers is not None and not (root / folder.folder).is_symlink()
    ]
    names = {folder.path.name for folder in more}
    return ConceptFolders(
        tuple(sorted((*tree.concepts, *more), key=lambda folder: folder.path.name)),
        tuple(folder for folder in tree.misread if folder.folder not in names),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """One image to lay out. caption_text: the text of its caption file, None for no file; mask: its
    mask file; link: hard-link the image instead of copying it.
    """

    image: Path
    caption_text: str | None = None
    mask: Path | None = None
    link: bool = False


@dataclass(frozen=True, slots=True)
class LayoutFolder:
    """The folder of one concept, and its images."""

    folder: Path
    sources: Sequence[LayoutImage]


def fill_ops(targets: Sequence[LayoutFolder]) -> Iterator[FileOp]:
    """Yield the operations that fill empty folders: a copy of each image, or a link to it, its
    caption, a copy of its mask.

    Raises PlanConflict for two images with one stem in a folder, InputError for an empty caption.
    """
    _require_captions(targets)
    return _fill_all(targets)


def _require_captions(targets: Sequence[LayoutFolder]) -> None:
    _check_stems(targets)
    empty = [
        s.image
        for t in targets
        for s in t.sources
        if s.caption_text is not None and not s.caption_text.strip()
    ]
    if empty:
        raise InputError(
            f"empty captions, which trainers stop at: {_listed(empty)}",
            hint="add a tag, or remove the caption file",
        )


def _fill_all(targets: Sequence[LayoutFolder]) -> Iterator[FileOp]:
    for target in targets:
        for source in target.sources:
            yield from _fill(target.folder, source)


def _fill(folder: Path, source: LayoutImage) -> list[FileOp]:
    operation = Link if source.link else Copy
    ops: list[FileOp] = [operation(source.image, folder / source.image.name)]
    if source.caption_text is not None:
        ops.append(
            WriteText(
                (folder / source.image.name).with_suffix(CAPTION_SUFFIX), source.caption_text, None
            )
        )
    if source.mask is not None:
        ops.append(Copy(source.mask, folder / MASKS / f"{source.image.stem}{source.mask.suffix}"))
    return ops


def _check_stems(targets: Sequence[LayoutFolder]) -> None:
    """Refuse images that would share a caption: equal stems, or equal but for case, which are one
    file on some disks.
    """
    stems: dict[Path, set[str]] = {target.folder: set() for target in targets}
    number = 0
    for target in targets:
        stems[target.folder].update(fold(source.image.stem) for source in target.sources)
        number += len(target.sources)
    if sum(map(len, stems.values())) == number:  # nearly always
        return
    first: dict[tuple[Path, str], Path] = {}
    conflicts = []
    for target in targets:
        for source in target.sources:
            key = (target.folder, fold(source.image.stem))
            if key in first:
                conflicts.append(f"{display(first[key])} and {display(source.image)}")
            first.setdefault(key, source.image)
    if conflicts:
        more = f"; and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise PlanConflict(
            f"images with the same name: {'; '.join(conflicts[:5])}{more}",
            hint="run dsk rename to make the names unique",
        )


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(display(path.name) for path in paths[:5]) + more


def plan_layout(
    targets: Sequence[LayoutFolder],
    *,
    root: Path,
    existing: Mapping[Path, bool],
    captions: Mapping[Path, bytes] | None = None,
    trash: Path,
) -> Plan:
    """Plan the fewest operations that make the folders below `root` equal to `targets`.

    existing: the images, captions and masks in the folders now, and whether each already has the
    content that `fill_ops` would write (False for a file that is not in `targets`). captions: the
    bytes of those that are captions; stale ones are rewritten over them. Other stale files move to
    the same relative path below `trash`, which must be a new folder. Files that are not listed are
    kept.
    """
    captions = captions or {}
    _require_captions(targets)
    changed = {path for path, is_current in existing.items() if not is_current}
    every = _fill_all(targets) if changed else iter(())
    rewritten = {op.path for op in every if isinstance(op, WriteText) and op.path in changed}
    stale = sorted(changed - rewritten)
    moves = (Move(path, trash / path.relative_to(root), captions.get(path)) for path in stale)
    fresh = (
        replace(op, over=captions.get(op.path)) if isinstance(op, WriteText) else op
        for op in _fill_all(targets)
        if not existing.get(_target(op), False)
    )
    return Plan.of(chain(moves, fresh))


def _target(op: FileOp) -> Path:
    return op.path if isinstance(op, WriteText | WriteBytes) else op.dst


def plan_repeats_change(tree: ConceptFolders, repeats: Mapping[str, int]) -> Plan:
    """Rename the folders of concepts whose repeats change.

    repeats: concept -> repeats. Raises ConfigError for a concept without a folder, PlanConflict if
    two folders would get one name.
    """
    names = {folder.concept.name for folder in tree.concepts}
    for name in repeats:
        if name not in names:
            otherwise = f"concepts: {', '.join(sorted(names)) or 'none'}"
            hint = did_you_mean(name, sorted(names), otherwise, form="`{}`")
            raise ConfigError(f"the concept `{display(name)}` has no folder", hint=hint)
    new = {
        folder.path: folder.path.with_name(
            folder_name(
                Concept(
                    repeats.get(folder.concept.name, folder.concept.repeats), folder.concept.name
                ),
                exists=True,
            )
        )
        for folder in tree.concepts
    }
    paths = sorted(new.values())
    twice = sorted({path for path, following in pairwise(paths) if path == following})
    if twice:
        raise PlanConflict(
            f"two folders would both become {_listed(twice)}",
            hint="merge them, or keep their repeats",
        )
    return Plan.of(Move(src, dst) for src, dst in new.items() if src != dst)
