"""The manifest of a run, `<name>-run.json`: what the run was, how it ended, and its files.

A manifest may come from somebody else. It can only claim names that a run of its name gives to its
files; what else it lists is left alone.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from datasetkit.core.errors import InputError
from datasetkit.core.files import display, fold, read_regular, write_atomic
from trainer.families.base import LoraFormat

VERSION: Final = 1
PREVIEWS: Final = "sample"  # the folder of preview images, which runs of all names share
PREVIOUS: Final = "previous"  # the folder of earlier runs
_LARGEST: Final = 64 * 2**20  # bytes
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_DIGITS_OF_TIME: Final = r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z"
_NOT_READ: Final = "set another output_name, or move it and the files of that run to another folder"

Status = Literal["running", "finished", "stopped", "failed"]

# The ends of a LoRA file's name: the family's first format has no name.
ENDINGS: Final = (".safetensors", *(f".{form}.safetensors" for form in get_args(LoraFormat)))
ENDING: Final = rf"(?:\.(?:{'|'.join(get_args(LoraFormat))}))?\.safetensors"  # one, as a pattern
# What a run puts behind the name of a file, if something that it did not write has the usual name.
_MARK: Final = r"-[0-9]{8}T[0-9]{6}Z(-[0-9]+)?"
# The kinds of files: what follows the run's name, with the place of the mark. A state is a folder.
_NAMES: Final = {
    "lora": r"(-[0-9]{6,}|-step[0-9]{8,}|-best)?{mark}" + ENDING,
    "failed lora": r"-failed-check{mark}" + ENDING,
    "state": r"-state-(pause-)?[0-9]{8,}{mark}",
    "metrics": r"-metrics{mark}\.jsonl",
    "loss plot": r"-loss{mark}\.png",
    "validation": r"-validation{mark}\.jsonl",
    "best": r"-best{mark}\.json",
    "contact sheet": r"-samples{mark}\.png",
    "report": r"-report{mark}\.html",
}
# The same in the folder of preview images.
_PREVIEW_NAMES: Final = {
    "preview": r"-([0-9]{6,}|step[0-9]{8,})-[0-9]{2,}{mark}\.png",
    "previews": r"{mark}\.jsonl",
}


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of a run. name: relative to the output folder, with a slash. step, epoch: after which
    it was written, None for files of the whole run. size: in bytes. size and sha256 are None while
    the file still changes; those of a state are its total size and the hash of its manifest.
    """

    name: str
    kind: str
    step: int | None = None
    epoch: int | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What is recorded of a run. started, ended: UTC. facts: its options, plan and versions.

    moving_to: `previous/<time>` while its files are moved there; moving_from: while they are moved
    back from there. kept: files that somebody changed, so that the run did not delete them; they
    are no longer its own. rejected: listed names that are not those of a run's files; they are not
    read.
    """

    name: str
    started: str
    status: Status = "running"
    ended: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[RunFile, ...] = ()
    moving_to: str | None = None
    moving_from: str | None = None
    kept: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


def manifest_name(name: str) -> str:
    """Return the file name of the manifest of a run."""
    return f"{name}-run.json"


def utc(seconds: float) -> str:
    """Return a time in seconds since 1970 as text."""
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


def kind_of(name: str, file: str) -> str | None:
    """Return the kind of a file by its name, None if no run of this name gives it."""
    folder, slash, last = file.rpartition("/")
    if slash and folder != PREVIEWS:
        return None
    for kind, pattern in (_PREVIEW_NAMES if slash else _NAMES).items():
        if re.fullmatch(re.escape(name) + pattern.replace("{mark}", f"({_MARK})?"), last):
            return kind
    return None


def marked(name: str, file: str, mark: str) -> str:
    """Return the name of a run's file with a mark. name: of the run; mark: a time without
    separators, and perhaps a number.
    """
    start = file.index(name, file.rfind("/") + 1) + len(name)
    stem, dot, ending = file[start:].partition(".")
    return f"{file[:start]}{stem}-{mark}{dot}{ending}"


def unmarked(name: str, file: str) -> str:
    """Return the usual name of a run's file. name: of the run."""
    start = file.index(name, file.rfind("/") + 1) + len(name)
    return file[:start] + re.sub(rf"{_MARK}(?=\.|$)", "", file[start:])


