"""The one listing of a folder: what each of its files is, and why some are left out.

Every command, `dsk check`, the review page and the trainer list folders here.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from datasetkit.captions.caption_names import CAPTION_SUFFIXES
from datasetkit.core import file_kinds
from datasetkit.core.file_kinds import (
    FIRST_BYTES,
    advice_for,
    group_by_name,
    is_searched,
    is_system_file,
    is_system_folder,
    kind_by_content,
    needs_first_bytes,
    readable_suffixes,
    suffix_of,
)
from datasetkit.core.files import (
    CONFIG_NAME,
    MASKS,
    PROJECT,
    fold,
    in_natural_order,
    is_readable_name,
    natural_key,
    reading,
    stem_of,
)
from datasetkit.core.path_list import PathList
from datasetkit.core.records import Failed, LeftOut

# What dsk writes beside images: the folders of a run, those of a laid-out dataset, and names that
# only a project or a report has inside.
_OF_A_RUN = frozenset({"work", "dataset", "report"})
_LAID_OUT = frozenset({"train", "reg", "img"})
_CONCEPT = re.compile("[1-9][0-9]*_.")
_FIRST = 1000
_MADE = frozenset({PROJECT, "tags.csv"})


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a folder.

    images: in natural order. failed: entries with an image's suffix that cannot be used. other:
    sidecars, caches and all that is not an image.
    left_out: images and videos that are not used, and what belongs to the system. Hidden files and
    `masks/` are in none of them.
    """

    images: Sequence[Path]
    failed: tuple[Failed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    # The names of the captions by folder: most commands need no path of them, and a path takes six
    # times as much memory.
    caption_names: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    other: tuple[Path, ...] = ()

    @property
    def captions(self) -> tuple[Path, ...]:
        """Return the files that are named like captions."""
        return tuple(folder / name for folder, names in self.caption_names for name in names)

    @property
    def image_files(self) -> int:
        """Return how many files are images, those that are left out included."""
        return len(self.images) + sum(item.group in ("image", "name") for item in self.left_out)


def list_images(
    folder: Path, *, recursive: bool = False, follow_links: bool = False, any_name: bool = False
) -> Listing:
    """List the images of a folder by their suffix, in natural order, and what else is there.

    A linked image (unless `follow_links`) and one whose name other tools cannot read (unless
    `any_name`) are returned as failed. Files of unknown kinds are judged by their first bytes: an
    image among them is left out and named, since no trainer would find it. Raises InputError for a
    folder that cannot be read.
    """
    entries = _Entries()
    _collect(folder, entries, recursive, follow_links, any_name)
    return Listing(
        entries.images, tuple(entries.failed), tuple(entries.left_out),
        tuple(entries.caption_names), tuple(entries.other),
    )  # fmt: skip


def holds_images(folder: Path, *, recursive: bool = False) -> bool:
    """Tell whether a folder holds an image that can be used."""
    return _has_one(folder) or bool(list_images(folder, recursive=recursive).images)


def _has_one(folder: Path) -> bool:
    """Tell whether one of the first entries of a folder is such an image: mostly there is one, and
    a million names need not be listed and sorted.
    """
    readable = readable_suffixes()
    with reading(folder), os.scandir(folder) as entries:
        return any(
            suffix_of(entry.name) in readable
            and not entry.name.startswith(".")
            and not is_system_file(entry.name)
            and _unusable(entry, False, False) is None
            for entry in islice(entries, _FIRST)
        )


def subfolders(folder: Path) -> list[Path]:
    """Return the subfolders in which images are searched, in natural order; links are not
    followed. Raises InputError.
    """
    with reading(folder), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    return [
        folder / name
        for name in sorted(names, key=natural_key)
        if is_searched(name) and name != MASKS
    ]


def same_names(images: Iterable[Path], *, any_disk: bool = False) -> dict[Path, Path]:
    """Return each image whose name, without its suffix, an earlier image of the folder has -> that
    image.

    The two would share a caption and cached latents: `a.jpg` and `a.png`. any_disk: also names that
    only some disks take for one: `B.jpg` and `b.jpg`, `é` as one and as two characters.
    """
    owners: dict[tuple[Path, str], list[Path]] = {}
    shared: dict[Path, Path] = {}
    images = images if isinstance(images, PathList) else PathList(images)
    if _all_differ(images):  # nearly always
        return shared
    for image in images:
        alike = owners.setdefault((image.parent, fold(image.stem)), [])
        owner = next((o for o in alike if any_disk or _is_one_name(o, image)), None)
        if owner is None:
            alike.append(image)
        else:
            shared[image] = owner
    return shared


def _all_differ(images: PathList) -> bool:
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for folder, names in images.by_folder():
        stems[folder].update(fold(stem_of(name)) for name in names)
    return sum(map(len, stems.values())) == len(images)


def _is_one_name(owner: Path, image: Path) -> bool:
    """Tell whether the names of two images, which differ in case or accents at most, are one to the
    disk that they are on.
    """
    if owner.stem == image.stem:
        return True
    alias = owner.with_name(image.stem + owner.suffix)
    return alias.exists() and alias.samefile(owner)


@dataclass(slots=True)
class _Entries:
    """What is listed so far."""

    images: PathList = field(default_factory=PathList)
    failed: list[Failed] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    caption_names: list[tuple[Path, tuple[str, ...]]] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)

    def leave_out(self, entry: os.DirEntry[str], kind: str, group: str) -> None:
        self.left_out.append(LeftOut(Path(entry.path), kind, group, advice_for(kind, group)))


