"""The names of uploaded files: which are left out before they are sent, and where each one goes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from datasetkit.captions.caption_names import CAPTION_SUFFIXES
from datasetkit.core import file_kinds
from datasetkit.core.errors import InputError
from datasetkit.core.files import MASKS, MAX_CAPTION_BYTES, display, fold, natural_key
from datasetkit.dataset.naming import name_fault

MAX_FILES: Final = 20_000
MAX_IMAGE_BYTES: Final = 64 * 2**20
_MAX_DEPTH: Final = 8
_MAX_NAME_BYTES: Final = 200
_MAX_PATH: Final = 4096  # characters
_MAX_SIZE: Final = 2**50
_LATEST: Final = 2**35 * 1000  # milliseconds since 1970
SIDECARS: Final = CAPTION_SUFFIXES | {".json"}
ZIP: Final = ".zip"


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that a browser offers. path: with slashes, relative, in composed letters; modified: in
    seconds since 1970.
    """

    path: str
    size: int
    modified: float = 0.0

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def suffix(self) -> str:
        return file_kinds.suffix_of(self.name)

    @property
    def folder(self) -> str:
        """The folder of the image that the file is or belongs to, "" for the top one."""
        above = self.parts[:-1]
        return "/".join(above[:-1] if above and above[-1] == MASKS else above)

    @property
    def is_mask(self) -> bool:
        return len(self.parts) > 1 and self.parts[-2] == MASKS


@dataclass(frozen=True, slots=True)
class LeftOutFile:
    """A file that is not imported. kind: system, hidden, name, size, video, ... or the format."""

    path: str
    kind: str
    reason: str


def sent_files(value: Any) -> list[SentFile]:
    """Read the files of a request; browsers send `modified` in milliseconds. Raises InputError for
    what no browser sends.
    """
    if not isinstance(value, list) or not value:
        raise InputError("the request has no `files`", hint='e.g. [{"path": "a.png", "size": 9}]')
    if len(value) > MAX_FILES:
        raise InputError(
            f"{len(value):,} files are more than {MAX_FILES:,}",
            hint="upload them in parts, or use the folder where it lies",
        )
    return [_sent_file(item) for item in value]


def _sent_file(item: Any) -> SentFile:
    path, size = (item.get("path"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not isinstance(path, str) or isinstance(size, bool) or not isinstance(size, int):
        raise InputError("each of `files` needs a `path` and a `size`")
    if not 0 <= size <= _MAX_SIZE:
        raise InputError(f"the size of {display(path[:200])} is not possible")
    modified = item.get("modified", 0)
    is_time = isinstance(modified, int | float) and not isinstance(modified, bool)
    is_time = is_time and math.isfinite(modified) and 0 <= modified < _LATEST
    return SentFile(relative(path), size, modified / 1000 if is_time else 0.0)


def relative(path: str) -> str:
    """Return a path of a request in composed letters. Raises InputError unless it leads to
    something below a folder.
    """
    parts = path.split("/")
    if len(path) > _MAX_PATH or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"{display(path[:200])} is not a path below a folder", hint="send names without `..`"
        )
    return unicodedata.normalize("NFC", path)


def part_fault(part: str) -> str | None:
    """Return why no file or folder of this name is made, else None."""
    if len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes"
    return name_fault(part)


def left_out(files: Sequence[SentFile], has_image: Callable[[str, str], bool]) -> list[LeftOutFile]:
    """Return the files that are not worth sending, by their names and sizes.

    has_image: tells for a folder and a stem whether an image is there already.
    """
    stems = {
        (file.folder, fold(stem))
        for file in files
        if not file.is_mask and file.suffix not in SIDECARS
        for stem in (file.name, PurePosixPath(file.name).stem)
    }
    zipped = any(file.suffix == ZIP for file in files)  # the images may be in it

    def belongs(file: SentFile) -> bool:
        stem = PurePosixPath(file.name).stem
        return zipped or (file.folder, fold(stem)) in stems or has_image(file.folder, stem)

    return [LeftOutFile(file.path, *why) for file in files if (why := _why_left_out(file, belongs))]


def _why_left_out(file: SentFile, belongs: Callable[[SentFile], bool]) -> tuple[str, str] | None:
    """Return the kind and the reason of a file that is left out, else None."""
    for part in file.parts:
        if file_kinds.is_system_file(part) or file_kinds.is_system_folder(part):
            return "system", "a file of the system"
        if part.startswith("."):
            return "hidden", "hidden"
    if fault := next((f"{display(p)} {f}" for p in file.parts if (f := part_fault(p))), None):
        return "name", fault
    if len(file.parts) > _MAX_DEPTH + 1:
        return "depth", f"more than {_MAX_DEPTH} folders deep"
    return _wrong_kind(file, belongs)


def _wrong_kind(file: SentFile, belongs: Callable[[SentFile], bool]) -> tuple[str, str] | None:
    if file.size == 0:
        return "empty", "empty"
    if file.suffix == ZIP:
        return None
    if by_name := file_kinds.group_by_name(file.name):
        kind, group = by_name
        return kind, file_kinds.advice_for(kind, group)
    if file.suffix in SIDECARS:
        if file.size > MAX_CAPTION_BYTES:
            return "size", f"larger than {MAX_CAPTION_BYTES:,} bytes"
        return None if belongs(file) else ("alone", "no image of its name")
    if not file_kinds.needs_first_bytes(file.name):
        return "other", "not an image"
    if file.size > MAX_IMAGE_BYTES:
        return "size", f"larger than {MAX_IMAGE_BYTES // 2**20} MB"
    return None


# ---- where each file goes


@dataclass(frozen=True, slots=True)
class ArrivedFile:
    """A file that was sent. staged: where it lies; name: with the suffix of its format."""

    staged: Path
    sent: SentFile
    name: str
    is_image: bool

    @property
    def parent(self) -> str:
        return "/".join(self.sent.parts[:-1])

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}" if self.parent else self.name