def in_one_format(files: Iterable[Path]) -> list[Path]:
    """Return LoRA files of a run, each LoRA once: in the family's first format, if it is there."""
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(re.sub(f"{ENDING}$", "", path.name), []).append(path)
    # The name of the first format is the shortest.
    return [min(paths, key=lambda path: len(path.name)) for paths in by_stem.values()]


def give_equal_names(name: str, other: str, *, ignores_case: bool = False) -> bool:
    """Tell whether runs of two names may give the same name to a file: k and k-best. ignores_case:
    their disk does, so that K and k give the same names, too.
    """
    if name == other:
        return False
    if ignores_case:
        name, other = fold(name), fold(other)
    return name == other or any(
        kind_of(first, f"{second}{ending}") is not None
        for first, second in ((name, other), (other, name))
        for ending in ENDINGS
    )


def ignores_case(folder: Path) -> bool:
    """Tell whether the disk of a folder takes names that differ in case for one; False for an empty
    folder.
    """
    names = {entry.name for entry in _entries(folder)}
    for name in names:
        if (other := name.swapcase()) not in names:
            return os.path.lexists(folder / other)
    return False


def names(folder: Path) -> list[str]:
    """Return the names of the runs that have a manifest in a folder."""
    suffix = manifest_name("")
    files = [entry.name for entry in _entries(folder) if entry.name.endswith(suffix)]
    return sorted(file.removesuffix(suffix) for file in files if file != suffix)


def matching_files(folder: Path, name: str) -> tuple[RunFile, ...]:
    """Return everything in a folder that has the name of a file of this run, links too."""
    names = [entry.name for entry in _entries(folder)]
    if not (folder / PREVIEWS).is_symlink():
        names += [f"{PREVIEWS}/{entry.name}" for entry in _entries(folder / PREVIEWS)]
    kinds = {file: kind_of(name, file) for file in names if file.startswith((name, PREVIEWS))}
    return tuple(RunFile(file, kind) for file, kind in sorted(kinds.items()) if kind is not None)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def exists(folder: Path, file: RunFile) -> bool:
    """Tell whether a listed file is there, as a regular file (or folder, for a state); a link is
    not followed.
    """
    path = folder / file.name
    if path.parent != folder and path.parent.is_symlink():
        return False
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) if file.kind == "state" else stat.S_ISREG(mode)


def own_files(folder: Path, name: str) -> tuple[RunFile, ...]:
    """Return the files of a run that exist: those that its manifest lists, or in a folder without
    one those that have its names. Raises InputError for a damaged manifest.
    """
    manifest = read(folder, name)
    files = matching_files(folder, name) if manifest is None else manifest.files
    return tuple(file for file in files if exists(folder, file))


def state_folders(folder: Path, name: str) -> list[Path]:
    """Return the states of a run, also where a kill interrupted a move of its files. Raises
    InputError for a damaged manifest.
    """
    manifest = read(folder, name)
    files = matching_files(folder, name) if manifest is None else manifest.files
    places = [folder]
    if manifest is not None:
        moves = filter(None, (manifest.moving_to, manifest.moving_from))
        places += [folder / m for m in moves if not (folder / PREVIOUS).is_symlink()]
    return [
        next(place / file.name for place in places if exists(place, file))
        for file in files
        if file.kind == "state" and any(exists(place, file) for place in places)
    ]


def read(folder: Path, name: str) -> RunManifest | None:
    """Return the manifest of a run, None without one. Raises InputError for a damaged one."""
    path = folder / manifest_name(name)
    try:
        data = read_regular(path, limit=_LARGEST)
    except InputError as error:  # a link, or too large
        raise InputError(error.message, hint=_NOT_READ) from error
    if data is None:
        return None
    try:
        return _parse(json.loads(data), name)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{error.args[0]}" if isinstance(error, _ManifestError) else "it is damaged"
        raise InputError(
            f"{display(path)} cannot be read as the record of a run: {reason}",
            hint=_NOT_READ,
        ) from error


