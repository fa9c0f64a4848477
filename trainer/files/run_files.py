"""The files of a run: listed in its manifest before they are written, and moved away when another
run of its name starts.

Nothing else in the output folder is counted, moved or deleted. Moves are renames that the manifest
announces, so that a move that was interrupted is completed by the next run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Final

from datasetkit.core.disk_sync import make_folders, sync_folders
from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.files import (
    display,
    file_sha256,
    patiently,
    refuse_link,
    write_atomic,
    writing,
)
from trainer.files import run_lock, run_manifest
from trainer.files.run_manifest import PREVIEWS, PREVIOUS, RunFile, RunManifest, Status

# What a run that is resumed reads; without a manifest, no more than this is taken for its own.
_CONTINUED: Final = ("state", "metrics", "validation", "best", "previews", "preview")
_VERSIONS: Final = ("datasetkit", "torch", "diffusers", "peft", "transformers", "safetensors")


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """An earlier run of the same name. files: what it wrote and is still there, the manifest
    last; to: the folder that a run without --resume moves them to.
    """

    name: str
    started: str
    status: Status
    files: tuple[Path, ...]
    to: Path


def earlier_run(folder: Path, name: str) -> EarlierRun | None:
    """Return the run of this name whose manifest is in a folder, None without one. Raises
    InputError for a damaged manifest, and where its files could not be moved.
    """
    manifest = run_manifest.read(folder, name)
    if manifest is None:
        return None
    _require_folder(folder / PREVIOUS)
    names = [file.name for file in manifest.files if run_manifest.exists(folder, file)]
    names.append(run_manifest.manifest_name(name))
    to = manifest.moving_to or _free_folder(folder, manifest.started, names)
    return EarlierRun(
        name, manifest.started, manifest.status, tuple(folder / n for n in names), folder / to
    )


def _require_folder(folder: Path) -> None:
    """Raise InputError for a file or a link in the place of a folder."""
    refuse_link(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"{display(folder)} is a file; the files of earlier runs are moved to a folder of this "
            "name",
            hint="move it away, or set another output_dir",
        )


def _free_folder(folder: Path, started: str, names: Sequence[str]) -> str:
    """Return `previous/<time>` where none of the names is taken. started: of the run to move."""
    number, to = 1, f"{PREVIOUS}/{stamp(started)}"
    while any(os.path.lexists(folder / to / name) for name in names):
        number += 1
        to = f"{PREVIOUS}/{stamp(started)}-{number}"
    return to


def stamp(started: str) -> str:
    """Return a time as part of a file name."""
    return started.translate({ord(char): None for char in "-:"})


def require_own(folder: Path, name: str, *, resume: bool = False) -> None:
    """Raise InputError if files in a folder have names of this run's files, and no run of its name
    listed them; or if a run of another name there gives names to its files that are this run's.
    resume: states in a folder without a manifest are those of the run to be resumed.
    """
    manifest = run_manifest.read(folder, name)
    refuse_link(folder / PREVIEWS)
    _require_own_names(folder, name)
    owned = manifest.files if manifest else ()
    if resume and manifest is None:
        owned = tuple(f for f in run_manifest.own_files(folder, name) if f.kind in _CONTINUED)
    foreign = run_manifest.unlisted(folder, name, owned)
    if resume and manifest is not None:  # written before: the run does not come there again
        foreign = [file for file in foreign if file not in manifest.kept]
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        names = ", ".join(display(file) for file in foreign[1:4])
        raise InputError(
            f"dsk did not write {display(folder / foreign[0])}{more}, and does not replace it",
            hint="set another output_name or output_dir, or move "
            + ("that file away" if not names else f"these files away (also {names}...)"),
        )


def _require_own_names(folder: Path, name: str) -> None:
    others = sorted({*run_manifest.names(folder), *run_lock.held_names(folder)} - {name})
    ignores_case = bool(others) and run_manifest.ignores_case(folder)
    for other in others:
        if run_manifest.give_equal_names(name, other, ignores_case=ignores_case):
            raise InputError(
                f"{display(folder)} has a run {display(other)}: it and {display(name)} may give "
                "files the same name",
                hint="set another output_name or output_dir",
            )


def rejected_names(folder: Path, name: str) -> str | None:
    """Return what to say of names in a manifest that are not those of the run's files, None without
    any.
    """
    manifest = run_manifest.read(folder, name)
    if manifest is None or not manifest.rejected:
        return None
    more = f" and {len(manifest.rejected) - 1:,} more" if len(manifest.rejected) > 1 else ""
    return (
        f"{display(folder / run_manifest.manifest_name(name))} lists "
        f"{display(manifest.rejected[0])}{more}: not a file of this run, and left alone"
    )


def written_later(folder: Path, name: str, step: int) -> tuple[RunFile, ...]:
    """Return the LoRA files and preview images that a run wrote after a step: a run that goes on
    from there, perhaps with another LR schedule, writes others. Raises InputError.
    """
    kinds = ("lora", "failed lora", "preview")
    return tuple(
        file
        for file in run_manifest.own_files(folder, name)
        if file.kind in kinds and file.step is not None and file.step > step
        if "-best." not in file.name.removeprefix(name)  # says itself of which step it is
    )


# ---- moves


def complete_move(folder: Path, name: str) -> None:
    """Complete a move of this run's files that was interrupted. Needs the run's lock."""
    manifest = run_manifest.read(folder, name)
    if manifest is None:
        return
    if manifest.moving_to is not None:
        _move_away(folder, manifest, manifest.moving_to)
    elif manifest.moving_from is not None:
        _move_back(folder, manifest, manifest.moving_from)


def move_to_previous(folder: Path, name: str) -> EarlierRun | None:
    """Move the files of an earlier run of this name to `previous/`; return it as it was. Needs the
    run's lock. Raises StorageError.
    """
    manifest, run = run_manifest.read(folder, name), earlier_run(folder, name)
    if manifest is None or run is None:
        return None
    _move_away(folder, manifest, run.to.relative_to(folder).as_posix())
    return run


def bring_back(folder: Path, name: str, previous: Path) -> None:
    """Move the files of an earlier run back from its folder below `previous/`; those of a later run
    that are in the way are moved there. Needs the run's lock. Raises InputError, PlanConflict or
    StorageError.
    """
    manifest = run_manifest.read(previous, name)
    if manifest is None:
        raise InputError(f"{display(previous)} has no files of {display(name)}")
    move_to_previous(folder, name)
    _move_back(folder, manifest, previous.relative_to(folder).as_posix())


def _move_away(folder: Path, manifest: RunManifest, to: str) -> None:
    target = folder / to
    for place in (folder / PREVIOUS, target, target / PREVIEWS):
        _require_folder(place)
    listing = run_manifest.manifest_name(manifest.name)
    _require_free((*manifest.files, RunFile(listing, "manifest")), folder, target)
    run_manifest.write(folder, replace(manifest, moving_to=to))
    _rename(manifest.files, folder, target)
    with writing(target):
        # The move ends with it.
        patiently(os.rename, folder / listing, target / listing)
        sync_folders((target, folder))


def _move_back(folder: Path, manifest: RunManifest, source: str) -> None:
    previous = folder / source
    for link in (folder / PREVIOUS, previous, folder / PREVIEWS):
        refuse_link(link)
    _require_free(manifest.files, previous, folder)
    moving = replace(manifest, moving_to=None, moving_from=source)
    run_manifest.write(folder, moving)
    _rename(manifest.files, previous, folder)
    run_manifest.write(folder, replace(moving, moving_from=None))
    with writing(previous):
        (previous / run_manifest.manifest_name(manifest.name)).unlink(missing_ok=True)
    with suppress(OSError):  # other runs may have files there
        for emptied in (previous / PREVIEWS, previous, folder / PREVIOUS):
            if emptied.is_dir():
                emptied.rmdir()


def _require_free(files: Iterable[RunFile], source: Path, target: Path) -> None:
    """Raise PlanConflict if the target has the name of a file that would be moved there."""
    for file in files:
        if run_manifest.exists(source, file) and os.path.lexists(target / file.name):
            raise PlanConflict(
                f"{display(target / file.name)} exists already, and is not replaced",
                hint="move it away, and run the command again",
            )


def _rename(files: Iterable[RunFile], source: Path, target: Path) -> None:
    """Rename those files that are in `source`."""
    present = [file for file in files if run_manifest.exists(source, file)]
    folders = {(target / file.name).parent for file in present} | {target}
    with writing(target):
        for folder in sorted(folders):
            make_folders(folder)
        for file in present:
            patiently(os.rename, source / file.name, target / file.name)  # never copied
        sync_folders([*folders, source, source / PREVIEWS])


def previous_folders(folder: Path, name: str) -> list[Path]:
    """Return the folders below `previous/` with a manifest of this name, the newest run first. A
    damaged manifest counts as the oldest.
    """
    previous = folder / PREVIOUS
    if previous.is_symlink() or not previous.is_dir():
        return []
    listing = run_manifest.manifest_name(name)
    folders = [p for p in previous.iterdir() if not p.is_symlink() and (p / listing).is_file()]

    def age(path: Path) -> tuple[str, int, str]:
        number = path.name.rpartition("-")[2]  # of runs that started in the same second
        with suppress(InputError):
            manifest = run_manifest.read(path, name)
            if manifest is not None:
                return manifest.started, int(number) if number.isdecimal() else 0, path.name
        return "", 0, path.name

    return sorted(folders, key=age, reverse=True)


# ---- the files of the run that is going on

# Gives the path to write a file of a run to, which is this run's own afterwards.
Replacing = Callable[[str], AbstractContextManager[Path]]


def unchecked(folder: Path) -> Replacing:
    """Write files to a folder under their usual names."""
    return lambda name: nullcontext(folder / name)


class RunFiles:
    """The files of the run that is going on. Each is listed before it is written, so that after a
    kill none is there that no manifest lists.

    What the run did not write is never replaced: a file gets another name, with one warning.
    """

    def __init__(
        self, folder: Path, manifest: RunManifest, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self.name = folder, manifest.name
        self._manifest, self._warn = manifest, warn
        self._files = {file.name: file for file in manifest.files}
        # What this run has written -> its hash; None for a state, what was there at the start, and
        # what was not written here.
        present = (f.name for f in manifest.files if run_manifest.exists(folder, f))
        self._own: dict[str, str | None] = dict.fromkeys(present)
        self._other_names: dict[str, str] = {}

    @property
    def started(self) -> str:
        """Return when the run started, before any pause."""
        return self._manifest.started

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return the options, the plan and the versions of the run."""
        return self._manifest.facts

    @classmethod
    def start(
        cls,
        folder: Path,
        name: str,
        started: str,
        facts: Mapping[str, Any] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> RunFiles:
        """Begin a manifest, or go on with the one that is there: of a run that is resumed. warn:
        says that a file gets another name. Raises InputError, StorageError.
        """
        manifest = run_manifest.read(folder, name)
        if manifest is None:  # states that were copied here are resumed without one
            adopted = (f for f in run_manifest.own_files(folder, name) if f.kind in _CONTINUED)
            manifest = RunManifest(
                name, started, files=tuple(_with_hash(folder, file) for file in adopted)
            )
        running = replace(manifest, status="running", ended=None, facts=facts or {})
        files = cls(folder, running, warn)
        files._write()
        return files

    def add(self, *files: RunFile) -> None:
        """List files that are going to be written. Raises StorageError."""
        new = {file.name: file for file in files}
        if any(self._files.get(name) != file for name, file in new.items()):
            self._files |= new
            self._write()

    def write(
        self,
        name: str,
        kind: str,
        data: bytes,
        *,
        step: int | None = None,
        epoch: int | None = None,
    ) -> Path:
        """List a file and write it, completely or not at all; return its path."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = self.claim(name)
        self.add(RunFile(name, kind, step, epoch, len(data), sha256))
        path = self.folder / name
        write_atomic(path, data)
        self._own[name] = sha256
        return path

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Give the path to write a listed file to, which may be written again later. Raises
        StorageError.
        """
        name = self.claim(name)
        yield self.folder / name
        path = self.folder / name
        self._own[name] = file_sha256(path) if path.is_file() else None

    def claim(self, name: str) -> str:
        """Return the name under which a file can be written: another one, if something that this
        run did not write, or that somebody has changed since, has its name. Raises StorageError.

        What appears between this and the write is replaced: no rename that works on all file
        systems refuses to.
        """
        current = self._other_names.get(name, name)
        if not os.path.lexists(self.folder / current) or self._is_own(current):
            self._own.setdefault(current, None)
            return current
        mark, number = stamp(self.started), 1
        other = run_manifest.marked(self.name, name, mark)
        while os.path.lexists(self.folder / other):
            number += 1
            other = run_manifest.marked(self.name, name, f"{mark}-{number}")
        self._other_names[name] = other
        self._own[other] = None
        if current in self._own:
            self._keep(current)
        if current in self._files:
            self._files[other] = replace(self._files.pop(current), name=other)
            self._write()
        self._warn(
            f"{display(self.folder / current)} was not written by this run, and is not replaced: "
            f"saved as {display(other)}"
        )
        return other

    def path(self, name: str) -> Path:
        """Return the path of a file by its usual name."""
        return self.folder / self._other_names.get(name, name)

    def _is_own(self, name: str) -> bool:
        if name not in self._own:
            return False
        path, sha256 = self.folder / name, self._own[name]
        with suppress(OSError):
            return sha256 is None or (not path.is_symlink() and file_sha256(path) == sha256)
        return False

    def _keep(self, name: str) -> None:
        """No longer count a file that somebody has changed as one of this run."""
        self._own.pop(name, None)
        kept = dict.fromkeys((*self._manifest.kept, name))
        self._manifest = replace(self._manifest, kept=tuple(kept))

    def listed(self, kind: str) -> list[RunFile]:
        """Return the files of a kind that exist, in the order of their names."""
        files = [file for file in self._files.values() if file.kind == kind]
        return sorted(
            (file for file in files if run_manifest.exists(self.folder, file)),
            key=lambda file: file.name,
        )

    def delete(
        self, files: Sequence[RunFile], discard: Callable[[Path], None] = Path.unlink
    ) -> None:
        """Delete files of this run; one that somebody has changed since is kept, and no longer
        listed. Raises StorageError.
        """
        for file in files:
            path = self.folder / file.name
            if run_manifest.exists(self.folder, file) and self._unchanged(file):
                with writing(path):
                    discard(path)
            if run_manifest.exists(self.folder, file):
                self._keep(file.name)
            self._own.pop(file.name, None)
            del self._files[file.name]
        if files:
            self._write()

    def set_aside(self, files: Sequence[RunFile]) -> Path:
        """Move files of this run to a folder of their own below `previous/`; return it. Raises
        InputError, StorageError.
        """
        names = [file.name for file in files]
        target = self.folder / _free_folder(self.folder, self.started, names)
        for place in (self.folder / PREVIOUS, target, target / PREVIEWS):
            _require_folder(place)
        _rename(files, self.folder, target)
        for name in names:
            self._own.pop(name, None)
            del self._files[name]
        self._write()
        return target

    def rename(self, old: str, new: RunFile) -> Path:
        """Give a file of this run another name, over an older file of that name; return its path.
        Raises StorageError.
        """
        before = self._files[old]
        new = replace(new, name=self.claim(new.name))
        self.add(replace(new, size=before.size, sha256=before.sha256))
        with writing(self.folder / new.name):
            patiently(Path.replace, self.folder / old, self.folder / new.name)
            sync_folders([self.folder])
        self._own[new.name] = self._own.pop(old, None)
        del self._files[old]
        self._write()
        return self.folder / new.name

    def end(self, status: Status, ended: str) -> None:
        """Record how the run ended, with the hashes of files that changed until now."""
        present = [
            file
            for file in self._files.values()
            if run_manifest.exists(self.folder, file)
            if file.name in self._own or file.kind == "state"  # else it has appeared
        ]
        self._files = {file.name: _with_hash(self.folder, file) for file in present}
        self._manifest = replace(self._manifest, status=status, ended=ended)
        self._write()

    def _unchanged(self, file: RunFile) -> bool:
        return file.kind == "state" or file.sha256 == file_sha256(self.folder / file.name)

    def _write(self) -> None:
        self._manifest = replace(self._manifest, files=tuple(self._files.values()))
        run_manifest.write(self.folder, self._manifest)


def _with_hash(folder: Path, file: RunFile) -> RunFile:
    if file.sha256 is not None or file.kind == "state":
        return file
    path = folder / file.name
    return replace(file, size=path.stat().st_size, sha256=file_sha256(path))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run computes."""
    numbers = {"python": python_version()}
    for package in _VERSIONS:
        with suppress(PackageNotFoundError):
            numbers[package] = version(package)
    return numbers
