"""The training states in an output folder: their names, which one is the newest, which are kept.

States after a saved LoRA are `<name>-state-<step>`; the newest two are kept. The one that was saved
by the clock, or when the run was stopped, is `<name>-state-pause-<step>`; there is at most one.
Needs no torch: a plan reads them, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.core.disk_sync import sync_folder
from datasetkit.core.errors import InputError
from datasetkit.core.file_kinds import is_system_file
from datasetkit.core.files import display, file_sha256, patiently, write_new, writing
from datasetkit.core.progress import SILENT, Reporter
from trainer.files import run_files, run_manifest
from trainer.files.run_files import RunFiles
from trainer.files.run_lock import STAGE
from trainer.files.run_manifest import RunFile

VERSION: Final = 4
KEPT: Final = 2
LORA, OPTIMIZER, STATE = "lora.safetensors", "optimizer.safetensors", "state.json"
AVERAGE: Final = "average.safetensors"  # only with ema_decay
_PAUSE: Final = "pause-"
_MANIFEST: Final = "manifest.json"
_STATE_NAME: Final = re.compile(
    r"(?P<run>.+)-state-(?P<pause>pause-)?(?P<step>[0-9]{8,})(-[0-9]{8}T[0-9]{6}Z(-[0-9]+)?)?",
    re.DOTALL,
)
_FILES: Final = frozenset({LORA, OPTIMIZER, STATE, AVERAGE, _MANIFEST})


@dataclass(frozen=True, slots=True)
class TrainingState:
    """A complete state. step: optimizer steps taken; facts: see `plan.resume`; threads: the CPU
    threads of the run, which change the order of sums.
    """

    folder: Path
    step: int
    facts: Mapping[str, Any]
    threads: int


def write(files: RunFiles, step: int, contents: Mapping[str, bytes], *, pause: bool) -> Path:
    """Write a state, completely or not at all, then delete those that it replaces; return its
    folder. Raises StorageError.

    Those are pause states, states of later steps, which are damaged, for this run will reach those
    steps again, and all but the newest KEPT. pause: it is saved by the clock, or for a stop.
    """
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in contents.items()}
    manifest = json.dumps(hashes).encode("utf-8")
    usual = f"{files.name}-state-{_PAUSE if pause else ''}{step:08d}"
    target = files.folder / files.claim(usual)
    size = sum(map(len, contents.values())) + len(manifest)
    sha256 = hashlib.sha256(manifest).hexdigest()
    files.add(RunFile(target.name, "state", step, size=size, sha256=sha256))
    _write(files.folder, target, {**contents, _MANIFEST: manifest})
    replaced = [
        file
        for file in files.listed("state")
        if file.name != target.name and (_is_pause(file.name) or _step(file.name) > step)
    ]
    files.delete(replaced, _discard)
    prune(files)
    return target


def _write(folder: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    stage = _stage(folder)
    with writing(target):
        stage.mkdir()
        try:
            for file, data in contents.items():
                write_new(stage / file, data, sync=True)
            if target.exists():  # from a run that resumed an older state
                _discard(target)
            sync_folder(stage)
            patiently(os.rename, stage, target)  # the state appears with this rename
            sync_folder(folder)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def prune(files: RunFiles) -> None:
    """Delete all states of a run but the newest ones; a kill may have prevented that before. Raises
    StorageError.
    """
    states = sorted(files.listed("state"), key=lambda file: _step(file.name), reverse=True)
    pauses = [file for file in states if _is_pause(file.name)]
    others = [file for file in states if not _is_pause(file.name)]
    files.delete([*pauses[1:], *others[KEPT:]], _discard)


def discard_pauses(files: RunFiles) -> None:
    """Delete the pause states of a run that has ended. Raises StorageError."""
    files.delete([file for file in files.listed("state") if _is_pause(file.name)], _discard)


def _discard(state: Path) -> None:
    """Delete a state, unless something else is in its folder. It is renamed first, so that a kill
    leaves no incomplete state behind. Raises StorageError.
    """
    names = {path.name for path in state.iterdir()} - _FILES
    if not all(map(is_system_file, names)):
        return
    stage = _stage(state.parent)
    with writing(state):
        patiently(os.rename, state, stage)  # as above
        shutil.rmtree(stage)


def _stage(folder: Path) -> Path:
    return folder / f"{STAGE}{uuid.uuid4().hex[:12]}"


def newest(folder: Path, name: str, reporter: Reporter = SILENT) -> TrainingState | None:
    """Return the newest complete state of a run, None without any. A damaged one is passed over
    with a warning; raises InputError if there are only damaged ones.
    """
    states = _state_folders(folder, name)
    damages: list[InputError] = []
    for path in states:
        try:
            state = read(path)
        except InputError as error:
            damages.append(error)
            continue
        for damage in damages:
            reporter.warn(f"{damage.message}; {display(path.name)} is used")
        return state
    if not damages:
        return None
    raise InputError(
        damages[0].message
        if len(damages) == 1
        else f"all {len(damages)} training states of {display(name)} are damaged: "
        f"{damages[0].message}",
        hint="no state can be resumed: start over without --resume",
    )


def newest_of_previous(
    folder: Path, name: str, reporter: Reporter = SILENT
) -> TrainingState | None:
    """Return the newest complete state of the runs of this name below `previous/`, None without
    any.
    """
    for previous in run_files.previous_folders(folder, name):
        try:
            state = newest(previous, name, reporter)
        except InputError as error:  # a damaged manifest, or only damaged states
            reporter.warn(error.message)
            continue
        if state is not None:
            return state
    return None


def names(folder: Path) -> list[str]:
    """Return the names of the runs that have a state in a folder."""
    if not folder.is_dir():
        return []
    matches = (_STATE_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return sorted({match["run"] for match in matches if match})


def read(folder: Path) -> TrainingState:
    """Check a state's files against its manifest. Raises InputError."""
    try:
        manifest = _read_json(folder / _MANIFEST)
        if set(manifest) - {AVERAGE} != {LORA, OPTIMIZER, STATE}:
            raise ValueError("files are missing")
        broken = [file for file, sha in manifest.items() if file_sha256(folder / file) != sha]
        if broken:
            raise ValueError(", ".join(broken))
        state = _read_json(folder / STATE)
        if state["version"] == VERSION:
            return TrainingState(
                folder, int(state["step"]), dict(state["facts"]), int(state["threads"])
            )
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        reason: object = error
        if isinstance(error, OSError):
            reason = f"{Path(error.filename or folder).name}: {error.strerror}"
        raise InputError(
            f"the training state {display(folder.name)} is damaged ({reason})",
            hint="resume an older one",
        ) from error
    raise InputError(
        f"the training state {display(folder.name)} has another version",
        hint="train without --resume",
    )


def _state_folders(folder: Path, name: str) -> list[Path]:
    """Return the state folders of a run, the newest first."""
    states = run_manifest.state_folders(folder, name)
    return sorted(states, key=lambda state: _step(state.name), reverse=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(path.name) from error


def _is_pause(state: str) -> bool:
    return _number(state)["pause"] is not None


def _step(state: str) -> int:
    return int(_number(state)["step"])


def _number(state: str) -> re.Match[str]:
    """Return the match of a state's name: its run, whether it is a pause, its step."""
    match = _STATE_NAME.fullmatch(state)
    assert match is not None, state
    return match