def write(folder: Path, manifest: RunManifest) -> None:
    """Write a manifest, completely or not at all. Raises StorageError."""
    record = {
        "version": VERSION,
        "name": manifest.name,
        "started": manifest.started,
        "ended": manifest.ended,
        "status": manifest.status,
        "moving_to": manifest.moving_to,
        "moving_from": manifest.moving_from,
        "kept": list(manifest.kept),
        **manifest.facts,
        "files": [asdict(file) for file in manifest.files],
    }
    text = json.dumps(record, ensure_ascii=False, indent=1)
    # What is not Unicode, such as a byte in a path, is escaped, which JSON writes in the same way.
    data = f"{text}\n".encode(errors="backslashreplace")
    write_atomic(folder / manifest_name(manifest.name), data)


class _ManifestError(ValueError):
    """What is wrong with a manifest, in words."""


def _parse(record: Any, name: str) -> RunManifest:
    if not isinstance(record, dict):
        raise _ManifestError("it is not a JSON object")
    if record.get("version") != VERSION:
        raise _ManifestError(f"its version is not {VERSION}")
    if record.get("name") != name:
        raise _ManifestError("it belongs to a run of another name")
    if record.get("status") not in ("running", "finished", "stopped", "failed"):
        raise _ManifestError("its status is not known")
    kept = record.get("kept", [])
    if not isinstance(record.get("files"), list) or not isinstance(kept, list):
        raise _ManifestError("it has no list of files")
    rows = [(row, _file(row, name)) for row in record["files"]]
    rejected = [str(row.get("name") if isinstance(row, dict) else row) for row, f in rows if not f]
    facts = {key: record[key] for key in ("options", "plan", "versions") if key in record}
    return RunManifest(
        name=name,
        started=_time(record.get("started")),
        status=record["status"],
        ended=None if record.get("ended") is None else _time(record["ended"]),
        facts=facts,
        files=tuple({file.name: file for _, file in rows if file}.values()),
        moving_to=_previous(record.get("moving_to")),
        moving_from=_previous(record.get("moving_from")),
        kept=tuple(file for file in kept if isinstance(file, str) and kind_of(name, file)),
        rejected=tuple(text[:200] for text in rejected),
    )


def _file(row: Any, name: str) -> RunFile | None:
    """Return a listed file, None for one that no run of this name writes."""
    if not isinstance(row, dict) or not isinstance(file := row.get("name"), str):
        return None
    kind = kind_of(name, file)
    if kind is None or kind != row.get("kind"):
        return None
    numbers = {key: row.get(key) for key in ("step", "epoch", "size")}
    if any(n is not None and type(n) is not int for n in numbers.values()):
        return None
    sha256 = row.get("sha256")
    if sha256 is not None and not (
        isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
    ):
        return None
    return RunFile(file, kind, **numbers, sha256=sha256)


def _time(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(_DIGITS_OF_TIME, value):
        raise _ManifestError("it has no time")
    try:
        datetime.strptime(value, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise _ManifestError("its time is not valid") from error
    return value


def _previous(value: object) -> str | None:
    if value is None:
        return None
    # Its name is free: people rename such folders.
    folder, _, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    if folder != PREVIOUS or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise _ManifestError("it names a folder that is not that of an earlier run")
    return f"{folder}/{name}"


def unlisted(folder: Path, name: str, files: Collection[RunFile]) -> list[str]:
    """Return what has the name of a file of this run and is not one of `files`."""
    own = {file.name for file in files if exists(folder, file)}
    matches = [file.name for file in matching_files(folder, name) if file.name not in own]
    return [*matches, *_in_another_case(folder, name)]


def _in_another_case(folder: Path, name: str) -> list[str]:
    """Return what has the name of a file of this run but for the case of its letters, on a disk
    that ignores case: writing that file would replace it.
    """
    names = [entry.name for entry in _entries(folder)]
    return [
        file
        for file in names
        if kind_of(name, file) is None and fold(file[: len(name)]) == fold(name)
        if kind_of(name, spelling := name + file[len(name) :].lower()) is not None
        if spelling not in names and os.path.lexists(folder / spelling)
    ]