def _collect(
    folder: Path, entries: _Entries, recursive: bool, follow_links: bool, any_name: bool
) -> None:
    ordered, captions, others = _entries_of(folder)
    has_config = any(entry.name == CONFIG_NAME for entry in others)
    for entry in in_natural_order(ordered, lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            if _is_of_system(entry.name, recursive=recursive):
                entries.leave_out(entry, "system folder", "system")
            elif not is_searched(entry.name) or entry.name == MASKS:
                continue
            elif recursive:
                _collect(Path(entry.path), entries, recursive, follow_links, any_name)
            elif has_own_images(Path(entry.path), in_project=has_config):
                entries.leave_out(entry, "subfolder", "folder")
        elif entry.name.startswith(".") or is_system_file(entry.name):
            _collect_hidden(entry, entries)
        elif (problem := _unusable(entry, follow_links, any_name)) is None:
            entries.images.add(folder, entry.name)
        else:
            entries.failed.append(Failed(folder / entry.name, *problem))
    entries.caption_names.append((folder, tuple(sorted(captions))))
    for entry in sorted(others, key=lambda e: e.name):
        if entry.name.startswith(".") or is_system_file(entry.name):
            _collect_hidden(entry, entries)
        else:
            _collect_other(entry, entries, recursive=recursive)


def _entries_of(
    folder: Path,
) -> tuple[list[os.DirEntry[str]], list[str], list[os.DirEntry[str]]]:
    """Return the images and folders in a folder, the names of its captions, and all else.

    Only the first are sorted naturally, which takes most of the time.
    """
    ordered: list[os.DirEntry[str]] = []
    captions: list[str] = []
    others: list[os.DirEntry[str]] = []
    readable = readable_suffixes()
    with reading(folder), os.scandir(folder) as scanned:
        for entry in scanned:
            suffix = suffix_of(entry.name)
            if suffix in readable or entry.is_dir(follow_symlinks=False):
                ordered.append(entry)
            elif suffix in CAPTION_SUFFIXES and not entry.name.startswith("."):
                captions.append(entry.name)
            else:
                others.append(entry)
    return ordered, captions, others


def has_own_images(folder: Path, *, in_project: bool) -> bool:
    """Tell whether a subfolder holds images of a person, at any depth: not one that dsk makes.

    in_project: the folder above has a dsk.toml.
    """
    if in_project and folder.name in _OF_A_RUN:
        return False
    try:
        with os.scandir(folder) as scanned:
            inside = list(scanned)
    except OSError:
        return False
    names = {entry.name for entry in inside}
    is_laid_out = folder.name.casefold() in _LAID_OUT and any(map(_CONCEPT.match, names))
    if is_laid_out or names & _MADE:
        return False
    if any(file_kinds.is_image_name(e.name) and e.is_file(follow_symlinks=False) for e in inside):
        return True
    return any(
        has_own_images(Path(entry.path), in_project=False)
        for entry in inside
        if entry.is_dir(follow_symlinks=False) and is_searched(entry.name) and entry.name != MASKS
    )


def _is_of_system(name: str, *, recursive: bool) -> bool:
    """Tell whether a folder is named as one of the system's; hidden ones where subfolders are
    searched.
    """
    return is_system_folder(name) or (recursive and name.startswith(".") and name != PROJECT)


def _collect_hidden(entry: os.DirEntry[str], entries: _Entries) -> None:
    if is_system_file(entry.name):
        entries.leave_out(entry, "system file", "system")
    elif suffix_of(entry.name) in file_kinds.IMAGE_SUFFIXES:
        entries.leave_out(entry, "hidden image", "hidden")


def _collect_other(entry: os.DirEntry[str], entries: _Entries, *, recursive: bool) -> None:
    """Sort a file that is neither a readable image nor a caption by its name or its first bytes."""
    if recursive and entry.is_symlink() and Path(entry.path).is_dir():
        entries.leave_out(entry, "linked folder", "link")
        return
    by_name = group_by_name(entry.name)
    if by_name is not None:
        entries.leave_out(entry, *by_name)
        return
    kind = kind_by_content(_first_bytes(entry)) if needs_first_bytes(entry.name) else None
    if kind is None:
        entries.other.append(Path(entry.path))
    elif kind in ("video", "archive"):
        entries.leave_out(entry, kind, kind)
    else:
        entries.leave_out(entry, _named(kind, entry.name), "name")


def _named(kind: str, name: str) -> str:
    return f"{kind} named {suffix_of(name)}" if suffix_of(name) else f"{kind} without a suffix"


def _first_bytes(entry: os.DirEntry[str]) -> bytes:
    """Return the first bytes of a regular file; b"" for anything else."""
    try:
        if not entry.is_file(follow_symlinks=False):
            return b""
        with Path(entry.path).open("rb", buffering=0) as file:
            return file.read(FIRST_BYTES) or b""
    except OSError:
        return b""


def _unusable(
    entry: os.DirEntry[str], follow_links: bool, any_name: bool
) -> tuple[str, str] | None:
    """Return why a directory entry cannot be used as an image, with a hint; None when it can."""
    if entry.is_symlink() and not follow_links:
        return "is a symbolic link, which is not followed", "--follow-links reads it"
    try:
        regular = entry.is_file()
    except OSError as error:  # a link that leads to itself
        return f"cannot be followed: {error.strerror}", "remove the link"
    if not regular:
        return "is not a regular file" if not entry.is_symlink() else "is a broken link", ""
    if not any_name and not is_readable_name(entry.name):
        return "has a name that is not printable UTF-8", "dsk rename gives it a plain name"
    return None