@dataclass(slots=True)
class ImportNames:
    """Where uploaded files go, relative to the folder that they are imported to.

    targets: of those to import. present: that are there with the same bytes. renamed: path -> the
    new one. left_out: those whose name is taken.
    """

    targets: dict[Path, str] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOutFile] = field(default_factory=list)


def plan_names(
    arrived: Iterable[ArrivedFile],
    existing: Mapping[str, Collection[str]],
    has_same_bytes: Callable[[Path, str], bool],
) -> ImportNames:
    """Give every image a free name, and its captions and its mask the same stem.

    existing: folder -> the names in it. has_same_bytes: compares a staged file with an existing
    one, by its path relative to the folder of the import.
    """
    return _NamePlan(existing, has_same_bytes).plan(list(arrived))


class _NamePlan:
    def __init__(
        self,
        existing: Mapping[str, Collection[str]],
        has_same_bytes: Callable[[Path, str], bool],
    ) -> None:
        self._has_same_bytes = has_same_bytes
        # Folded path -> the path as it is; False for what this plan takes.
        self._taken: dict[str, str] = {}
        self._planned: set[str] = set()
        self._stems: set[tuple[str, str]] = set()
        for folder, names in existing.items():
            for name in names:
                path = f"{folder}/{name}" if folder else name
                self._taken[fold(path)] = path
                if file_kinds.is_image_name(name) and folder.rpartition("/")[2] != MASKS:
                    self._stems.add((fold(folder), fold(PurePosixPath(name).stem)))
        self.names = ImportNames()

    def plan(self, arrived: list[ArrivedFile]) -> ImportNames:
        arrived.sort(key=lambda file: natural_key(file.sent.path))
        images = [file for file in arrived if file.is_image and not file.sent.is_mask]
        companions: dict[tuple[str, str], list[ArrivedFile]] = {}
        for file in arrived:
            if not file.is_image or file.sent.is_mask:
                key = (fold(file.sent.folder), fold(PurePosixPath(file.name).stem))
                companions.setdefault(key, []).append(file)
        for image in images:
            folder, stem = fold(image.parent), fold(PurePosixPath(image.name).stem)
            # `a.txt` and `masks/a.png` belong to the stem, `a.jpg.txt` to the whole name.
            files = companions.pop((folder, stem), [])
            files += companions.pop((folder, fold(image.name)), [])
            self._place(image, files)
        for rest in companions.values():
            for file in rest:
                self._place_alone(file)
        return self.names

    def _place(self, image: ArrivedFile, files: Sequence[ArrivedFile]) -> None:
        """Give an image and its companions the first stem that is free for all of them."""
        there = self._taken.get(fold(image.path))
        if there is not None and self._is_same(image, there):
            self.names.present.append(image.sent.path)
            for file in files:
                self._place_alone(file)
            return
        stem = PurePosixPath(image.name).stem
        number = 1
        while True:
            new = stem if number == 1 else f"{stem}-{number}"
            if self._is_free(image, files, new):
                break
            number += 1
        self._stems.add((fold(image.parent), fold(new)))
        for file in (image, *files):
            self._take(file, _with_stem(file.path, stem, new))

    def _is_free(self, image: ArrivedFile, files: Sequence[ArrivedFile], new: str) -> bool:
        stem = PurePosixPath(image.name).stem
        paths = [_with_stem(file.path, stem, new) for file in (image, *files)]
        is_used = (fold(image.parent), fold(new)) in self._stems
        return not is_used and not any(fold(path) in self._taken for path in paths)

    def _place_alone(self, file: ArrivedFile) -> None:
        there = self._taken.get(fold(file.path))
        if there is None:
            self._take(file, file.path)
        elif self._is_same(file, there):
            self.names.present.append(file.sent.path)
        else:
            reason = f"{display(there)} is there with another content"
            self.names.left_out.append(LeftOutFile(file.sent.path, "taken", reason))

    def _is_same(self, file: ArrivedFile, there: str) -> bool:
        return there not in self._planned and self._has_same_bytes(file.staged, there)

    def _take(self, file: ArrivedFile, path: str) -> None:
        self._taken[fold(path)] = path
        self._planned.add(path)
        self.names.targets[file.staged] = path
        if path != file.sent.path:
            self.names.renamed[file.sent.path] = path


def _with_stem(path: str, old: str, new: str) -> str:
    """Return the path of a file whose name begins with a stem, with another stem."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{new}{name[len(old) :]}"
